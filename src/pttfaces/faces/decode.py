"""Any picture of the web as RGB pixels that stand upright.

Knows file formats only; what is done with the pixels is not its business.
"""

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

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
