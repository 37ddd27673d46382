"""Identifies an image file by its bytes: format and size by Pillow, and whether it is whole.

JPEG, PNG, GIF, WebP and AVIF, and HEIC where `make heic` has installed its decoder. No pixel is
decoded, but of a JPEG without an end. The bytes are untrusted: what Pillow and the checks of
`truncation` read of a large file is bounded.
"""

import hashlib
import io
import os
import warnings
from contextlib import suppress
from functools import cache
from typing import IO, Any, cast

# Each of these imports registers a format; Image.open would import the other forty as well.
from PIL import (
    AvifImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from pttfaces.download.result import EMPTY, FORMAT_EXTENSIONS, PAGE, ImageInfo, RejectedError
from pttfaces.download.truncation import is_whole

warnings.filterwarnings("ignore", module=r"PIL\.")  # of broken metadata

HEAD_BYTES = 64  # bytes that `image_format` needs
# Pillow would parse the header of a large crafted file for minutes; an honest one needs less.
_SMALL_BYTES = 2**20
_MAX_HEADER_READS, _MAX_HEADER_BYTES = 100_000, 2**24
_BY_PILLOW = [name for name in FORMAT_EXTENSIONS if name != "HEIF"]
HEIC_WITHOUT_DECODER = "HEIC, which `make heic` installs a decoder for"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_SIGNATURES = (
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"BM", "BMP"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"\x1aE\xdf\xa3", "Matroska or WebM video"),
    (b"FLV\x01", "Flash video"),
    (b"OggS", "Ogg video or audio"),
    (b"0&\xb2u\x8ef\xcf\x11", "Windows Media video"),
    (b"\0\0\x01\xba", "MPEG video"),
    (b"\0\0\x01\xb3", "MPEG video"),
)
_MAX_READS = 1_000_000  # to find the end, and every byte at most


def image_format(head: bytes) -> str:
    """The format that the first HEAD_BYTES of a file announce, as Pillow calls it.

    RejectedError: not a supported format.
    """
    for name in _BY_PILLOW:
        _, accepts = Image.OPEN[name]
        # AVIF's plugin also accepts other files in its container.
        if accepts and accepts(head) and (name != "AVIF" or _other_format(head) != "HEIC"):
            return name
    other = _other_format(head)
    if other != "HEIC":
        raise RejectedError("not_an_image", other)
    if not can_read_heic():
        raise RejectedError("not_an_image", HEIC_WITHOUT_DECODER)
    return "HEIF"


@cache
def can_read_heic() -> bool:
    """Whether the optional decoder of HEIC is installed."""
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
        return True
    return False


def identify(file: IO[bytes]) -> ImageInfo:
    """What an image file is; RejectedError says why it is not one.

    Width and height are 0 where the file is cut before Pillow finds them.
    """
    file.seek(0)
    name = image_format(file.read(HEAD_BYTES))
    size = file.seek(0, os.SEEK_END)
    header = blocks = file
    if size > _SMALL_BYTES:
        header = cast("IO[bytes]", _BoundedReader(file, _MAX_HEADER_READS, _MAX_HEADER_BYTES))
        blocks = cast("IO[bytes]", _BoundedReader(file, _MAX_READS, size))
    width = height = 0
    try:
        width, height = _read_size(name, header)
        whole = is_whole(name, blocks)
    except RejectedError:
        raise
    except Image.DecompressionBombError:
        raise RejectedError("too_large", "more pixels than Pillow opens") from None
    except Exception:  # whatever a parser of untrusted bytes may raise
        whole = False
        if is_whole(name, blocks):
            raise RejectedError("not_an_image", f"a broken {name}") from None
    file.seek(0)
    digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    return ImageInfo(digest, size, name, width, height, whole)


def _read_size(name: str, file: IO[bytes]) -> tuple[int, int]:
    """(width, height) in pixels, from the header.

    The reader is called directly: Image.open refuses large images without giving their size, which
    the ledger has and `apply_limits` judges.
    """
    file.seek(0)
    if name == "HEIF":
        file = io.BytesIO(file.read())  # its reader wants all bytes
    reader, _ = Image.OPEN[name]
    return reader(file, "").size


class _BoundedReader:
    """A file that may be read so often and so far; RejectedError after that.

    Reading all at once, as Pillow does where a library in C parses, is not bounded.
    """

    def __init__(self, file: IO[bytes], max_reads: int, max_bytes: int) -> None:
        self.seek, self.tell = file.seek, file.tell
        self._read, self._reads_left, self._bytes_left = file.read, max_reads, max_bytes

    def read(self, size: int = -1) -> bytes:
        self._reads_left -= 1
        self._bytes_left -= size
        if self._reads_left < 0 or self._bytes_left < 0:
            raise RejectedError("not_an_image", "an image in too many pieces")
        return self._read(size)


def _other_format(head: bytes) -> str:
    """What bytes are that are in none of the supported formats."""
    if head[4:8] == b"ftyp":  # ISO 14496-12: a major brand, a version, compatible brands
        brands = head[8:HEAD_BYTES]
        if b"avif" not in brands and any(brand in brands for brand in _HEIC_BRANDS):
            return "HEIC"
        return "QuickTime video" if brands.startswith(b"qt  ") else "MP4 video"
    if head.startswith(b"RIFF"):
        return "AVI video" if head[8:12] == b"AVI " else "unknown bytes"
    for start, name in _SIGNATURES:
        if head.startswith(start):
            return name
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return PAGE
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg")):
        return "SVG or other XML"
    return "unknown bytes" if head else EMPTY
