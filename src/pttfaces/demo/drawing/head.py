"""Paints the head as a relief under the light, with neck, ears and marks of the skin."""

import cv2
import numpy as np

from pttfaces.demo.drawing.colours import UMBER, dim
from pttfaces.demo.drawing.face_context import Expression, FaceContext, dome
from pttfaces.demo.drawing.person import Person
from pttfaces.demo.drawing.shapes import Array, curve, ellipse, f32, mirror, ribbon


def paint_neck(context: FaceContext) -> None:
    person, canvas, body = context.person, context.canvas, context.body
    n, unit = person.neck, body.unit
    right = [(n + 0.02, 0.5), (n, 1.1), (n + 0.04, 1.36), (n + 0.2, 1.6), (0.72, 1.84), (0.72, 2.6)]
    shape = body.project(curve([*right, *mirror(right[::-1], -1)]))
    canvas.paint(shape, dim(person.skin, 0.92), soft=0.4)
    skin = canvas.stencil(shape)
    jaw = context.pose.project(head_outline(person) + f32([0, 0.15]))
    canvas.shade(jaw, (0.66, 0.46, 0.42), 0.75, soft=0.06 * unit, within=skin)
    lx = context.light.direction[0]
    far = body.project(ellipse(-np.sign(lx) * 0.5, 1.35, 0.3, 0.6))
    canvas.shade(far, UMBER, 0.8 * abs(lx), soft=0.12 * unit, within=skin)
    for side in (-1, 1):
        bone = ribbon(curve([(0.07, 1.72), (0.4, 1.66), (0.85, 1.72)]), 0.05)
        bone = body.project(mirror(bone, side))
        canvas.shade(bone, UMBER, 0.3, soft=0.03 * unit, within=skin)


def paint_ears(context: FaceContext) -> None:
    person, canvas = context.person, context.canvas
    if person.hair_hangs:
        return
    x = person.width * 0.99
    shape = [(x - 0.08, -0.10), (x + 0.05, -0.15), (x + 0.12, -0.05), (x + 0.09, 0.12)]
    rim = curve(f32([*shape, (x + 0.03, 0.28), (x - 0.06, 0.28)]), closed=True)
    inner = ribbon(curve([(x, -0.06), (x + 0.06, -0.07), (x + 0.05, 0.05), (x, 0.15)]), 0.05)
    for side in (-1, 1):
        # Behind the plane of the face: a turned head hides the far ear and shows the near one.
        near, fold = (
            context.pose.project(mirror(part * f32([1, person.ears]), side), -0.1)
            for part in (rim, inner)
        )
        level = 0.86 + 0.1 * side * context.light.direction[0]
        canvas.paint(near, dim(person.skin, level), soft=0.4)
        canvas.shade(fold, UMBER, 0.7, soft=0.014 * context.pose.unit)


def paint_head(context: FaceContext) -> Array:
    """Paints the head, lit as a relief; returns its stencil (H, W)."""
    person, pose = context.person, context.pose
    step, corner = 0.025, (-1.1, -1.3)
    u, v = np.meshgrid(*(f32(np.arange(low, -low, step)) for low in corner))
    bulge = dome(u, v, person.width)
    x = (u - bulge * np.sin(pose.yaw)) / np.cos(pose.yaw)
    y = (v + bulge * np.sin(pose.pitch)) / np.cos(pose.pitch)
    dv, du = np.clip(np.gradient(_relief(x, y, person, context.expression), step), -2.2, 2.2)
    nz = 1 / np.sqrt(1 + du * du + dv * dv)
    colours = _lit(context, -du * nz, -dv * nz, nz)
    ax = np.abs(x)
    e, n, m = person.eye_spacing, person.nose_length, person.mouth_height
    blush = person.blush * _bump(ax, y, 0.44, 0.34, 0.2, 0.14) + 0.2 * _bump(x, y, 0, n, 0.12, 0.08)
    hollow = 0.22 * _bump(ax, y, e, -0.06, 0.2, 0.11)
    hollow = hollow + 0.12 * person.age * _bump(ax, y, e, 0.14, 0.13, 0.05)
    beard = _bump(x, y, 0, m + 0.28, 0.55, 0.3) + 0.8 * _bump(x, y, 0, m - 0.13, 0.26, 0.07)
    beard = person.stubble * (beard + 0.6 * _bump(ax, y, person.width * 0.9, 0.55, 0.14, 0.4))
    for amount, loss in (
        (blush, (0.0, 0.2, 0.17)),
        (hollow, (0.42, 0.6, 0.58)),
        (np.clip(beard, 0, 0.6), (0.66, 0.62, 0.56)),
    ):
        colours *= 1 - amount[..., None] * f32(loss)
    outline = pose.project(head_outline(person))
    patch = context.canvas.patch(outline, 0.4)
    if patch:
        c, s = np.cos(pose.roll) * pose.unit, np.sin(pose.roll) * pose.unit
        x0 = pose.origin[0] + c * corner[0] - s * corner[1] - patch.cols.start
        y0 = pose.origin[1] + s * corner[0] + c * corner[1] - patch.rows.start
        affine = f32([[c * step, -s * step, x0], [s * step, c * step, y0]])
        size = (patch.cover.shape[1], patch.cover.shape[0])
        placed = cv2.warpAffine(
            colours, affine, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        context.canvas.lay(patch, f32(placed))
    return context.canvas.stencil(outline)


def _relief(x: Array, y: Array, person: Person, expression: Expression) -> Array:
    """The height (units) of the face's surface over its frame."""
    ax = np.abs(x)
    e, n, m = person.eye_spacing, person.nose_length, person.mouth_height
    down = np.clip((y + 0.15) / (n + 0.15), 0, 1) ** 1.4
    bridge = np.exp(-((x / (0.09 + 0.045 * down)) ** 2))
    bridge = bridge / (1 + np.exp((y - n - 0.02) / 0.03)) / (1 + np.exp(-(y + 0.16) / 0.07))
    fold = np.abs(ax - (0.2 + 0.16 * np.clip((y - n) / 0.4, 0, 1)))
    crease = np.exp(-((fold / 0.04) ** 2)) * _bump(ax, y, 0.28, n + 0.18, 0.3, 0.16)
    return (
        dome(x, y, person.width)
        + (0.035 + 0.095 * down) * bridge
        + 0.05 * _bump(x, y, 0, n - 0.01, 0.085, 0.075)
        + 0.045 * _bump(ax, y, person.nose_width * 0.72, n, 0.055, 0.055)
        - 0.075 * _bump(ax, y, e * 0.95, -0.04, 0.2, 0.14)
        + 0.03 * _bump(ax, y, e, 0.0, 0.13, 0.09)
        + 0.022 * _bump(ax, y, e, -0.27, 0.26, 0.1)
        + (0.035 + 0.03 * expression.smile)
        * _bump(ax, y, 0.44, 0.34 - 0.04 * expression.smile, 0.19, 0.17)
        + 0.04 * _bump(ax, y, 0.08, m, 0.17, 0.11)
        - 0.026 * _bump(x, y, 0, m + 0.165, 0.16, 0.05)
        + 0.055 * _bump(x, y, 0, person.chin - 0.16, 0.17, 0.11)
        - (0.003 + 0.008 * expression.smile + 0.018 * person.age) * crease
    )


def _lit(context: FaceContext, nx: Array, ny: Array, nz: Array) -> Array:
    """The skin's colour under the light, for normals (h, w) → (h, w, 3)."""
    light = context.light
    lx, ly, lz = light.direction
    lambert = np.clip((nx * lx + ny * ly + nz * lz + 0.35) / 1.35, 0, 1)
    level = light.fill + (1 - light.fill) * lambert * 1.14
    level = (level * (0.70 + 0.30 * np.clip(nz, 0.25, 1) ** 0.4))[..., None]
    # Skin turns redder, not greyer, where the light leaves it.
    colours = f32(context.person.skin) * level ** f32([0.6, 1.0, 1.1])
    half = f32([lx, ly, lz + 1])
    half /= np.linalg.norm(half)
    gloss = np.clip(nx * half[0] + ny * half[1] + nz * half[2], 0, 1) ** 24
    return (colours + 0.07 * gloss[..., None] * f32([1, 0.97, 0.92])).astype(np.float32)


def paint_marks(context: FaceContext, face: Array) -> None:
    """Moles, freckles and the lines of the forehead; face: the head's stencil (H, W)."""
    person = context.person
    for x, y in person.moles:
        context.shade(ellipse(x, y, 0.012, 0.012), (0.42, 0.3, 0.26), 0.9, within=face)
    for x, y in person.freckles:
        context.shade(ellipse(x, y, 0.01, 0.01), (0.76, 0.6, 0.5), 0.6, within=face)
    for height in (-0.5, -0.4):
        line = curve([(-0.3, height + 0.02), (0, height), (0.3, height + 0.02)])
        alpha = max(0.0, 0.7 * (person.age - 0.35))
        context.shade(ribbon(line, 0.02), (0.8, 0.68, 0.64), alpha, 0.01)


def head_outline(person: Person) -> Array:
    w, jaw, chin = person.width, person.width * person.jaw, person.chin
    right = [
        (0.42 * w, -1.02),
        (0.80 * w, -0.78),
        (0.985 * w, -0.32),
        (w * person.cheek, 0.12),
        (0.45 * w * person.cheek + 0.52 * jaw, 0.5),
        (0.97 * jaw, 0.74),
        (0.5 * jaw + 0.5 * person.chin_width + 0.02, chin - 0.17),
        (person.chin_width * 0.72, chin - 0.035),
    ]
    left = [(-x, y) for x, y in reversed(right)]
    return curve([(0, -1.08), *right, (0, chin), *left], closed=True)


def _bump(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    return np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)
