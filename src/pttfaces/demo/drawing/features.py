"""Paints the features of the face, nose, mouth, eyes and brows, as soft-edged shapes."""

import numpy as np
import numpy.typing as npt

from pttfaces.demo.drawing.colours import UMBER, WHITE, Colour, dim, mix
from pttfaces.demo.drawing.face_context import Expression, FaceContext
from pttfaces.demo.drawing.person import Person
from pttfaces.demo.drawing.shapes import Array, along, curve, ellipse, f32, mirror, ribbon

NOSE_OUT = 0.16  # units from the face to the tip of the nose


def paint_nose(context: FaceContext) -> None:
    person = context.person
    n, w = person.nose_length, person.nose_width
    lx = context.light.direction[0]
    context.shade(ellipse(-0.03 * lx, n + 0.085, w * 0.85, 0.04), UMBER, 0.34, 0.03, 0.1)
    wing = curve([(w * 0.97, n - 0.07), (w * 1.07, n), (w * 0.9, n + 0.05)])
    for side in (-1, 1):
        stroke = mirror(ribbon(wing, 0.028, (0.1, 0.5)), side)
        context.shade(stroke, UMBER, 0.5, 0.012, 0.1)
        hole = ellipse(w * 0.44 * side, n + 0.048, 0.042, 0.018, 0.3 * side)
        context.shade(hole, (0.40, 0.22, 0.20), 0.8, 0.008, 0.12)
    x, y = nose_tip(person)
    tip = ellipse(x + 0.04 * lx, y, 0.028, 0.024)
    context.paint(tip, (1.0, 0.97, 0.94), 0.4, 0.018, NOSE_OUT)


def nose_tip(person: Person) -> tuple[float, float]:
    """The tip of the nose, above the nostrils and `NOSE_OUT` in front of the face."""
    return 0.0, person.nose_length - 0.035


def mouth_corner(person: Person, expression: Expression) -> tuple[float, float]:
    """The corner of the mouth on the image's right."""
    width = person.mouth_width * (0.99 + 0.12 * expression.smile)
    return width, person.mouth_height + 0.008 - 0.05 * expression.smile


def paint_mouth(context: FaceContext) -> None:
    person, expression, canvas = context.person, context.expression, context.canvas
    w, corner = mouth_corner(person, expression)
    thin = person.lip_fullness * (1 - 0.18 * expression.smile)
    upper, lower = 0.066 * thin, 0.092 * thin
    gap = 0.13 * expression.open
    seam = person.mouth_height + 0.03 * expression.smile
    up, down = seam - 0.25 * gap, seam + 0.75 * gap

    def edge(*half: tuple[float, float]) -> Array:
        """A line from corner to corner, from its points right of the middle, outermost first."""
        right = [(x * w, y) for x, y in half]
        left = [(-x, y) for x, y in right if x]
        return curve([(-w, corner), *left, *reversed(right), (w, corner)])

    top = edge((0.55, up - upper * 0.62), (0.23, up - upper), (0.0, up - upper * 0.76))
    above = edge((0.5, up + 0.004), (0.0, up + 0.012))
    below = edge((0.5, down - 0.004), (0.0, down + 0.012))
    bottom = edge((0.6, down + lower * 0.62), (0.0, down + lower))
    context.shade(ellipse(0, down + lower + 0.055, w * 0.55, 0.025), UMBER, 0.38, 0.028, 0.03)
    context.paint(np.concatenate([top, bottom[::-1]]), person.lips, 0.94, 0.006, 0.05)
    context.shade(np.concatenate([top, above[::-1]]), (0.86, 0.78, 0.79), 0.85, 0.006, 0.05)
    if gap:
        hole = np.concatenate([above, below[::-1]])
        inside = canvas.stencil(context.on_face(hole, 0.05))
        context.paint(hole, (0.30, 0.07, 0.08), 1.0, 0.0, 0.05)
        teeth = [(w * 0.84, up - 0.06), (w * 0.8, up + gap * 0.3), (0.0, up + gap * 0.62 + 0.012)]
        teeth = [*teeth, (-w * 0.8, up + gap * 0.3), (-w * 0.84, up - 0.06)]
        context.paint(curve(teeth, closed=True), (0.97, 0.95, 0.92), 0.97, 0.0, 0.05, inside)
        context.shade(ribbon(above, 0.03), (0.5, 0.36, 0.36), 0.55, 0.01, 0.05, inside)
    else:
        line = ribbon(above, 0.022, (0.5, 0.5))
        context.paint(line, dim(person.lips, 0.42), 0.9, 0.005, 0.05)
    for side in (-1, 1):
        dimple = ellipse(side * (w + 0.012), corner, 0.028, 0.018)
        context.shade(dimple, UMBER, 0.6, 0.016, 0.04)
    shine = ellipse(0.06 * context.light.direction[0], down + lower * 0.45, w * 0.34, lower * 0.13)
    context.paint(shine, (1.0, 0.95, 0.94), 0.22 + 0.25 * person.lip_paint, 0.014, 0.06)


def paint_eye(context: FaceContext, side: int, face: Array) -> None:
    """The eye on the image's right (side 1) or left (-1); face: the head's stencil (H, W)."""
    person, expression, canvas = context.person, context.expression, context.canvas
    e, ew, eh = person.eye_spacing, person.eye_width, person.eye_height * expression.lids

    def to_units(points: npt.ArrayLike) -> Array:
        """x from -1 (inner corner) to 1 (outer), y in heights of the upper lid → units."""
        p = f32(points)
        x, y = (e + p[:, 0] * ew) * side, p[:, 1] * eh - person.eye_tilt * p[:, 0]
        return np.stack([x, y], 1)

    lift = 0.14 * expression.smile
    upper = curve(
        [(-1, 0.20), (-0.82, -0.22), (-0.42, -0.80), (0.1, -0.97), (0.6, -0.70), (1.0, 0.02)]
    )
    lower = curve(
        [(-1, 0.20), (-0.5, 0.54 - lift), (0.1, 0.70 - lift), (0.6, 0.54 - lift), (1.0, 0.02)]
    )
    powder = mix((0.70, 0.54, 0.50), (0.56, 0.38, 0.38), person.lashes)
    context.shade(to_units(ellipse(0.08, -0.5, 1.1, 0.8)), powder, 0.36, 0.05, 0.0, face)
    opening = to_units(np.concatenate([upper, lower[::-1]]))
    inside = canvas.stencil(context.on_face(opening))
    context.paint(opening, (0.96, 0.95, 0.94))
    r = 0.108
    x, y = side * e + expression.gaze[0], -0.012 + expression.gaze[1]

    def disc(
        dx: float, dy: float, size: float, colour: Colour, alpha: float, soft: float = 0.0
    ) -> None:
        shape = ellipse(x + dx * r, y + dy * r, size * r, size * r)
        context.paint(shape, colour, alpha, soft * r, 0.0, inside)

    lx = 1 if context.light.direction[0] > 0 else -1
    disc(0, 0, 1.0, dim(person.iris, 0.36), 1.0)
    disc(0, 0.08, 0.84, person.iris, 1.0, 0.1)
    disc(0, 0.42, 0.42, mix(person.iris, (0.98, 0.85, 0.6), 0.45), 0.8, 0.2)
    disc(0, 0, 0.46, (0.03, 0.025, 0.03), 0.97)
    brim = ribbon(to_units(upper + f32([0, 0.14])), 0.075)
    context.shade(brim, (0.42, 0.36, 0.38), 0.7, 0.018, 0.0, inside)
    disc(0.34 * lx, -0.36, 0.23, WHITE, 0.97)
    disc(-0.3 * lx, 0.42, 0.12, WHITE, 0.45)
    context.paint(to_units(ellipse(-0.93, 0.2, 0.09, 0.16)), (0.88, 0.6, 0.56), 0.6, within=inside)
    ink = mix(dim(person.hair_colour, 0.35), (0.07, 0.045, 0.04), 0.7)
    context.paint(ribbon(to_units(lower), 0.014), mix(ink, person.skin, 0.45), 0.55)
    if person.crease > 0.25:
        fold = to_units(upper[5:] + f32([0, -0.36]))
        context.shade(ribbon(fold, 0.022), UMBER, 0.8 * person.crease, 0.007)
    bag = ribbon(to_units(lower + f32([0, 0.45])), 0.02)
    context.shade(bag, (0.76, 0.6, 0.57), 0.2 + 0.5 * person.age, 0.014)
    wing = [*upper, (1.0 + 0.15 * person.lashes, -0.2)]
    context.paint(ribbon(to_units(wing), 0.03 + 0.018 * person.lashes, (0.3, 0.4)), ink, 0.95)
    for k in range(int(9 * person.lashes)):
        root = along(upper, 0.42 + 0.07 * k)
        lean = 0.02 + 0.025 * k
        hair = root + f32([(0, 0), (0.4 * lean, -0.18), (lean, -0.32)])
        context.paint(ribbon(to_units(curve(hair, 4)), 0.015, (1.0, 0.1)), ink, 0.85)


def paint_brow(context: FaceContext, side: int) -> None:
    """The brow on the image's right (side 1) or left (-1), hair by hair."""
    person, rng = context.person, context.rng
    e, ew = person.eye_spacing, person.eye_width
    y, tilt = -person.brow_height - context.expression.brows, person.brow_tilt
    inner, outer = (e - 1.05 * ew, y + tilt + 0.012), (e + 1.3 * ew, y - tilt + 0.03)
    peak = (e + 0.45 * ew, y - person.brow_arch - 0.4 * tilt)
    line = curve([inner, (e - 0.4 * ew, (inner[1] + peak[1]) / 2 - 0.006), peak, outer])
    colour = mix(dim(person.hair_colour, 0.8), (0.26, 0.17, 0.13), 0.5)
    width = person.brow_thickness
    context.paint(mirror(ribbon(line, width, (0.8, 0.15)), side), colour, 0.66, 0.013)
    for at in np.linspace(0.02, 0.92, 20):
        spread = width * (0.5 - 0.3 * at)
        root = along(line, at) + f32([0, rng.uniform(-0.2, 1.0) * spread])
        tip = root + f32([0.03 + 0.05 * at, -spread * 1.5 * (1 - at) + 0.01])
        stroke = ribbon(np.stack([root, (root + tip) / 2, tip]), 0.012, (1, 0.2))
        context.paint(mirror(stroke, side), dim(colour, 0.72), 0.5)
