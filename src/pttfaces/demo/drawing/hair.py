"""Hair: hairstyles behind and in front of the head, made of locks of strands.

A style lays out curves in the face's frame; `paint_lock` paints the strands between them.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from pttfaces.demo.drawing.colours import UMBER, dim, mix
from pttfaces.demo.drawing.face_context import Sitting
from pttfaces.demo.drawing.person import Person
from pttfaces.demo.drawing.shapes import Array, Line, along, curve, f32, mirror, ribbon


def paint_hair_behind(sitting: Sitting) -> None:
    """What of the hair the head and the shoulders hide."""
    person = sitting.person
    w, v = person.width, person.hair_volume
    if person.hair_hangs:
        end, wide = {"bob": (0.92, 0.9), "medium": (1.45, 1.5), "long": (2.4, 1.9)}[person.hair]
        x = w + v * wide
        half = [*skull_curve(person, 0.0, v), (x, 0.55 * end), (x * 0.84, end)]
        middle = [(0.0, half[0][1]), (0, -0.6), (0, -0.2), (0, 0), (0, 0.2), (0, 0.6), (0, end)]
        paint_lock(sitting, [mirror(half, -1), middle, half], 0.62, 36, 0.05, 7, 0.1)
    elif person.hair == "ponytail":
        outer = [(0.3, -1.0), (1.05, -0.55), (1.22, 0.4), (0.98, 1.5)]
        inner = [(0.2, -0.9), (0.78, -0.35), (0.84, 0.4), (0.93, 1.45)]
        paint_lock(sitting, guides_between(inner, outer, person.hair_side), 0.82, 22, 0.08)
    elif person.hair == "bun":
        y = -1.2 - v
        left = [(-0.24, y + 0.2), (-0.36, y), (-0.2, y - 0.24), (0.02, y - 0.28)]
        right = [(0.24, y + 0.2), (0.36, y), (0.24, y - 0.22), (0.05, y - 0.28)]
        paint_lock(sitting, [left, right], 0.95, 20)


def paint_hair_in_front(sitting: Sitting, face: Array) -> None:
    """The hair on the head, over the ears and the forehead; face: the head's stencil (H, W)."""
    person = sitting.person
    w = person.width
    hairline = [(0.99 * w, 0.02), (0.9 * w, -0.32), (0.62 * w, -0.60), (0.0, -0.70)]
    line = curve([*hairline, *(mirror(hairline[-2::-1], -1))])
    roof = f32([(-w - 0.3, -1.5), (w + 0.3, -1.5)])
    drop = f32([0, 0.16 if person.fringe == "bangs" else 0.05])
    sitting.shade(np.concatenate([line + drop, roof]), UMBER, 0.55, 0.06, 0.0, face)
    volume = person.hair_volume * (0.4 if person.hair in ("crop", "quiff") else 0.85)
    contour = skull_curve(person, 0.0, volume)
    cap = np.concatenate([curve([*mirror(contour[::-1], -1), *contour[1:]]), line])
    sitting.paint(cap, dim(person.hair_colour, 0.62))
    if person.hair in ("ponytail", "bun"):
        _pulled_back(sitting)
        _fringe(sitting)
    elif person.hair == "crop":
        _cropped(sitting)
    elif person.hair == "quiff":
        _quiff(sitting)
    else:
        _parted(sitting)
        _fringe(sitting)


def _pulled_back(sitting: Sitting) -> None:
    person = sitting.person
    w = person.width
    crown = (0.0, -1.08 - 0.7 * person.hair_volume)
    contour = skull_curve(person, 0.0, 0.7 * person.hair_volume, 4)[::-1]
    outer = [(w, 0.08), *contour[:-1], crown]
    second = [(0.94 * w, -0.2), (0.82 * w, -0.46), (0.6 * w, -0.76), (0.3 * w, -0.98), crown]
    third = [(0.5 * w, -0.64), (0.44 * w, -0.76), (0.34 * w, -0.88), (0.2 * w, -1.0), crown]
    right = [f32(line) for line in (outer, second, third)]
    left = [mirror(line, -1) for line in right]
    paint_lock(sitting, [*left, *right[::-1]], 1.0, 44, 0.0, 1, 0.32)


def _sides(sitting: Sitting) -> None:
    """Short hair over the temples."""
    person = sitting.person
    w = person.width
    outer = [*skull_curve(person, 0.5 * w, 0.4 * person.hair_volume, 4), (w, 0.12)]
    inner = [
        (0.45 * w, -0.8),
        (0.72 * w, -0.6),
        (0.88 * w, -0.4),
        (0.94 * w, -0.2),
        (0.97 * w, 0.1),
    ]
    for side in (-1, 1):
        paint_lock(sitting, guides_between(inner, outer, side), 0.76, 18)


def _cropped(sitting: Sitting) -> None:
    person = sitting.person
    w, top = person.width, -1.1 - 0.5 * person.hair_volume
    edge = -0.48 if person.fringe == "bangs" else -0.62
    _sides(sitting)
    guides = [
        [
            (0.35 * x, top + 0.08 * x * x),
            (0.74 * w * x, top + 0.1 + 0.1 * x * x),
            (0.86 * w * x, edge - 0.08 * (1 - x * x)),
        ]
        for x in (-1.0, -0.5, 0.0, 0.5, 1.0)
    ]
    paint_lock(sitting, guides, 1.0, 44, 0.12, 11, 0.2)


def _quiff(sitting: Sitting) -> None:
    person = sitting.person
    w, top, side = person.width, -1.14 - person.hair_volume, person.hair_side
    _sides(sitting)
    guides = []
    for x in (-1.0, -0.5, 0.0, 0.5, 1.0):
        round_off = 1 - x * x
        y, rise = -0.56 - 0.14 * round_off, top + 0.12 - 0.16 * round_off
        guides.append(
            [
                (0.80 * w * x, y),
                (0.84 * w * x + 0.02, (y + rise) / 2 - 0.03),
                (0.72 * w * x + 0.08, rise + 0.02),
                (0.48 * w * x + 0.16, rise + 0.03 + 0.05 * x * x),
            ]
        )
    paint_lock(sitting, [mirror(g, side) for g in guides[::side]], 1.0, 44, 0.05, 9)


def _parted(sitting: Sitting) -> None:
    """Hair that falls from a parting to both sides, over the temples and further down."""
    person = sitting.person
    w, v = person.width, person.hair_volume
    part = person.hair_part if person.fringe in ("side", "parted") else 0.0
    below: dict[str, tuple[Line, Line]] = {
        "short": ([(0.96 * w, -0.05), (0.98 * w, 0.12)], [(w + v * 0.85, 0.0), (w + 0.02, 0.14)]),
        "bob": ([(0.9 * w, 0.4), (0.78 * w, 0.95)], [(w + v * 1.2, 0.45), (w * 0.94, 1.0)]),
        "medium": ([(0.92 * w, 0.6), (0.98 * w, 1.4)], [(w + v * 1.4, 0.7), (w + v, 1.5)]),
        "long": ([(0.92 * w, 0.8), (0.93 * w, 2.3)], [(w + v * 1.4, 0.9), (w + v * 1.2, 2.4)]),
    }
    inner_end, outer_end = below[person.hair]
    for side in (-1, 1):
        p = part * side
        outer = [*skull_curve(person, p, v), *outer_end]
        inner = [(p, -0.72), (p + 0.3 * (w - p), -0.68), (p + 0.62 * (w - p), -0.56)]
        inner += [(0.86 * w, -0.3), (0.95 * w, -0.05), *inner_end]
        paint_lock(sitting, guides_between(inner, outer, side, 0.02), 1.0, 34, 0.05, 6)
    scalp = ribbon([(part, -0.74), (part, -0.95), (part * 0.95, -1.1 - 0.6 * v)], 0.014)
    sitting.paint(scalp, mix(person.skin, person.hair_colour, 0.4), 0.55)


def _fringe(sitting: Sitting) -> None:
    person = sitting.person
    w, top = person.width, -1.08 - 0.8 * person.hair_volume
    root = abs(person.hair_part)
    if person.fringe == "bangs":
        guides = [
            [
                (0.3 * x, top + 0.03),
                (0.66 * w * x, -0.9 + 0.14 * x * x),
                (0.86 * w * x, -0.36 + 0.10 * x * x),
            ]
            for x in (-1.0, -0.6, 0.0, 0.6, 1.0)
        ]
        paint_lock(sitting, guides, 1.0, 48, 0.12, 8)
    elif person.fringe == "curtain":
        inner = [(0.02, -0.95), (0.24, -0.68), (0.62 * w, -0.4), (0.9 * w, -0.02)]
        outer = [(0.02, top), (0.5, -0.98), (0.9 * w, -0.52), (w * 0.99, 0.08)]
        for half in (-1, 1):
            paint_lock(sitting, guides_between(inner, outer, half), 1.0, 26, 0.1, 4)
    elif person.fringe == "side":
        inner = [(root, -0.9), (root - 0.28, -0.64), (-0.35, -0.45), (-0.9 * w, -0.16)]
        outer = [(root, top), (root - 0.4, -1.02), (-0.74 * w, -0.74), (-0.98 * w, -0.04)]
        paint_lock(sitting, guides_between(inner, outer, person.hair_side), 1.0, 30, 0.08, 5)


def paint_lock(
    sitting: Sitting,
    guides: Sequence[Line],
    tone: float = 1.0,
    strands: int = 30,
    ragged: float = 0.0,
    clumps: int = 6,
    gloss: float = 0.34,
) -> None:
    """Paints a lock of hair: strands that run from root to tip between guide curves.

    guides: two or more curves of points in the face's frame, side by side; tone: lightness;
    ragged: share of their length by which strands between the clumps fall short; gloss: of the
    band of light that lies across the lock.
    """
    person, canvas, rng, light = sitting.person, sitting.canvas, sitting.rng, sitting.light
    fine, steps = 40, 16
    rails = np.stack([along(curve(guide), np.linspace(0, 1, fine)) for guide in guides])
    across = curve(rails.reshape(len(rails), -1))
    t, s = np.linspace(0, 1, strands), np.linspace(0, 1, steps)
    dense = along(across, t).reshape(strands, fine, 2)
    comb = np.abs((t * clumps + rng.uniform()) % 1 - 0.5) * 2
    length = 1 - ragged * (0.75 * comb + 0.4 * rng.random(strands))
    flow = np.stack([along(dense[k], s * length[k]) for k in range(strands)])
    swing = np.clip(2 * s - 0.5, 0, 1) * np.sin(9 * s + 2.5 * t[:, None] + rng.uniform(0, 6))
    flow[..., 0] += (0.075 * person.hair_wave * swing).astype(np.float32)
    pixels = sitting.on_face(flow)
    patch = canvas.patch(
        np.concatenate([pixels[0], pixels[:, -1], pixels[-1, ::-1], pixels[::-1, 0]]), 0.4
    )
    if patch is None:
        return
    streak = np.convolve(rng.normal(0, 0.10, strands + 2), [0.3, 0.5, 0.3], "valid")
    # The same streaks would stand out more on light hair.
    dark = 1.1 - 0.8 * max(person.hair_colour)
    streak = dark * (streak + rng.normal(0, 0.035, strands))
    level = tone * (1 + streak[:, None]) * (1.06 - 0.2 * s)
    level = level * (1 + 0.28 * light.direction[0] * np.clip(flow[..., 0], -1.2, 1.2))
    middle = 0.32 - 0.08 * light.direction[1] + rng.normal(0, 0.018, (strands, 1))
    band = np.exp(-(((s - middle) / 0.13) ** 2)) * (0.7 + 0.3 * rng.random((strands, 1)))
    base = np.array(person.hair_colour)
    sheen = np.array(mix(person.hair_colour, (1.0, 0.93, 0.86), 0.45)) - base
    colours = base * level[..., None] + (gloss * tone * band)[..., None] * sheen
    colours = np.clip(colours * 255, 0, 255)
    layer = np.empty((*patch.cover.shape, 3), np.uint8)
    layer[:] = np.clip(base * tone * 255, 0, 255)
    grid = np.round((pixels - f32([patch.cols.start, patch.rows.start])) * 16)
    quads = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], 2)
    tints = colours[:-1, :-1].reshape(-1, 3).tolist()
    for quad, tint in zip(quads.reshape(-1, 4, 2).astype(np.int32), tints, strict=True):
        cv2.fillConvexPoly(layer, quad, tint, cv2.LINE_8, 4)
    layer = np.asarray(cv2.GaussianBlur(layer, (0, 0), max(0.5, 0.01 * sitting.pose.unit)))
    for k in range(strands - 1):
        share = rng.random()
        hair = np.round(grid[k] * (1 - share) + grid[k + 1] * share).astype(np.int32)
        tint = (
            colours[k, steps // 2] * (1 + dark * (0.24 if rng.random() < 0.4 else -0.32)) + 3
        ).tolist()
        cv2.polylines(layer, [hair], False, tint, 1, cv2.LINE_AA, 4)
    canvas.lay(patch, f32(f32(layer) / 255))


def guides_between(inner: Line, outer: Line, side: int, bulge: float = 0.0) -> list[Line]:
    """Three guides of a lock: two curves of as many points, and one between them."""
    a, b = f32(inner), f32(outer)
    middle = f32((a + b) / 2 + f32([bulge, -bulge]))
    return [mirror(line, side) for line in (a, middle, b)]


def skull_curve(
    person: Person, start: float, volume: float, count: int = 5
) -> list[tuple[float, float]]:
    """Points on the hair's contour, from x = start at the top to the side of the head."""
    rx, ry = person.width + volume, 0.88 + volume
    angles = np.linspace(np.arcsin(np.clip(start / rx, -1, 1)), np.pi / 2, count)
    return [(float(rx * np.sin(a)), float(-0.2 - ry * np.cos(a))) for a in angles]
