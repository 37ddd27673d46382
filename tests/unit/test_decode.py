import contextlib
import os
import subprocess
import sys
from pathlib import Path

import icc
import numpy as np
import pytest
from faces_support import encoded
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from skimage.data import astronaut

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


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "AVIF"])
def test_decode_of_an_animation_gives_its_first_frame(image: Image.Image, form: str) -> None:
    second = Image.new("RGB", image.size, "white")
    content = encoded(image, form, save_all=True, append_images=[second])
    assert near(decode(content), image)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "AVIF"])
@pytest.mark.parametrize("empty", ["black", "white", (0, 0, 0, 0)])
def test_decode_of_an_animation_gives_the_first_frame_that_shows_something(
    image: Image.Image, form: str, empty: str | tuple[int, ...]
) -> None:
    first = Image.new("RGBA", image.size, empty)
    frames = [first.copy(), image.convert("RGBA")]
    content = encoded(first, form, save_all=True, append_images=frames)
    assert near(decode(content), image)
    content = encoded(first, form, save_all=True, append_images=[first] * 3)
    assert np.ptp(decode(content)) == 0


def test_decode_of_an_animation_that_is_cut_gives_the_first_frame(image: Image.Image) -> None:
    black = Image.new("RGB", image.size, "black")
    content = encoded(black, "GIF", save_all=True, append_images=[image, black])
    alone = len(encoded(black, "GIF"))
    assert np.ptp(decode(content[: alone + 30])) == 0


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


@pytest.mark.parametrize(("form", "counts"), [("JPEG", True), ("PNG", True), ("WEBP", False)])
def test_decode_takes_the_orientation_as_browsers_do(
    image: Image.Image, form: str, counts: bool
) -> None:
    found = decode(encoded(image, form, exif=exif(3)))
    assert near(found, image.transpose(Image.Transpose.ROTATE_180) if counts else image)


def test_decode_of_a_png_with_exif_behind_its_data_ignores_it(image: Image.Image) -> None:
    content = encoded(image, "PNG", exif=exif(3))
    plain = encoded(image, "PNG")
    start = content.index(b"eXIf") - 4
    chunk = content[start : start + 12 + int.from_bytes(content[start : start + 4], "big")]
    end = plain.index(b"IEND") - 4
    assert near(decode(plain[:end] + chunk + plain[end:]), image)


def test_decode_of_a_png_with_exif_as_text_ignores_it(image: Image.Image) -> None:
    raw = exif(3).tobytes().hex()
    text = PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(raw) // 2}\n{raw}\n", zip=True)
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="3"/>')
    assert near(decode(encoded(image, "PNG", pnginfo=text)), image)


def test_decode_of_an_avif_turns_it_by_its_boxes_not_by_its_exif(image: Image.Image) -> None:
    """Pillow writes irot and imir for EXIF's orientation; another tag becomes one here."""
    content = encoded(image, "AVIF", exif=exif(6), quality=100)
    assert b"irot" in content
    assert near(decode(content), image.transpose(Image.Transpose.ROTATE_270))
    other = Image.Exif()
    other[0x0113] = 6
    entry = other.tobytes()[-18:-10]
    content = encoded(image, "AVIF", exif=other, quality=100)
    assert entry in content
    turned = content.replace(entry, entry.replace(b"\x13", b"\x12"))
    assert near(decode(turned), image)


def scene() -> np.ndarray:
    """A photograph."""
    return astronaut()[180:380, 20:260]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("space", [icc.DISPLAY_P3, icc.ADOBE_RGB, icc.PROPHOTO])
def test_decode_applies_the_colour_profile(form: str, space: icc.ColourSpace) -> None:
    rgb = scene()
    stored = Image.fromarray(icc.convert(rgb, icc.SRGB, space))
    content = encoded(stored, form, quality=95, icc_profile=space.profile())
    ignored = decode(encoded(stored, form, quality=95))
    assert np.abs(ignored.astype(int) - rgb).mean() > 4
    assert np.abs(decode(content).astype(int) - rgb).mean() < 3


def test_decode_applies_the_colour_profile_of_any_mode() -> None:
    rgb, profile = scene(), icc.ADOBE_RGB.profile()
    stored = Image.fromarray(icc.convert(rgb, icc.SRGB, icc.ADOBE_RGB))
    stored.putalpha(Image.new("L", stored.size, 255))
    assert np.abs(decode(encoded(stored, "PNG", icc_profile=profile)).astype(int) - rgb).mean() < 1
    few = Image.fromarray(rgb).quantize(64)
    found = decode(encoded(few, "PNG", icc_profile=profile))
    assert np.abs(found.astype(int) - np.asarray(few.convert("RGB"))).mean() > 4
    linear = Image.new("L", (8, 8), 55)  # of 255 with a gamma of 1 is 127 in sRGB
    for grey in (linear, linear.convert("LA"), Image.new("I;16", (8, 8), 55 * 257)):
        found = decode(encoded(grey, "PNG", icc_profile=icc.grey_profile(1.0)))
        assert np.abs(found.astype(int) - 127).max() <= 2


def test_decode_keeps_every_pixel_of_an_image_in_srgb(image: Image.Image) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert near(decode(encoded(image, "PNG", icc_profile=profile)), image, 0.001)


@pytest.mark.parametrize(
    ("form", "mode"),
    [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "L"), ("PNG", "P")],
)
def test_decode_ignores_a_profile_that_is_broken_or_of_other_colours(form: str, mode: str) -> None:
    stored = Image.fromarray(scene()).convert(mode)
    expected = decode(encoded(stored, form))
    whole = icc.ADOBE_RGB.profile()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    profiles = [b"?", whole[:300], whole[:128] + bytes(len(whole) - 128), lab]
    profiles.append(whole if mode in ("L", "CMYK") else icc.grey_profile(1.0))
    for profile in profiles:
        assert (decode(encoded(stored, form, icc_profile=profile)) == expected).all()


@given(place=st.floats(0, 1), value=st.integers(0, 255))
def test_decode_with_any_damage_to_the_profile_gives_an_image(place: float, value: int) -> None:
    profile = bytearray(icc.DISPLAY_P3.profile())
    profile[int(place * (len(profile) - 1))] = value
    content = encoded(Image.new("RGB", (4, 4), "teal"), "PNG", icc_profile=bytes(profile))
    assert decode(content).shape == (4, 4, 3)


def test_decode_of_heic_gives_upright_rgb(image: Image.Image) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    content = encoded(image, "HEIF", quality=95)
    assert near(decode(content), image)
    turned = encoded(image, "HEIF", quality=95, exif=exif(6).tobytes())
    assert near(decode(turned), image.transpose(Image.Transpose.ROTATE_270))
    broken = content[: len(content) // 2]
    with pytest.raises(UnreadableError):
        decode(broken)


def test_decode_of_heic_without_its_decoder_says_what_installs_it(tmp_path: Path) -> None:
    """In a process that finds no pillow_heif."""
    (tmp_path / "pillow_heif.py").write_text("raise ImportError")
    program = (
        "from pttfaces.images import NoDecoderError, decode\n"
        "try:\n    decode(b'\\0\\0\\0\\x18ftypheic\\0\\0\\0\\0mif1heic')\n"
        "except NoDecoderError as error:\n    print(error)"
    )
    path = os.pathsep.join([str(tmp_path), "src"])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "HEIC needs pillow-heif, which `make heic` installs\n"


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
