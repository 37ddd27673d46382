"""Files of pictures as arrays of pixels, and pictures of pictures: grids and captioned sheets.

Ground floor: reads what this project wrote itself; a stranger's bytes are the faces room's.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pttfaces import files
from pttfaces.errors import DataError

_GAP = 2
_BACKGROUND, _INK = (24, 24, 27), (228, 228, 231)


def grid(images: np.ndarray, columns: int | None = None, scale: int = 1) -> Image.Image:
    """Tiles images, row by row, with a small gap.

    images: (N, H, W, 3) uint8, N ≥ 1; columns: the nearest to a square by default; scale: each
    pixel is drawn as scale × scale.
    """
    count, height, width, _ = images.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    step_x, step_y = width * scale + _GAP, height * scale + _GAP
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), _BACKGROUND)
    for index, pixels in enumerate(images):
        tile = Image.fromarray(pixels)
        if scale > 1:
            tile = tile.resize((width * scale, height * scale), Image.Resampling.NEAREST)
        sheet.paste(tile, (_GAP + index % columns * step_x, _GAP + index // columns * step_y))
    return sheet


def sheet(sections: Sequence[tuple[str, np.ndarray]], columns: int) -> Image.Image:
    """Grids under one another, each under its caption.

    sections: (caption, images (N, H, W, 3) uint8); a section with N = 0 shows its caption only.
    """
    font = ImageFont.load_default(size=15)
    line = 26
    parts: list[Image.Image] = []
    for caption, images in sections:
        tiles = grid(images, columns) if len(images) else Image.new("RGB", (1, 1))
        width = max(tiles.width, int(font.getlength(caption)) + 12)
        part = Image.new("RGB", (width, line + tiles.height), _BACKGROUND)
        ImageDraw.Draw(part).text((6, 4), caption, font=font, fill=_INK)
        part.paste(tiles, (0, line))
        parts.append(part)
    whole = Image.new(
        "RGB", (max(p.width for p in parts), sum(p.height for p in parts)), _BACKGROUND
    )
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def read_rgb(
    paths: Sequence[str | Path],
    size: tuple[int, int] | None = None,
    remedy: str = "make it anew, or remove it",
) -> np.ndarray:
    """Decodes pictures of one size into (N, H, W, 3) uint8, in the order of `paths`.

    size: (width, height) in pixels that all must have; by default the first one's (1×1 if there is
    none). remedy: what to do about one of another size, as the end of a sentence.
    DataError: a file that cannot be decoded, or a picture of another size.
    """
    if size is None:
        size = read_size(paths[0]) if paths else (1, 1)
    width, height = size
    pixels = np.empty((len(paths), height, width, 3), np.uint8)
    for row, path in zip(pixels, paths, strict=True):
        image = read_image(path)
        if image.size != size:
            raise DataError(
                f"{path} is {image.width}×{image.height} pixels, expected are {width}×{height}; "
                f"{remedy}."
            )
        row[:] = np.asarray(image)
    return pixels


def read_image(path: str | Path) -> Image.Image:
    """The picture decoded, RGB; DataError: it cannot be decoded."""
    with _opened(path) as image:
        return image.convert("RGB")


def read_size(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels, from the file's header; DataError: it cannot be decoded."""
    with _opened(path) as image:
        return image.size


def read_bytes(path: str | Path) -> bytes:
    """A picture's file; DataError: it is not there."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise _gone(path) from None


def _gone(path: str | Path) -> DataError:
    return DataError(f"{path} is not there any more; `dvc repro` makes anew what is missing.")


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise _gone(path) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} cannot be decoded ({error}); make it anew, or remove it."
        ) from None


def save_png(path: str | Path, image: Image.Image) -> None:
    """Writes a PNG, atomically."""
    files.write_bytes(path, png_bytes(image))


def png_bytes(image: Image.Image, level: int = 6) -> bytes:
    """The picture as a PNG file's bytes. level: of compression, 0…9, the fastest first."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()
