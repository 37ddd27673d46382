"""From a picture of the world to the bytes that its host hands out, drawn when asked for.

Everything follows from the world's seed and the picture's number; knows no network.
"""

import io

import numpy as np
from PIL import Image

from pttfaces.demo.board import Picture
from pttfaces.demo.drawing import Person, blurred, group, portrait, scene

PAGE_NOT_PICTURE = b"<!DOCTYPE html><html><body><h1>Over capacity</h1></body></html>\n"

_SIZES = ((448, 560), (512, 512), (480, 600), (512, 640))
_WIDE = (640, 480)
_ORIENTATION, _TURN_RIGHT = 0x0112, 6  # EXIF: to be turned by 90° clockwise


def picture_bytes(picture: Picture, seed: int) -> bytes:
    """The file of a picture; of one that is broken, what is left of it."""
    if picture.answer == "html":
        return PAGE_NOT_PICTURE
    content = _encoded(drawn(picture, seed), picture)
    return content[: len(content) * 3 // 5] if picture.answer == "truncated" else content


def small_copy(content: bytes) -> bytes:
    """A JPEG of half the size, as picture hosts make them for previews."""
    with Image.open(io.BytesIO(content)) as image:
        half = image.convert("RGB").resize((image.width // 2, image.height // 2))
    buffer = io.BytesIO()
    half.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def removed_placeholder() -> bytes:
    """The small PNG that stands in the place of a removed picture."""
    image = Image.new("RGB", (161, 81), (34, 34, 34))
    image.paste((200, 200, 200), (20, 30, 141, 50))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def drawn(picture: Picture, seed: int) -> Image.Image:
    """The picture as drawn, RGB, upright."""
    rng = np.random.default_rng([seed, 2, picture.number])
    people = [Person.random(np.random.default_rng([seed, 1, who])) for who in picture.people]
    size = _SIZES[int(rng.integers(len(_SIZES)))]
    if picture.shows == "scene":
        return scene(rng, _WIDE).image
    if picture.shows == "group":
        return group(people, rng, _WIDE).image
    drawing = portrait(people[0], rng, size)
    return blurred(drawing, rng).image if picture.shows == "blurred" else drawing.image


def _encoded(image: Image.Image, picture: Picture) -> bytes:
    buffer = io.BytesIO()
    if picture.format == "GIF":
        image.quantize(256, dither=Image.Dither.NONE).save(buffer, "GIF")
    elif picture.format == "PNG":
        image.save(buffer, "PNG", compress_level=3)
    elif picture.format == "WEBP":
        image.save(buffer, "WEBP", quality=90, method=2)
    elif picture.rotated:
        exif = Image.Exif()
        exif[_ORIENTATION] = _TURN_RIGHT
        image.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", quality=92, exif=exif)
    else:
        image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
