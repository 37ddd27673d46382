"""What a file is, by its bytes alone: format, size in pixels, and whether its end is there.

JPEG, PNG, GIF, WebP and AVIF; nothing is decoded. The headers are walked here rather than by a
decoder because these bytes are a stranger's: every walk is linear in the file and bounded, where a
decoder can be kept busy for minutes by a few megabytes. Knows nothing of where a file came from.
"""

import mmap
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

from pttfaces.download.result import Picture

Bytes: TypeAlias = "bytes | mmap.mmap"
HEAD = 64  # bytes that `kind_of` looks at

_MOST_BLOCKS = 1_000_000  # an honest picture of the largest size has fewer; a crafted one stalls us
# A marker that is neither a stuffed 0xFF00, a fill byte, nor a restart within the coded data.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15 without DHT, JPG, DAC


class NotAnImageError(Exception):
    """The bytes are no picture of a known format; the message says what they look like."""


class _CutError(Exception):
    """The file ends before its format does."""


def kind_of(head: bytes) -> str:
    """The format that the first HEAD bytes of a file announce; NotAnImageError otherwise."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = head[8 : min(_u32(head, 0), HEAD)]
        if brands[:4] in (b"avif", b"avis") or b"avif" in brands[8:]:
            return "AVIF"
    raise NotAnImageError(_looks_like(head))


def recognise(data: Bytes, sha256: str) -> Picture:
    """Reads a file's headers; NotAnImageError says why it is none. sha256: its own, in hex."""
    kind = kind_of(data[:HEAD])
    width, height, whole = _measure(kind, data)
    return Picture(sha256, len(data), kind, width, height, whole)


def _measure(kind: str, data: Bytes) -> tuple[int, int, bool]:
    """Width, height and wholeness; the size is 0×0 where the file is cut before it."""
    walk = _WALKS[kind](data)
    width = height = 0
    try:
        for step, (width, height) in enumerate(walk):  # noqa: B007 (the last size is the one)
            if step > _MOST_BLOCKS:
                raise NotAnImageError(f"a {kind} of more than {_MOST_BLOCKS} blocks")
        whole = True
    except _CutError:
        whole = False
    if whole and not (width and height):
        raise NotAnImageError(f"a {kind} without a size")
    return width, height, whole


# Each walk yields (width, height) as known so far, once a block; _CutError: the bytes end early.


def _walk_jpeg(data: Bytes) -> Iterator[tuple[int, int]]:
    """ITU T.81, annex B. An embedded preview lies inside a segment, so its end is not taken."""
    width = height = 0
    place = 2
    while found := _JPEG_MARKER.search(data, place):
        place, code = found.end(), data[found.end() - 1]
        if code == 0xD9:
            return
        if code in _JPEG_FRAMES:
            down, across = _u16(data, place + 3), _u16(data, place + 5)
            if across * down > width * height:  # a second frame must not hide a large one
                width, height = across, down
        yield width, height
        if code == 0xDA and data[-2:] == b"\xff\xd9":
            return  # coded data holds no such bytes: they are the end, and need not be searched for
        if code not in (0x01, 0xD8):  # these have no length
            place += _u16(data, place)
    raise _CutError


def _walk_png(data: Bytes) -> Iterator[tuple[int, int]]:
    """PNG 1.2, section 3: chunks of length, type, data and checksum, from IHDR to IEND."""
    if data[12:16] != b"IHDR":
        raise _CutError if len(data) < 16 else NotAnImageError("a PNG without a header")
    width, height = _u32(data, 16), _u32(data, 20)
    place = 8
    while True:
        yield width, height
        if place + 12 > len(data):
            raise _CutError
        kind = data[place + 4 : place + 8]
        place += 12 + _u32(data, place)
        if place > len(data):
            raise _CutError
        if kind == b"IEND":
            return


def _walk_gif(data: Bytes) -> Iterator[tuple[int, int]]:
    """GIF89a: screen descriptor, then extensions and images as chains of sub-blocks, to 0x3B."""
    width, height = _u16(data, 6, "little"), _u16(data, 8, "little")
    place = 13 + _gif_colours(_u8(data, 10))
    while True:
        yield width, height
        block = _u8(data, place)
        if block == 0x3B:
            return
        if block == 0x21:
            place += 2
        elif block == 0x2C:
            # An image may reach beyond the screen, and decoders then make room for it.
            left, top, across, down = (_u16(data, place + at, "little") for at in (1, 3, 5, 7))
            width, height = max(width, left + across), max(height, top + down)
            place += 11 + _gif_colours(_u8(data, place + 9))
        else:
            raise NotAnImageError("a damaged GIF")
        while length := _u8(data, place):
            yield width, height
            place += 1 + length
        place += 1


def _walk_webp(data: Bytes) -> Iterator[tuple[int, int]]:
    """WebP container specification; the first chunk tells the size."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        width, height = _u24(data, 24) + 1, _u24(data, 27) + 1
    elif chunk == b"VP8L":
        bits = _u32(data, 21, "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        width, height = (_u16(data, at, "little") & 0x3FFF for at in (26, 28))
    else:
        raise _CutError if len(data) < 16 else NotAnImageError("a WebP without a picture")
    yield width, height
    if 8 + _u32(data, 4, "little") > len(data):
        raise _CutError


def _walk_avif(data: Bytes) -> Iterator[tuple[int, int]]:
    """ISO 14496-12 boxes; the size is the largest `ispe` (ISO 23008-12): tiles have lesser ones."""
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
                for item, place, _ in _boxes(data, first, last):
                    if item == b"ispe":
                        across, down = _u32(data, place + 4), _u32(data, place + 8)
                        if across * down > width * height:
                            width, height = across, down
                    yield width, height
    yield width, height


def _boxes(data: Bytes, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of the content of each box between two places."""
    while place < end:
        size, start = _u32(data, place), place + 8
        if size == 1:
            size, start = _u32(data, place + 8) << 32 | _u32(data, place + 12), place + 16
        elif size == 0:
            size = end - place
        if size < start - place:
            raise NotAnImageError("a damaged AVIF")
        if place + size > end:
            raise _CutError
        yield data[place + 4 : place + 8], start, place + size
        place += size


_WALKS: dict[str, Callable[[Bytes], Iterator[tuple[int, int]]]] = {
    "JPEG": _walk_jpeg,
    "PNG": _walk_png,
    "GIF": _walk_gif,
    "WEBP": _walk_webp,
    "AVIF": _walk_avif,
}


def _gif_colours(flags: int) -> int:
    """Bytes of a GIF's colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _u8(data: Bytes, place: int) -> int:
    if place >= len(data):
        raise _CutError
    return data[place]


def _u16(data: Bytes, place: int, order: str = "big") -> int:
    return _number(data, place, 2, order)


def _u24(data: Bytes, place: int) -> int:
    return _number(data, place, 3, "little")


def _u32(data: Bytes, place: int, order: str = "big") -> int:
    return _number(data, place, 4, order)


def _number(data: Bytes, place: int, length: int, order: str) -> int:
    piece = data[place : place + length]
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
