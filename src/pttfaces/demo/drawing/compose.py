"""Whole pictures: who stands where, in which order everything is painted, what the film adds.

Knows how no part of a person is painted, only the order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from pttfaces.demo.drawing.backdrops import paint_backdrop
from pttfaces.demo.drawing.canvas import Canvas
from pttfaces.demo.drawing.clothes import paint_clothes, paint_earrings, paint_glasses
from pttfaces.demo.drawing.face_context import Light, Sitting
from pttfaces.demo.drawing.features import (
    NOSE_OUT,
    mouth_corner,
    nose_tip,
    paint_brow,
    paint_eye,
    paint_mouth,
    paint_nose,
)
from pttfaces.demo.drawing.hair import paint_hair_behind, paint_hair_in_front
from pttfaces.demo.drawing.head import paint_ears, paint_head, paint_marks, paint_neck
from pttfaces.demo.drawing.person import Person
from pttfaces.demo.drawing.scenes import paint_scene
from pttfaces.demo.drawing.shapes import Array, f32


@dataclass(frozen=True)
class Drawing:
    """A picture and where its faces are.

    image: RGB; landmarks: (faces, 5, 2) float32, pixels from the upper left corner: left eye, right
    eye, nose, left and right corner of the mouth, left and right as seen in the picture.
    """

    image: Image.Image
    landmarks: Array


def portrait(
    person: Person, rng: np.random.Generator, size: tuple[int, int] = (512, 512)
) -> Drawing:
    """One picture of a person; pose, expression, light, clothes and background come from `rng`.

    size: (width, height) in pixels.
    """
    width, height = size
    light = Light.random(rng)
    canvas = Canvas(width, height)
    paint_backdrop(canvas, rng)
    unit = min(size) * float(rng.uniform(0.19, 0.28))
    x = width * float(rng.uniform(0.42, 0.58))
    y = max(height * float(rng.uniform(0.37, 0.46)), 1.4 * unit)
    sitting = Sitting.random(canvas, person, light, rng, (x, y), unit)
    _draw(sitting)
    return Drawing(_develop(canvas, light, rng), _landmarks(sitting)[None])


def group(
    people: Sequence[Person], rng: np.random.Generator, size: tuple[int, int] = (640, 480)
) -> Drawing:
    """Several people side by side in one picture; `people` from left to right, at least one.

    size: (width, height) in pixels. Landmarks come in the order of `people`.
    """
    width, height = size
    light = Light.random(rng)
    canvas = Canvas(width, height)
    paint_backdrop(canvas, rng)
    unit = min(width / (2.5 * len(people)), height / 4.2) * float(rng.uniform(0.92, 1.05))
    sittings = []
    for place, person in enumerate(people):
        x = width * (place + 0.5 + float(rng.uniform(-0.05, 0.05))) / len(people)
        y = height * float(rng.uniform(0.36, 0.46))
        sittings.append(Sitting.random(canvas, person, light, rng, (x, y), unit))
    for sitting in sorted(sittings, key=lambda one: one.pose.origin[1]):
        _draw(sitting)
    landmarks = np.stack([_landmarks(sitting) for sitting in sittings])
    return Drawing(_develop(canvas, light, rng), landmarks)


def scene(rng: np.random.Generator, size: tuple[int, int] = (640, 480)) -> Drawing:
    """A picture without a face: a landscape, a dish, a room or a sign. size: (width, height)."""
    light = Light.random(rng)
    canvas = Canvas(*size)
    paint_scene(canvas, rng)
    return Drawing(_develop(canvas, light, rng), np.zeros((0, 5, 2), np.float32))


def blurred(drawing: Drawing, rng: np.random.Generator) -> Drawing:
    """The same picture out of focus: too soft to train on, though its faces can still be found."""
    eyes = drawing.landmarks[:, 1] - drawing.landmarks[:, 0]
    apart = float(np.linalg.norm(eyes, axis=1).max()) if len(eyes) else min(drawing.image.size) / 6
    pixels = cv2.GaussianBlur(np.asarray(drawing.image), (0, 0), apart * rng.uniform(0.05, 0.075))
    return Drawing(Image.fromarray(pixels), drawing.landmarks)


def _draw(sitting: Sitting) -> None:
    """Paints a person, from what is farthest to what is nearest."""
    paint_hair_behind(sitting)
    paint_neck(sitting)
    paint_clothes(sitting)
    paint_ears(sitting)
    face = paint_head(sitting)
    paint_marks(sitting, face)
    paint_nose(sitting)
    paint_mouth(sitting)
    for side in (-1, 1):
        paint_eye(sitting, side, face)
        paint_brow(sitting, side)
    paint_hair_in_front(sitting, face)
    paint_earrings(sitting)
    paint_glasses(sitting)


def _landmarks(sitting: Sitting) -> Array:
    """(5, 2) pixels, in the order that `Drawing` states."""
    person = sitting.person
    width, height = mouth_corner(person, sitting.mood)
    eyes = sitting.on_face([(-person.eye_spacing, 0), (person.eye_spacing, 0)])
    nose = sitting.on_face([nose_tip(person)], NOSE_OUT)
    return np.concatenate([eyes, nose, sitting.on_face([(-width, height), (width, height)])])


def _develop(canvas: Canvas, light: Light, rng: np.random.Generator) -> Image.Image:
    """The finished picture: the light's colour, a soft vignette and the grain of film."""
    h, w = canvas.height, canvas.width
    y = np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, w, dtype=np.float32)[None, :]
    level = 255 - 255 * f32(rng.uniform(0.0, 0.1)) * (x * x + y * y)
    grain = rng.standard_normal((h, w), np.float32) * f32(0.011 * 255) + f32(0.5)
    pixels = canvas.pixels * f32(light.colour)
    pixels *= level[..., None]
    pixels += grain[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))
