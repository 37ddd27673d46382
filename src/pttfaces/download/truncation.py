"""Tells whether the end of an image file is there, which Pillow's lazy opening does not.

Each check walks over a file's blocks to the format's own end, as leniently as decoders do: bytes
after the end are ignored.
"""

import io
import os
import struct
from typing import IO

from PIL import Image

_PIECE_BYTES = 2**16
_JPEG_END, _JPEG_SCAN = b"\xff\xd9", b"\xff\xda"
_FILLERS = (b"", b"\x55" * 64, b"\xaa\x3c" * 64, b"\x7f" * 64)  # bits that are no end of a block
_MAX_DECODED_PIXELS = 2**25  # 100 MB


def is_whole(name: str, file: IO[bytes]) -> bool:
    """Whether a file has its format's end. name: the format, as Pillow calls it.

    A JPEG is searched from where Pillow has stopped reading: behind the header, which may hold a
    preview with an end of its own.
    """
    try:
        return _CHECKS[name](file)
    except (IndexError, struct.error):  # the file ends within a block
        return False


def _jpeg_is_whole(file: IO[bytes]) -> bool:
    """ITU T.81, annex B: coded data holds no end marker, since its bytes 0xFF are stuffed.

    Without the marker, a file is whole if all its pixels are there.
    """
    start = file.tell()
    if file.seek(0, os.SEEK_END) >= start + len(_JPEG_END):
        file.seek(-len(_JPEG_END), os.SEEK_END)
        if file.read(len(_JPEG_END)) == _JPEG_END:
            return True
    file.seek(start)
    tail = b""
    while piece := file.read(_PIECE_BYTES):
        if _JPEG_END in tail + piece:
            return True
        tail = piece[-1:]
    file.seek(0)
    return _jpeg_has_all_pixels(file.read())


def _jpeg_has_all_pixels(content: bytes) -> bool:
    """Whether a JPEG without an end marker gives the same pixels whatever follows it.

    Decoders make up what is missing. A progressive one must also have come to its last scan.
    """
    content = content.rstrip(b"\xff")
    seen = set()
    try:
        if not _jpeg_has_last_scan(content):
            return False
        for filler in _FILLERS:
            with Image.open(io.BytesIO(content + filler + _JPEG_END), formats=["JPEG"]) as image:
                if image.width * image.height > _MAX_DECODED_PIXELS:
                    return False
                seen.add(hash(image.tobytes()))
    except Exception:  # whatever a decoder of untrusted bytes may raise
        return False
    return len(seen) == 1


def _jpeg_has_last_scan(content: bytes) -> bool:
    """ITU T.81, B.2.3 and G.1.1.1: whether scans give every bit of every coefficient.

    A scan's header names its components, its band of coefficients (0 to 63), and the lowest bit
    that it gives.
    """
    complete: dict[int, set[int]] = {}  # component → coefficients with all their bits
    at = content.find(_JPEG_SCAN)
    while at >= 0:
        count = content[at + 4]
        components = content[at + 5 : at + 5 + 2 * count : 2]
        first, last, bits = content[at + 5 + 2 * count : at + 8 + 2 * count]
        for component in components:
            band = range(first, last + 1) if not bits & 15 else range(0)
            complete.setdefault(component, set()).update(band)
        at = content.find(_JPEG_SCAN, at + 2)
    return bool(complete) and all(len(band) == 64 for band in complete.values())


def _png_is_whole(file: IO[bytes]) -> bool:
    """PNG 1.2, section 3: chunks of length, type, data and checksum, to IEND."""
    file.seek(8)
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", file.read(8))
        file.seek(length + 4, os.SEEK_CUR)
    return True


def _gif_is_whole(file: IO[bytes]) -> bool:
    """GIF89a: screen descriptor, then extensions and images as chains of sub-blocks, to 0x3B."""
    file.seek(10)
    file.seek(13 + _gif_palette_bytes(file.read(1)[0]))
    has_image = False
    try:
        while (block := file.read(1)) != b";":
            if block == b"!":
                file.seek(1, os.SEEK_CUR)
            elif block == b",":
                file.seek(8, os.SEEK_CUR)
                file.seek(_gif_palette_bytes(file.read(1)[0]) + 1, os.SEEK_CUR)
            elif block:
                continue  # decoders skip what is no block
            while length := file.read(1)[0]:
                file.seek(length, os.SEEK_CUR)
            has_image |= block == b","
    except IndexError:  # what decoders skip may also look like a block
        file.seek(-1, os.SEEK_END)
        return has_image and file.read(1) == b";"
    return True


def _gif_palette_bytes(flags: int) -> int:
    """Length of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _webp_is_whole(file: IO[bytes]) -> bool:
    """WebP container specification: the RIFF header has the length of what follows it."""
    file.seek(4)
    (length,) = struct.unpack("<I", file.read(4))
    return file.seek(0, os.SEEK_END) >= 8 + length


def _isobmff_is_whole(file: IO[bytes]) -> bool:
    """ISO 14496-12: boxes; behind whole media data, no box is needed."""
    end, offset, found = file.seek(0, os.SEEK_END), 0, False
    while offset < end:
        file.seek(offset)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        offset = offset + max(length, 8) if length else end
        if offset > end:
            return found and kind != b"mdat"
        found |= kind == b"mdat"
    return True


_CHECKS = {
    "JPEG": _jpeg_is_whole,
    "PNG": _png_is_whole,
    "GIF": _gif_is_whole,
    "WEBP": _webp_is_whole,
    "AVIF": _isobmff_is_whole,
    "HEIF": _isobmff_is_whole,
}
