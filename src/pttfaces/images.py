"""Images in and out: decoding untrusted bytes, reading our own PNG files, grids and sheets."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from pttfaces import files
from pttfaces.errors import DataError

# Pillow's other readers are never offered a stranger's bytes. MPO, what some phones write, is read
# as the JPEG that it begins with.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF")
# Which large pictures are kept is decided where they are fetched. Pillow's refusal at twice its
# limit stays, against bytes whose headers hide their size.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# What Pillow's readers raise on broken bytes.
_BROKEN: tuple[type[Exception], ...] = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    EOFError,
    IndexError,
    struct.error,
    TypeError,
    ZeroDivisionError,
    OverflowError,
    zlib.error,
    Image.DecompressionBombError,
)


class UnreadableError(DataError):
    """The bytes are no picture, or too broken for one; the text is a short reason."""


def decode(content: bytes) -> np.ndarray:
    """Pixels of a picture file: (H, W, 3) uint8 RGB.

    EXIF orientation is applied; of an animation the first frame is taken; transparency is laid on
    white; CMYK, grey, palettes and 16 bits become 8-bit RGB. A JPEG whose end is missing is read
    as far as it goes: whether such files are kept is decided where they are fetched.

    Raises UnreadableError with a reason of a few words.
    """
    try:
        return _pixels(content)
    except _BROKEN as error:
        if content.startswith(_JPEG_START) and "truncated" in str(error):
            try:
                return _pixels(content + _JPEG_END)
            except _BROKEN:
                pass
        raise UnreadableError(_reason(error)) from None


def _pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        image.load()
        return np.asarray(_to_rgb(_upright(image)))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _BROKEN:
        return image  # a broken EXIF block says nothing about the orientation


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16 bits to 255 instead of scaling them.
        grey = np.clip(np.asarray(image.convert("I")) // 256, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(paper, layer).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    if "truncated" in str(error):
        return "truncated"
    return "broken"


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
