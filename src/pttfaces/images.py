"""Decodes and writes images: untrusted bytes within limits, the project's own PNG files, and grids.

`decode` is for bytes from outside: few formats, upright, and a short reason for what is broken. The
`read_*` functions are for files that a stage or a person made: a broken one is an error.
"""

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

# Pillow's other readers never see untrusted bytes. MPO, which some phones write, is read as the
# JPEG that it begins with.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF")
# Download decides which large images are kept. Pillow still refuses twice its limit, for bytes
# whose headers hide their size.
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

_GAP = 2  # pixels between the tiles of a grid
_BACKGROUND, _TEXT = (24, 24, 27), (228, 228, 231)
_CAPTION_HEIGHT, _FONT_SIZE = 26, 15  # pixels


class UnreadableError(DataError):
    """The bytes are no image, or too broken for one; the text is a short reason."""


def decode(content: bytes) -> np.ndarray:
    """Pixels of an untrusted image file: (H, W, 3) uint8 RGB.

    EXIF orientation is applied; of an animation the first frame is taken; transparency is laid on
    white; CMYK, grey, palettes and 16 bits become 8-bit RGB. A JPEG whose end is missing is read
    as far as it goes: download decides whether such files are kept.

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
        return image  # a broken EXIF block has no orientation


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
        return "not a picture"  # the word of version 0.1, whose caches and tables have it
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    if "truncated" in str(error):
        return "truncated"
    return "broken"


def read_rgb(
    paths: Sequence[str | Path],
    size: tuple[int, int] | None = None,
    remedy: str = "make it again, or remove it",
) -> np.ndarray:
    """Reads image files of one size into (N, H, W, 3) uint8, in the order of `paths`.

    size: (width, height) in pixels that all must have; by default the first one's (1×1 if there is
    none). remedy: what to do about one of another size, as the end of a sentence.
    DataError: a file that cannot be decoded, or an image of another size.
    """
    if size is None:
        size = read_size(paths[0]) if paths else (1, 1)
    width, height = size
    pixels = np.empty((len(paths), height, width, 3), np.uint8)
    for row, path in zip(pixels, paths, strict=True):
        image = read_image(path)
        if image.size != size:
            raise DataError(
                f"{path} is {image.width}×{image.height} pixels, expected {width}×{height}; "
                f"{remedy}."
            )
        row[:] = np.asarray(image)
    return pixels


def read_image(path: str | Path) -> Image.Image:
    """An image file, decoded to RGB; DataError: it cannot be decoded, or does not exist."""
    with _open(path) as image:
        return image.convert("RGB")


def read_size(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels, from a file's header; DataError as `read_image`."""
    with _open(path) as image:
        return image.size


def read_bytes(path: str | Path) -> bytes:
    """The bytes of an image file; DataError: it does not exist."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None


@contextmanager
def _open(path: str | Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise _missing(path) from None
    except _BROKEN as error:
        raise DataError(
            f"{path} cannot be decoded ({error}); make it again, or remove it."
        ) from None


def _missing(path: str | Path) -> DataError:
    return DataError(f"{path} does not exist any more; run `dvc repro` to restore it.")


def save_png(path: str | Path, image: Image.Image) -> None:
    """Writes a PNG, atomically."""
    files.write_bytes(path, png_bytes(image))


def png_bytes(image: Image.Image, level: int = 6) -> bytes:
    """The image as a PNG file's bytes. level: of compression, 0 (fastest) … 9."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def grid(images: np.ndarray, columns: int | None = None, scale: int = 1) -> Image.Image:
    """Tiles images, row by row, with a small gap.

    images: (N, H, W, 3) uint8, N ≥ 1; columns: by default for a grid that is nearly square; scale:
    each pixel is drawn as scale × scale.
    """
    count, height, width, _ = images.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    step_x, step_y = width * scale + _GAP, height * scale + _GAP
    whole = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), _BACKGROUND)
    for index, pixels in enumerate(images):
        tile = Image.fromarray(pixels)
        if scale > 1:
            tile = tile.resize((width * scale, height * scale), Image.Resampling.NEAREST)
        whole.paste(tile, (_GAP + index % columns * step_x, _GAP + index // columns * step_y))
    return whole


def sheet(sections: Sequence[tuple[str, np.ndarray]], columns: int) -> Image.Image:
    """Grids below each other, each under its caption.

    sections: (caption, images (N, H, W, 3) uint8); a section with N = 0 shows its caption only.
    """
    font = ImageFont.load_default(size=_FONT_SIZE)
    parts: list[Image.Image] = []
    for caption, images in sections:
        tiles = grid(images, columns) if len(images) else Image.new("RGB", (1, 1))
        width = max(tiles.width, int(font.getlength(caption)) + 12)
        part = Image.new("RGB", (width, _CAPTION_HEIGHT + tiles.height), _BACKGROUND)
        ImageDraw.Draw(part).text((6, 4), caption, font=font, fill=_TEXT)
        part.paste(tiles, (0, _CAPTION_HEIGHT))
        parts.append(part)
    size = max(part.width for part in parts), sum(part.height for part in parts)
    whole = Image.new("RGB", size, _BACKGROUND)
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole
