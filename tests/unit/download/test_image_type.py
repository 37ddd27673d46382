"""Files are known by their bytes: format, size, and whether the end is there."""

import contextlib
import io
import struct
import zlib

import pytest
from hostile.site import EXTENSIONS, image_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pttfaces.download.image_type import NotAnImageError, identify

KINDS = list(EXTENSIONS)


def facts(content: bytes) -> tuple[str, int, int, bool]:
    found = identify(content, "0" * 64)
    assert found.bytes == len(content)
    return found.format, found.width, found.height, found.whole


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_each_format_gives_its_name_and_size(kind: str, size: tuple[int, int]) -> None:
    assert facts(image_bytes(kind, size=size)) == (kind, *size, True)


@pytest.mark.parametrize("kind", KINDS)
def test_no_beginning_of_an_image_counts_as_whole(kind: str) -> None:
    content = image_bytes(kind)
    for end in range(64, len(content), max(1, len(content) // 200)):
        assert facts(content[:end])[3] is False, end


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_after_the_end_do_no_harm(kind: str) -> None:
    tail = b"" if kind == "AVIF" else b"<script>alert(1)</script>"
    assert facts(image_bytes(kind) + tail)[3] is True


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 1}])
def test_other_kinds_of_jpeg(options: dict[str, int]) -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "JPEG", **options)
    assert facts(buffer.getvalue()) == ("JPEG", 256, 256, True)
    assert facts(buffer.getvalue()[:-2])[3] is False


def test_the_end_of_an_embedded_preview_is_not_the_end_of_the_jpeg() -> None:
    preview, whole = image_bytes("JPEG", 1, (16, 16)), image_bytes("JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview
    cut = whole[:2] + segment + whole[2:-300]
    assert facts(cut) == ("JPEG", 64, 48, False)


def test_lossless_and_large_webp() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (321, 45)).save(buffer, "WEBP", lossless=True)
    assert facts(buffer.getvalue()) == ("WEBP", 321, 45, True)
    body = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + b"\xfe\x3f\0" + b"\xfd\x3f\0"
    header = b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP"
    assert facts(header + body) == ("WEBP", 16383, 16382, True)


def test_a_huge_png_is_measured_without_being_decoded() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    content = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
        + chunk(b"IEND", b"")
    )
    assert facts(content) == ("PNG", 60000, 60000, True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"\n <svg xmlns='x'><script/></svg>", "SVG or other XML"),
        (b"BM" + b"\0" * 100, "unknown bytes"),
        (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + b"\0" * 40, "unknown bytes"),
        (b"\xff\xd8\xff\xd9", "a JPEG without a size"),
        (b"GIF89a" + b"\0" * 8 + b"nonsense", "a damaged GIF"),
        (b"\xff\xd8" + b"\xff\xe0\0\x02" * 1_100_000, "a JPEG of more than 1000000 blocks"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(NotAnImageError, match=f"^{reason}$"):
        facts(content)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    place=st.floats(0, 1),
    junk=st.binary(min_size=1, max_size=12),
)
def test_damaged_bytes_never_surprise(kind: str, place: float, junk: bytes) -> None:
    content = bytearray(image_bytes(kind))
    at = int(place * len(content))
    content[at : at + len(junk)] = junk
    with contextlib.suppress(NotAnImageError):
        facts(bytes(content))
