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
from PIL import ExifTags, Image, ImageCms, ImageDraw, ImageFont

from pttfaces import files
from pttfaces.errors import DataError

# Pillow's other readers never see untrusted bytes. MPO, which some phones write, is read as the
# JPEG that it begins with.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF")
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
_MAX_FRAMES = 64
_ONE_COLOUR = 8  # levels by which a frame of one colour may vary
_ORIENTATION = ExifTags.Base.Orientation
_TURNS = {  # EXIF 2.32, tag 274
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # mode → what ICC calls it
# Download decides which large images are kept. Pillow still refuses twice its limit, for bytes
# whose headers hide their size.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# What Pillow's readers raise on broken bytes.
_BROKEN: tuple[type[Exception], ...] = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, RuntimeError, LookupError),
    *(ArithmeticError, struct.error, zlib.error, Image.DecompressionBombError),
)
_BROKEN_PROFILE: tuple[type[Exception], ...] = (*_BROKEN, ImageCms.PyCMSError)

_GAP = 2  # pixels between the tiles of a grid
_BACKGROUND, _TEXT = (24, 24, 27), (228, 228, 231)
_CAPTION_HEIGHT, _FONT_SIZE = 26, 15  # pixels


class UnreadableError(DataError):
    """The bytes are no image, or too broken for one; the text is a short reason."""


class NoDecoderError(UnreadableError):
    """The bytes are of a format whose decoder is not installed; the text says how to install it."""


def decode(content: bytes) -> np.ndarray:
    """Pixels of an untrusted image file: (H, W, 3) uint8 RGB, in sRGB.

    - Orientation is that in which browsers show the image: EXIF's in a JPEG; in a PNG that of an
      eXIf chunk before the image data (PNG, third edition; a text chunk with EXIF does not count);
      in AVIF and HEIC that of the boxes irot and imir (ISO/IEC 23008-12), whatever their EXIF says.
      WebP has none: Chromium and Firefox read no EXIF of it.
    - Of an animation the first frame that is not of one colour is taken, among the first
      _MAX_FRAMES; if there is none, the first.
    - An embedded ICC profile is applied. A broken one, or one of another kind of colour than the
      image's, is ignored.
    - Transparency is laid on white; CMYK, grey, palettes and 16 bits become 8-bit RGB.
    - A JPEG whose end is missing is read as far as it goes: download decides whether such files are
      kept.

    UnreadableError: a reason of a few words; NoDecoderError: HEIC without pillow-heif.
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
    is_heic = _is_heic(content)
    if is_heic:
        _register_heic()
    with Image.open(io.BytesIO(content), formats=("HEIF",) if is_heic else FORMATS) as image:
        # From the header: browsers read no metadata behind the image data.
        turn, profile = _TURNS.get(_orientation(image)), image.info.get("icc_profile")
        shown = _to_rgb(_shown_frame(image), profile)
        return np.asarray(shown if turn is None else shown.transpose(turn))


def _is_heic(content: bytes) -> bool:
    """Whether the file type box (ISO/IEC 14496-12) names a brand of HEIC, and none of AVIF."""
    if content[4:8] != b"ftyp":
        return False
    length = int.from_bytes(content[:4], "big")
    brands = {content[start : start + 4] for start in (8, *range(16, min(length, 256), 4))}
    return bool(brands & _HEIC_BRANDS) and not brands & {b"avif", b"avis"}


def _register_heic() -> None:
    try:
        import pillow_heif
    except ImportError:
        raise NoDecoderError("HEIC needs pillow-heif, which `make heic` installs") from None
    pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)


def _orientation(image: Image.Image) -> int:
    """The orientation as EXIF counts it, 1 to 8."""
    if image.format == "WEBP":
        return 1
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))  # for AVIF Pillow has put irot and imir there
        return int(exif.get(_ORIENTATION, 1))
    except _BROKEN:
        return 1  # a broken EXIF block has no orientation


def _shown_frame(image: Image.Image) -> Image.Image:
    """The image, at the frame that `decode` takes."""
    frames = getattr(image, "n_frames", 1) if image.format in _ANIMATED else 1
    for index in range(min(frames, _MAX_FRAMES)) if frames > 1 else ():
        try:
            image.seek(index)
            pixels = np.asarray(_to_rgb(image, None))
        except _BROKEN:
            break  # what follows a broken frame cannot be read
        if np.ptp(pixels, axis=(0, 1)).max() > _ONE_COLOUR:
            return image.copy()
    image.seek(0)
    image.load()
    return image


def _to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """In 8-bit sRGB, on white. profile: the ICC profile of its colours."""
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16 bits to 255 instead of scaling them.
        grey = np.clip(np.asarray(image.convert("I")) // 256, 0, 255).astype(np.uint8)
        return _to_srgb(Image.fromarray(grey), profile)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        colours = _to_srgb(image.convert("L") if image.mode == "LA" else layer, profile)
        paper = Image.new("RGB", layer.size, "white")
        paper.paste(colours, mask=layer.getchannel("A"))
        return paper
    return _to_srgb(image, profile)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image in 8-bit RGB without its transparency, its colours by their ICC profile."""
    if image.mode not in _PROFILE_SPACES:
        image = image.convert("RGB")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
            is_srgb = "sRGB" in (source.profile_description or "")
            if source.xcolor_space.strip() == _PROFILE_SPACES[image.mode] and not is_srgb:
                transform = ImageCms.buildTransform(
                    source, ImageCms.createProfile("sRGB"), image.mode, "RGB"
                )
                return ImageCms.applyTransform(image, transform) or image
        except _BROKEN_PROFILE:
            pass
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
