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

from pttfaces.download.image_type import identify
from pttfaces.download.result import RejectedError

KINDS = list(EXTENSIONS)


def facts(content: bytes) -> tuple[str, int, int, bool]:
    found = identify(io.BytesIO(content))
    assert found.bytes == len(content)
    return found.format, found.width, found.height, found.whole


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_identify_of_each_format_gives_its_name_and_size(kind: str, size: tuple[int, int]) -> None:
    assert facts(image_bytes(kind, size=size)) == (kind, *size, True)


@pytest.mark.parametrize("kind", KINDS)
def test_identify_of_an_image_s_beginning_is_not_whole(kind: str) -> None:
    content = image_bytes(kind)
    for end in range(64, len(content) - 2, max(1, len(content) // 200)):
        assert facts(content[:end])[3] is False, end


@pytest.mark.parametrize("kind", KINDS)
def test_identify_with_bytes_after_the_end_is_whole(kind: str) -> None:
    tail = b"" if kind == "AVIF" else b"<script>alert(1)</script>"
    assert facts(image_bytes(kind) + tail)[3] is True


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 1}])
def test_identify_of_other_kinds_of_jpeg_finds_their_size_and_end(options: dict[str, int]) -> None:
    """Progressive, and with restart markers."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "JPEG", **options)
    assert facts(buffer.getvalue()) == ("JPEG", 256, 256, True)
    assert facts(buffer.getvalue()[:-9])[3] is False


@pytest.mark.parametrize(
    "options",
    [{}, {"quality": 95}, {"progressive": True}, {"restart_marker_blocks": 1}, {"subsampling": 0}],
)
def test_identify_of_a_jpeg_without_its_end_marker_is_whole_if_all_pixels_are_there(
    options: dict[str, int],
) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(image_bytes("PNG", 5))).save(buffer, "JPEG", **options)
    content = buffer.getvalue()
    assert [facts(content[:-cut])[3] for cut in range(1, 40)] == [True] * 2 + [False] * 37


def test_identify_of_a_progressive_jpeg_that_ends_between_two_scans_is_not_whole() -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(image_bytes("PNG", 5))).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    scans = [at for at in range(len(content)) if content.startswith(b"\xff\xda", at)]
    assert len(scans) > 5
    assert not any(facts(content[:end])[3] for end in scans[1:])


def test_identify_of_a_cut_jpeg_with_an_embedded_preview_is_not_whole() -> None:
    """The end of the preview is not the end of the file."""
    preview, whole = image_bytes("JPEG", 1, (16, 16)), image_bytes("JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview
    cut = whole[:2] + segment + whole[2:-300]
    assert facts(cut) == ("JPEG", 64, 48, False)


def test_identify_of_webp_gives_its_size_or_raises_when_it_is_too_large() -> None:
    """Lossless and animated."""
    image = Image.new("RGB", (321, 45))
    for options in ({"lossless": True}, {"save_all": True, "append_images": [image.rotate(180)]}):
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", **options)
        assert facts(buffer.getvalue()) == ("WEBP", 321, 45, True)
    body = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + b"\xfe\x3f\0" + b"\xfd\x3f\0"
    header = b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP"
    with pytest.raises(RejectedError, match="more pixels than Pillow opens") as caught:
        facts(header + body)
    assert caught.value.status == "too_large"


@pytest.mark.parametrize("kind", ["GIF", "AVIF"])
def test_identify_of_an_animation_gives_the_size_of_its_frames(kind: str) -> None:
    buffer = io.BytesIO()
    frames = [Image.new("L", (50, 40), shade) for shade in (0, 90, 200)]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    assert facts(buffer.getvalue()) == (kind, 50, 40, True)


def test_identify_of_a_gif_with_bytes_between_blocks_is_whole() -> None:
    """As decoders read it."""
    content = image_bytes("GIF")
    for between in (b"\0", b"\0\0xx", b"\xff\xfe", b"!", b"!!!"):
        odd = content[:-1] + between + content[-1:]
        Image.open(io.BytesIO(odd)).load()
        assert facts(odd) == ("GIF", 64, 48, True)
        assert facts(odd[:-1]) == ("GIF", 64, 48, False)


def test_identify_of_a_jpeg_of_two_images_gives_the_first() -> None:
    """MPO, which some phones write."""
    buffer = io.BytesIO()
    images = [Image.new("RGB", (64, 48), shade) for shade in ("red", "blue")]
    images[0].save(buffer, "MPO", save_all=True, append_images=images[1:])
    assert facts(buffer.getvalue()) == ("JPEG", 64, 48, True)


def test_identify_of_a_huge_png_gives_its_size_without_decoding() -> None:
    content = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
        + png_chunk(b"IEND", b"")
    )
    assert facts(content) == ("PNG", 60000, 60000, True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"\n <svg xmlns='x'><script/></svg>", "SVG or other XML"),
        (b"what is this?", "unknown bytes"),
        (b"RIFF\x0c\0\0\0WAVEfmt ", "unknown bytes"),
        (b"BM" + b"\0" * 100, "BMP"),
        (b"II*\0" + b"\0" * 100, "TIFF"),
        (b"MM\0*" + b"\0" * 100, "TIFF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp41isom" + b"\0" * 40, "MP4 video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + b"\0" * 40, "QuickTime video"),
        (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86", "Matroska or WebM video"),
        (b"RIFF\x0c\0\0\0AVI LIST", "AVI video"),
        (b"\xff\xd8\xff\xc0\0\x03\x01\xff\xd9", "a broken JPEG"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\0IHDRcrc!\0\0\0\0IEND", "a broken PNG"),
        (b"GIF89a" + b"\0" * 8 + b"nonsense;", "a broken GIF"),
        (b"RIFF\x0c\0\0\0WEBPVP8 \0\0\0\0", "a broken WEBP"),
        (b"\0\0\0\x14ftypavif\0\0\0\0avif", "a broken AVIF"),
    ],
)
def test_identify_of_no_image_raises_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(RejectedError, match=f"^{reason}$"):
        facts(content)


@pytest.mark.parametrize("brands", [b"heic\0\0\0\0heicmif1", b"mif1\0\0\0\0mif1heic"])
def test_identify_of_heic_without_its_decoder_says_so(
    brands: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pttfaces.download.image_type.can_read_heic", lambda: False)
    with pytest.raises(RejectedError, match=r"^HEIC, which `make heic` installs"):
        facts(b"\0\0\0\x18ftyp" + brands + b"\0" * 40)


def test_identify_of_heic_with_its_decoder_gives_its_size() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    buffer = io.BytesIO()
    Image.open(io.BytesIO(image_bytes("PNG"))).save(buffer, "HEIF")
    content = buffer.getvalue()
    assert facts(content) == ("HEIF", 64, 48, True)
    assert identify(io.BytesIO(content)).path.endswith(".heic")
    assert facts(content[:-9])[3] is False


def exif_segments(size: int) -> bytes:
    return (b"\xff\xe1\xff\xff" + b"Exif\0\0" + b"\0" * 65527) * (size // 65537)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8" + b"\xff\xe0\0\x02" * 300_000,
        b"\xff\xd8" + exif_segments(50 * 2**20),
        image_bytes("PNG")[:33] + png_chunk(b"prVt", b"") * 100_000,
        image_bytes("GIF")[:-1] + b",\0\0\0\0\1\0\1\0\0\2\0" * 400_000,
        b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + b"\0\0\0\x08free" * 1_100_000,
    ],
    ids=["JPEG segments", "JPEG Exif", "PNG chunks", "GIF frames", "AVIF boxes"],
)
def test_identify_of_an_image_in_too_many_pieces_raises_rejected_error(content: bytes) -> None:
    """It would take minutes to parse."""
    with pytest.raises(RejectedError, match="too many pieces"):
        facts(content)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    place=st.floats(0, 1),
    junk=st.binary(min_size=1, max_size=12),
)
def test_identify_of_damaged_bytes_raises_at_most_rejected_error(
    kind: str, place: float, junk: bytes
) -> None:
    content = bytearray(image_bytes(kind))
    at = int(place * len(content))
    content[at : at + len(junk)] = junk
    with contextlib.suppress(RejectedError):
        facts(bytes(content))
