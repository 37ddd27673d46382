"""A lock of hair: strands with streaks and a band of light, run between guide curves.

Knows nothing of hairstyles; hair.py lays out the guides.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from pttfaces.demo.drawing.colours import mix
from pttfaces.demo.drawing.person import Person
from pttfaces.demo.drawing.shapes import Line, along, curve, f32, mirror
from pttfaces.demo.drawing.sitting import Sitting


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
