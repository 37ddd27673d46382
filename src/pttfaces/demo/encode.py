"""Draws the images of the demo board and encodes them as the files that its hosts serve."""

import io

import numpy as np
from PIL import Image

from pttfaces.demo.board import DemoImage
from pttfaces.demo.drawing import Person, blurred, group, portrait, scene

PAGE_NOT_IMAGE = b"<!DOCTYPE html><html><body><h1>Over capacity</h1></body></html>\n"

_SIZES = ((448, 560), (512, 512), (480, 600), (512, 640))
_WIDE = (640, 480)
_ORIENTATION, _ROTATE_RIGHT = 0x0112, 6  # EXIF: to be rotated by 90° clockwise


def image_bytes(image: DemoImage, seed: int) -> bytes:
    """The file of an image, broken as its `answer` says."""
    if image.answer == "html":
        return PAGE_NOT_IMAGE
    content = _encode(draw(image, seed), image)
    return content[: len(content) * 3 // 5] if image.answer == "truncated" else content


def small_copy(content: bytes) -> bytes:
    """A JPEG of half the size, such as image hosts make for previews."""
    with Image.open(io.BytesIO(content)) as original:
        half = original.convert("RGB").resize((original.width // 2, original.height // 2))
    buffer = io.BytesIO()
    half.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def removed_placeholder() -> bytes:
    """The small PNG that a host serves instead of a removed image."""
    placeholder = Image.new("RGB", (161, 81), (34, 34, 34))
    placeholder.paste((200, 200, 200), (20, 30, 141, 50))
    buffer = io.BytesIO()
    placeholder.save(buffer, "PNG")
    return buffer.getvalue()


def draw(image: DemoImage, seed: int) -> Image.Image:
    """The drawing of an image, RGB, upright; a function of the board's seed and its number."""
    rng = np.random.default_rng([seed, 2, image.number])
    people = [Person.random(np.random.default_rng([seed, 1, number])) for number in image.people]
    size = _SIZES[int(rng.integers(len(_SIZES)))]
    if image.shows == "scene":
        return scene(rng, _WIDE).image
    if image.shows == "group":
        return group(people, rng, _WIDE).image
    drawing = portrait(people[0], rng, size)
    return blurred(drawing, rng).image if image.shows == "blurred" else drawing.image


def _encode(drawn: Image.Image, image: DemoImage) -> bytes:
    buffer = io.BytesIO()
    if image.format == "GIF":
        drawn.quantize(256, dither=Image.Dither.NONE).save(buffer, "GIF")
    elif image.format == "PNG":
        drawn.save(buffer, "PNG", compress_level=3)
    elif image.format == "WEBP":
        drawn.save(buffer, "WEBP", quality=90, method=2)
    elif image.rotated:
        exif = Image.Exif()
        exif[_ORIENTATION] = _ROTATE_RIGHT
        drawn.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", quality=92, exif=exif)
    else:
        drawn.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
