"""Paints what a person wears: a garment with its neckline, earrings, glasses.

Garments follow the pose of the body, earrings and glasses that of the head.
"""

import numpy as np

from pttfaces.demo.drawing.colours import CLOTHES, UMBER, WHITE, Colour, dim, jitter, mix, pick
from pttfaces.demo.drawing.face_context import FaceContext
from pttfaces.demo.drawing.shapes import curve, ellipse, f32, mirror, rectangle, ribbon, rounded


def paint_clothes(context: FaceContext) -> None:
    person, canvas, body, rng = context.person, context.canvas, context.body, context.rng
    unit, n = body.unit, person.neck
    colour = jitter(pick(rng, CLOTHES), rng, 0.02)
    cut = str(rng.choice(["crew", "vee", "shirt", "turtle", "scoop"]))
    collars: dict[str, list[tuple[float, float]]] = {
        "crew": [(n + 0.1, 1.4), (0.6 * n, 1.56), (0.0, 1.6)],
        "vee": [(n + 0.12, 1.42), (0.5 * n, 1.72), (0.0, 2.02)],
        "shirt": [(n + 0.04, 1.34), (0.5 * n, 1.6), (0.0, 1.84)],
        "turtle": [(n + 0.05, 1.2), (0.5 * n, 1.27), (0.0, 1.29)],
        "scoop": [(n + 0.3, 1.5), (0.85 * n, 1.82), (0.0, 1.9)],
    }
    half = collars[cut]
    smooth = 1 if cut in ("vee", "shirt") else 8
    neckline = curve([*mirror(half, -1), *half[-2::-1]], smooth)
    wide = 0.94 + 0.9 * (n - 0.34)
    edge = [half[0], (n + 0.34, 1.56), (0.95 * wide, 1.72), (1.24 * wide, 1.88)]
    edge += [(1.42 * wide, 2.12), (1.50 * wide, 2.5), (1.55 * wide, 3.2), (1.6 * wide, 6.0)]
    right = curve(edge)
    outline = body.project(np.concatenate([mirror(right[::-1], -1), neckline, right]))
    patch = canvas.patch(outline, 0.4)
    if patch is None:
        return
    rows = np.arange(patch.rows.start, patch.rows.stop, dtype=np.float32)[:, None]
    cols = np.arange(patch.cols.start, patch.cols.stop, dtype=np.float32)[None, :]
    x, y = (cols - body.origin[0]) / unit, (rows - body.origin[1]) / unit
    level = 0.92 + 0.13 * context.light.direction[0] * x - 0.09 * (y - 1.7)
    level = level - 0.12 * np.clip(np.abs(x) - 0.85, 0, 1)
    fold = rng.uniform(0, 6, 3).astype(np.float32)
    level += 0.04 * np.sin(3.2 * x + 1.2 * y + fold[0]) * np.sin(2.1 * y + fold[1])
    level += 0.025 * np.sin(4.6 * x - 1.8 * y + fold[2])
    level = level[..., None]
    cloth = f32(colour) * level
    if cut != "shirt" and rng.random() < 0.22:
        stripe = np.clip(np.sin(y * 13 + 0.5 * np.cos(2 * x)) * 3, -1, 1)[..., None] * 0.4 + 0.4
        cloth += stripe * (f32(pick(rng, CLOTHES)) * level - cloth)
    canvas.lay(patch, f32(cloth))
    trim = dim(colour, 0.84) if sum(colour) > 0.9 else mix(colour, WHITE, 0.16)
    band = body.project(ribbon(neckline, 0.07, (1, 1)))
    canvas.shade(band, (0.66, 0.62, 0.62), 0.5, soft=0.05 * unit)
    canvas.paint(band, trim, 0.9, soft=0.5)
    if cut == "shirt":
        _collar(context, colour)


def _collar(context: FaceContext, colour: Colour) -> None:
    canvas, body = context.canvas, context.body
    n, unit = context.person.neck, body.unit
    placket = body.project(rectangle(-0.015, 1.84, 0.015, 5))
    canvas.shade(placket, (0.7, 0.7, 0.72), 0.8, soft=0.01 * unit)
    flap = [(n - 0.03, 1.24), (n + 0.12, 1.36), (n + 0.25, 1.86), (n - 0.02, 2.0), (0.0, 1.80)]
    for side in (-1, 1):
        shape = body.project(mirror(f32(flap), side))
        drop = f32([0, 0.03 * unit])
        canvas.shade(shape + drop, (0.6, 0.58, 0.6), 0.8, soft=0.03 * unit)
        level = 0.99 + 0.06 * side * context.light.direction[0]
        canvas.paint(shape, mix(dim(colour, level), WHITE, 0.07), soft=0.5)


def paint_earrings(context: FaceContext) -> None:
    person, canvas, pose = context.person, context.canvas, context.pose
    if person.earrings == "none" or person.hair_hangs:
        return
    gold = (0.93, 0.78, 0.45)
    for side in (-1, 1):
        x, y = side * (person.width * 0.99 + 0.02), 0.28 * person.ears
        if person.earrings == "stud":
            canvas.paint(pose.project(ellipse(x, y, 0.034, 0.034), -0.1), gold, soft=0.4)
            glint = pose.project(ellipse(x - 0.01, y - 0.012, 0.012, 0.012), -0.1)
            canvas.paint(glint, WHITE, 0.9, soft=0.5)
        else:
            ring = ribbon(curve(ellipse(x, y + 0.13, 0.085, 0.12)[::4], closed=True), 0.03, (1, 1))
            canvas.paint(pose.project(ring, -0.1), gold, soft=0.4)


def paint_glasses(context: FaceContext) -> None:
    person, canvas, pose = context.person, context.canvas, context.pose
    if person.glasses == "none":
        return
    e, unit, before = person.eye_spacing, pose.unit, 0.82
    power, rx, ry = (2.0, 0.262, 0.24) if person.glasses == "round" else (3.6, 0.275, 0.205)
    rim = rounded(0, 0.025, rx, ry, power)
    glint = f32([(-0.18, 0.18), (-0.11, 0.18), (0.04, -0.12), (-0.03, -0.12)])
    bars = [ribbon(curve([(-(e - rx), 0.0), (0, -0.05), (e - rx, 0.0)]), 0.03, (1, 1))]
    for side in (-1, 1):
        centre = f32([side * e, 0])
        ring = ribbon(rim + centre, 0.032, (1, 1))
        canvas.paint(pose.project(glint + centre, before), WHITE, 0.12, soft=1.0)
        cast = pose.project(ring + f32([0, 0.035]), before)
        canvas.shade(cast, UMBER, 0.4, soft=0.015 * unit)
        bars.append(ring)
        arm = np.linspace((side * (e + rx), -0.04), (side * person.width * 1.01, -0.06), 5)
        back = np.linspace(before, 0.0, 5, dtype=np.float32)
        temple = pose.project(arm, back)
        frame = ribbon(temple, 0.03 * unit, (1, 1))
        canvas.paint(frame, dim(person.glasses_colour, 0.8), 0.95, soft=0.4)
    for bar in bars:
        canvas.paint(pose.project(bar, before), person.glasses_colour, 0.96, soft=0.4)
