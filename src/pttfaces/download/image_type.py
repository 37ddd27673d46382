"""Identifies an image file by its bytes: format, size in pixels, and whether its end is there.

JPEG, PNG, GIF, WebP and AVIF; nothing is decoded. The bytes are untrusted: each parser here is
linear in the file and bounded, while a few megabytes can keep a decoder busy for minutes.
"""

import mmap
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

from pttfaces.download.result import ImageInfo

Bytes: TypeAlias = "bytes | mmap.mmap"
HEAD_BYTES = 64  # bytes that `image_format` needs

_MAX_BLOCKS = 1_000_000  # an honest image of the largest size has fewer; a crafted one stalls us
# A marker that is neither a stuffed 0xFF00, a fill byte, nor a restart within the coded data.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15 without DHT, JPG, DAC


class NotAnImageError(Exception):
    """The bytes are no image of a known format; the message says what they look like."""


class _CutError(Exception):
    """The file ends before its format does."""


def image_format(head: bytes) -> str:
    """The format that the first HEAD_BYTES of a file announce; NotAnImageError: none."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = head[8 : min(_u32(head, 0), HEAD_BYTES)]
        if brands[:4] in (b"avif", b"avis") or b"avif" in brands[8:]:
            return "AVIF"
    raise NotAnImageError(_looks_like(head))


def identify(data: Bytes, sha256: str) -> ImageInfo:
    """What an image file is; NotAnImageError says why it is not one. sha256: of `data`, in hex."""
    name = image_format(data[:HEAD_BYTES])
    width, height, whole = _parse(name, data)
    return ImageInfo(sha256, len(data), name, width, height, whole)


def _parse(name: str, data: Bytes) -> tuple[int, int, bool]:
    """Width, height and whether the end is there; 0×0 where the file is cut before the size."""
    sizes = _PARSERS[name](data)
    width = height = 0
    try:
        for step, (width, height) in enumerate(sizes):  # noqa: B007 (the last size counts)
            if step > _MAX_BLOCKS:
                raise NotAnImageError(f"a {name} of more than {_MAX_BLOCKS} blocks")
        whole = True
    except _CutError:
        whole = False
    if whole and not (width and height):
        raise NotAnImageError(f"a {name} without a size")
    return width, height, whole


# Each parser yields (width, height) as known so far, once a block; _CutError: the bytes end early.


def _parse_jpeg(data: Bytes) -> Iterator[tuple[int, int]]:
    """ITU T.81, annex B. An embedded preview is inside a segment, which is skipped."""
    width = height = 0
    offset = 2
    while found := _JPEG_MARKER.search(data, offset):
        offset, code = found.end(), data[found.end() - 1]
        if code == 0xD9:
            return
        if code in _JPEG_FRAMES:
            frame_height, frame_width = _u16(data, offset + 3), _u16(data, offset + 5)
            if frame_width * frame_height > width * height:  # a small last frame hides none
                width, height = frame_width, frame_height
        yield width, height
        if code == 0xDA and data[-2:] == b"\xff\xd9":
            return  # coded data holds no such bytes: they are the end, and need not be searched for
        if code not in (0x01, 0xD8):  # these have no length
            offset += _u16(data, offset)
    raise _CutError


def _parse_png(data: Bytes) -> Iterator[tuple[int, int]]:
    """PNG 1.2, section 3: chunks of length, type, data and checksum, from IHDR to IEND."""
    if data[12:16] != b"IHDR":
        raise _CutError if len(data) < 16 else NotAnImageError("a PNG without a header")
    width, height = _u32(data, 16), _u32(data, 20)
    offset = 8
    while True:
        yield width, height
        if offset + 12 > len(data):
            raise _CutError
        kind = data[offset + 4 : offset + 8]
        offset += 12 + _u32(data, offset)
        if offset > len(data):
            raise _CutError
        if kind == b"IEND":
            return


def _parse_gif(data: Bytes) -> Iterator[tuple[int, int]]:
    """GIF89a: screen descriptor, then extensions and images as chains of sub-blocks, to 0x3B."""
    width, height = _u16(data, 6, "little"), _u16(data, 8, "little")
    offset = 13 + _gif_palette_bytes(_u8(data, 10))
    while True:
        yield width, height
        block = _u8(data, offset)
        if block == 0x3B:
            return
        if block == 0x21:
            offset += 2
        elif block == 0x2C:
            # An image may reach beyond the screen, which decoders then enlarge.
            left, top, frame_width, frame_height = (
                _u16(data, offset + field, "little") for field in (1, 3, 5, 7)
            )
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            offset += 11 + _gif_palette_bytes(_u8(data, offset + 9))
        else:
            raise NotAnImageError("a damaged GIF")
        while length := _u8(data, offset):
            yield width, height
            offset += 1 + length
        offset += 1


def _parse_webp(data: Bytes) -> Iterator[tuple[int, int]]:
    """WebP container specification; the first chunk has the size."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        width, height = _u24(data, 24) + 1, _u24(data, 27) + 1
    elif chunk == b"VP8L":
        bits = _u32(data, 21, "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        width, height = (_u16(data, offset, "little") & 0x3FFF for offset in (26, 28))
    else:
        raise _CutError if len(data) < 16 else NotAnImageError("a WebP without an image")
    yield width, height
    if 8 + _u32(data, 4, "little") > len(data):
        raise _CutError


def _parse_avif(data: Bytes) -> Iterator[tuple[int, int]]:
    """ISO 14496-12 boxes; the size is the largest `ispe` (ISO 23008-12), since tiles have
    theirs."""
    width = height = 0
    for kind, start, end in _boxes(data, 0, len(data)):
        yield width, height
        if kind != b"meta":
            continue
        for name, inner, inner_end in _boxes(data, start + 4, end):
            yield width, height
            if name != b"iprp":
                continue
            for group, first, last in _boxes(data, inner, inner_end):
                if group != b"ipco":
                    continue
                for item, offset, _ in _boxes(data, first, last):
                    if item == b"ispe":
                        frame_width, frame_height = _u32(data, offset + 4), _u32(data, offset + 8)
                        if frame_width * frame_height > width * height:
                            width, height = frame_width, frame_height
                    yield width, height
    yield width, height


def _boxes(data: Bytes, offset: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of the content of each box between two offsets."""
    while offset < end:
        size, start = _u32(data, offset), offset + 8
        if size == 1:
            size, start = _u32(data, offset + 8) << 32 | _u32(data, offset + 12), offset + 16
        elif size == 0:
            size = end - offset
        if size < start - offset:
            raise NotAnImageError("a damaged AVIF")
        if offset + size > end:
            raise _CutError
        yield data[offset + 4 : offset + 8], start, offset + size
        offset += size


_PARSERS: dict[str, Callable[[Bytes], Iterator[tuple[int, int]]]] = {
    "JPEG": _parse_jpeg,
    "PNG": _parse_png,
    "GIF": _parse_gif,
    "WEBP": _parse_webp,
    "AVIF": _parse_avif,
}


def _gif_palette_bytes(flags: int) -> int:
    """Length of a GIF's colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _u8(data: Bytes, offset: int) -> int:
    if offset >= len(data):
        raise _CutError
    return data[offset]


def _u16(data: Bytes, offset: int, order: str = "big") -> int:
    return _number(data, offset, 2, order)


def _u24(data: Bytes, offset: int) -> int:
    return _number(data, offset, 3, "little")


def _u32(data: Bytes, offset: int, order: str = "big") -> int:
    return _number(data, offset, 4, order)


def _number(data: Bytes, offset: int, length: int, order: str) -> int:
    piece = data[offset : offset + length]
    if len(piece) < length:
        raise _CutError
    return int.from_bytes(piece, "little" if order == "little" else "big")


def _looks_like(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return "HTML"
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg")):
        return "SVG or other XML"
    return "unknown bytes" if head else "empty"
