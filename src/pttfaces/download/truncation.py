"""Tells whether the end of an image file is there, which Pillow's lazy opening does not.

Each check walks over a file's blocks to the format's own end, as leniently as decoders do: bytes
after the end are ignored.
"""

import os
import struct
from typing import IO

_PIECE_BYTES = 2**16
_JPEG_END = b"\xff\xd9"


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
    """ITU T.81, annex B: coded data holds no end marker, since its bytes 0xFF are stuffed."""
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
    return False


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
    return True


def _gif_palette_bytes(flags: int) -> int:
    """Length of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _webp_is_whole(file: IO[bytes]) -> bool:
    """WebP container specification: the RIFF header has the length of what follows it."""
    file.seek(4)
    (length,) = struct.unpack("<I", file.read(4))
    return file.seek(0, os.SEEK_END) >= 8 + length


def _avif_is_whole(file: IO[bytes]) -> bool:
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
    "AVIF": _avif_is_whole,
}
