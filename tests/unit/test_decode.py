import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faces_support import encoded
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pttfaces import config
from pttfaces.errors import ParamsError
from pttfaces.images import UnreadableError, decode

HEIGHT, WIDTH = 40, 60


@pytest.fixture
def image() -> Image.Image:
    """Left half red, right half blue, with a green upper left corner."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2] = (200, 30, 30)
    pixels[:, WIDTH // 2 :] = (30, 30, 200)
    pixels[:8, :8] = (30, 200, 30)
    return Image.fromarray(pixels)


def near(found: np.ndarray, expected: Image.Image, tolerance: float = 12.0) -> bool:
    return float(np.abs(found.astype(float) - np.asarray(expected)).mean()) < tolerance


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "AVIF"])
def test_decode_of_every_format_gives_upright_rgb(image: Image.Image, form: str) -> None:
    found = decode(encoded(image, form))
    assert found.dtype == np.uint8
    assert found.shape == (HEIGHT, WIDTH, 3)
    assert near(found, image)


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_decode_undoes_the_exif_orientation(
    image: Image.Image, orientation: int, stored: Image.Transpose | None
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = image if stored is None else image.transpose(stored)
    assert near(decode(encoded(turned, "PNG", exif=exif)), image, 0.01)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of broken metadata
def test_decode_with_a_broken_exif_block_gives_the_image(image: Image.Image) -> None:
    content = encoded(image, "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01")
    assert near(decode(content), image)


def test_decode_puts_transparency_on_white(image: Image.Image) -> None:
    clear = image.convert("RGBA")
    clear.putalpha(0)
    assert (decode(encoded(clear, "PNG")) == 255).all()
    half = image.convert("RGBA")
    half.putalpha(128)
    assert near(decode(encoded(half, "WEBP", lossless=True)), image.point(lambda v: (v + 255) // 2))


def test_decode_puts_a_transparent_palette_colour_on_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 30, 30])
    assert (decode(encoded(image, "GIF", transparency=1)) == 255).all()


def test_decode_of_sixteen_bits_scales_and_does_not_clip() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, axis=0)
    found = decode(encoded(Image.fromarray(ramp), "PNG"))
    assert found.shape == (4, 256, 3)
    assert np.abs(found[..., 0].astype(int) - np.arange(256)).max() <= 1


def test_decode_of_cmyk_and_grey_gives_rgb(image: Image.Image) -> None:
    assert near(decode(encoded(image.convert("CMYK"), "JPEG")), image, 25)
    grey = decode(encoded(image.convert("L"), "JPEG"))
    assert grey.shape == (HEIGHT, WIDTH, 3)
    assert (grey[..., 0] == grey[..., 2]).all()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_decode_of_an_animation_gives_its_first_frame(image: Image.Image, form: str) -> None:
    second = Image.new("RGB", image.size, "white")
    content = encoded(image, form, save_all=True, append_images=[second])
    assert near(decode(content), image)


def test_decode_of_a_cut_jpeg_gives_what_is_there() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    content = encoded(Image.fromarray(noise), "JPEG", quality=95)
    found, whole = decode(content[: len(content) // 2]), decode(content)
    assert found.shape == whole.shape
    assert (found[:64] == whole[:64]).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a picture"),
        (b"<html>404</html>", "not a picture"),
        (b"\xff\xd8\xff\xe0", "not a picture"),
    ],
)
def test_decode_of_no_image_raises_unreadable_error(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        decode(content)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of broken metadata
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "AVIF"])
@given(place=st.floats(0, 1), value=st.integers(0, 255), cut=st.floats(0.1, 1))
def test_decode_of_broken_bytes_raises_at_most_unreadable_error(
    form: str, place: float, value: int, cut: float
) -> None:
    content = bytearray(encoded(Image.linear_gradient("L").resize((32, 32)), form))
    content[int(place * (len(content) - 1))] = value
    broken = bytes(content[: int(len(content) * cut)])
    with contextlib.suppress(UnreadableError):
        assert decode(broken).shape[2] == 3


@pytest.mark.parametrize("form", ["EPS", "BMP", "TIFF"])
def test_decode_of_other_formats_raises_unreadable_error(image: Image.Image, form: str) -> None:
    with pytest.raises(UnreadableError, match="not a picture"):
        decode(encoded(image, form))


def test_decode_of_what_download_lets_through_gives_no_warning(
    image: Image.Image, tmp_path: Path
) -> None:
    assert Image.MAX_IMAGE_PIXELS
    with pytest.raises(ParamsError, match=r"download\.max_megapixels is 179; .* <= 178:"):
        values = config.read(Path(__file__).parents[2] / "presets" / "demo.yaml")
        values["download"]["max_megapixels"] = 179
        config.check(values)
    assert 2 * Image.MAX_IMAGE_PIXELS > 178e6
    path = tmp_path / "large.png"
    path.write_bytes(encoded(image, "PNG"))
    program = (  # pytest has warnings of its own
        "import sys; from pathlib import Path; from PIL import Image\n"
        "from pttfaces.images import decode\n"
        f"Image.MAX_IMAGE_PIXELS = {HEIGHT * WIDTH - 1}\n"
        "decode(Path(sys.argv[1]).read_bytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_decode_of_too_many_pixels_raises_unreadable_error(
    image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2 - 1)
    with pytest.raises(UnreadableError, match="too many pixels"):
        decode(encoded(image, "PNG"))
