"""Composes whole images: where people stand, the order of painting, light, vignette and grain."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from pttfaces.demo.drawing.backdrops import paint_backdrop
from pttfaces.demo.drawing.canvas import Canvas
from pttfaces.demo.drawing.clothes import paint_clothes, paint_earrings, paint_glasses
from pttfaces.demo.drawing.face_context import FaceContext, Light
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
    """An image and its faces.

    image: RGB; landmarks: (faces, 5, 2) float32, pixels from the upper left corner: left eye, right
    eye, nose, left and right corner of the mouth, left and right as seen in the image.
    """

    image: Image.Image
    landmarks: Array


def portrait(
    person: Person, rng: np.random.Generator, size: tuple[int, int] = (512, 512)
) -> Drawing:
    """An image of a person; pose, expression, light, clothes and background come from `rng`.

    size: (width, height) in pixels.
    """
    width, height = size
    light = Light.random(rng)
    canvas = Canvas(width, height)
    paint_backdrop(canvas, rng)
    unit = min(size) * float(rng.uniform(0.19, 0.28))
    x = width * float(rng.uniform(0.42, 0.58))
    y = max(height * float(rng.uniform(0.37, 0.46)), 1.4 * unit)
    context = FaceContext.random(canvas, person, light, rng, (x, y), unit)
    _draw(context)
    return Drawing(_develop(canvas, light, rng), _landmarks(context)[None])


def group(
    people: Sequence[Person], rng: np.random.Generator, size: tuple[int, int] = (640, 480)
) -> Drawing:
    """Several people side by side in one image; `people` from left to right, at least one.

    size: (width, height) in pixels. Landmarks come in the order of `people`.
    """
    width, height = size
    light = Light.random(rng)
    canvas = Canvas(width, height)
    paint_backdrop(canvas, rng)
    unit = min(width / (2.5 * len(people)), height / 4.2) * float(rng.uniform(0.92, 1.05))
    contexts = []
    for index, person in enumerate(people):
        x = width * (index + 0.5 + float(rng.uniform(-0.05, 0.05))) / len(people)
        y = height * float(rng.uniform(0.36, 0.46))
        contexts.append(FaceContext.random(canvas, person, light, rng, (x, y), unit))
    for context in sorted(contexts, key=lambda one: one.pose.origin[1]):
        _draw(context)
    landmarks = np.stack([_landmarks(context) for context in contexts])
    return Drawing(_develop(canvas, light, rng), landmarks)


def scene(rng: np.random.Generator, size: tuple[int, int] = (640, 480)) -> Drawing:
    """An image without a face: a landscape, a dish, a room or a sign. size: (width, height)."""
    light = Light.random(rng)
    canvas = Canvas(*size)
    paint_scene(canvas, rng)
    return Drawing(_develop(canvas, light, rng), np.zeros((0, 5, 2), np.float32))


def blurred(drawing: Drawing, rng: np.random.Generator) -> Drawing:
    """The image out of focus: too blurred to train on, while detectors still find its faces."""
    eyes = drawing.landmarks[:, 1] - drawing.landmarks[:, 0]
    apart = float(np.linalg.norm(eyes, axis=1).max()) if len(eyes) else min(drawing.image.size) / 6
    pixels = cv2.GaussianBlur(np.asarray(drawing.image), (0, 0), apart * rng.uniform(0.05, 0.075))
    return Drawing(Image.fromarray(pixels), drawing.landmarks)


def _draw(context: FaceContext) -> None:
    """Paints a person, the farthest parts first."""
    paint_hair_behind(context)
    paint_neck(context)
    paint_clothes(context)
    paint_ears(context)
    face = paint_head(context)
    paint_marks(context, face)
    paint_nose(context)
    paint_mouth(context)
    for side in (-1, 1):
        paint_eye(context, side, face)
        paint_brow(context, side)
    paint_hair_in_front(context, face)
    paint_earrings(context)
    paint_glasses(context)


def _landmarks(context: FaceContext) -> Array:
    """Landmarks (5, 2) in pixels, in the order of `Drawing`."""
    person = context.person
    width, height = mouth_corner(person, context.expression)
    eyes = context.on_face([(-person.eye_spacing, 0), (person.eye_spacing, 0)])
    nose = context.on_face([nose_tip(person)], NOSE_OUT)
    return np.concatenate([eyes, nose, context.on_face([(-width, height), (width, height)])])


def _develop(canvas: Canvas, light: Light, rng: np.random.Generator) -> Image.Image:
    """The finished image, with the light's colour, a soft vignette and grain."""
    h, w = canvas.height, canvas.width
    y = np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, w, dtype=np.float32)[None, :]
    level = 255 - 255 * f32(rng.uniform(0.0, 0.1)) * (x * x + y * y)
    grain = rng.standard_normal((h, w), np.float32) * f32(0.011 * 255) + f32(0.5)
    pixels = canvas.pixels * f32(light.colour)
    pixels *= level[..., None]
    pixels += grain[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))
