"""Paints hair: styles behind and in front of the head, each made of locks of strands.

A style lays out guide curves in the frame of the face; `_paint_lock` paints the strands between
them. In front, the style comes first and the fringe over it.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from pttfaces.demo.drawing.canvas import Patch
from pttfaces.demo.drawing.colours import UMBER, dim, mix
from pttfaces.demo.drawing.face_context import FaceContext
from pttfaces.demo.drawing.person import Person
from pttfaces.demo.drawing.shapes import Array, Line, along, curve, f32, mirror, ribbon

_FINE = 40  # points of a guide between which strands are interpolated
_STEPS = 16  # points of a strand


def paint_hair_behind(context: FaceContext) -> None:
    """The part of the hair that head and shoulders hide."""
    person = context.person
    w, v = person.width, person.hair_volume
    if person.hair_hangs:
        end, wide = {"bob": (0.92, 0.9), "medium": (1.45, 1.5), "long": (2.4, 1.9)}[person.hair]
        x = w + v * wide
        half = [*_skull_curve(person, 0.0, v), (x, 0.55 * end), (x * 0.84, end)]
        heights = [half[0][1], -0.6, -0.2, 0.0, 0.2, 0.6, end]
        middle = [(0.0, y) for y in heights]
        guides: list[Line] = [mirror(half, -1), middle, half]
        _paint_lock(context, guides, tone=0.62, strands=36, ragged=0.05, clumps=7, gloss=0.1)
    elif person.hair == "ponytail":
        outer = [(0.3, -1.0), (1.05, -0.55), (1.22, 0.4), (0.98, 1.5)]
        inner = [(0.2, -0.9), (0.78, -0.35), (0.84, 0.4), (0.93, 1.45)]
        guides = _guides_between(inner, outer, person.hair_side)
        _paint_lock(context, guides, tone=0.82, strands=22, ragged=0.08)
    elif person.hair == "bun":
        y = -1.2 - v
        left = [(-0.24, y + 0.2), (-0.36, y), (-0.2, y - 0.24), (0.02, y - 0.28)]
        right = [(0.24, y + 0.2), (0.36, y), (0.24, y - 0.22), (0.05, y - 0.28)]
        _paint_lock(context, [left, right], tone=0.95, strands=20)


def paint_hair_in_front(context: FaceContext, face: Array) -> None:
    """The hair on the head, over ears and forehead; face: the head's stencil (H, W)."""
    _paint_cap(context, face)
    hair = context.person.hair
    if hair == "crop":
        _paint_cropped(context)
    elif hair == "quiff":
        _paint_quiff(context)
    else:
        if hair in ("ponytail", "bun"):
            _paint_pulled_back(context)
        else:
            _paint_parted(context)
        _paint_fringe(context)


def _paint_cap(context: FaceContext, face: Array) -> None:
    """What shows between the locks, and its shadow on the forehead."""
    person = context.person
    w = person.width
    hairline = [(0.99 * w, 0.02), (0.9 * w, -0.32), (0.62 * w, -0.60), (0.0, -0.70)]
    line = curve([*hairline, *(mirror(hairline[-2::-1], -1))])
    roof = f32([(-w - 0.3, -1.5), (w + 0.3, -1.5)])
    drop = f32([0, 0.16 if person.fringe == "bangs" else 0.05])
    context.shade(np.concatenate([line + drop, roof]), UMBER, 0.55, 0.06, 0.0, face)
    volume = person.hair_volume * (0.4 if person.hair in ("crop", "quiff") else 0.85)
    contour = _skull_curve(person, 0.0, volume)
    cap = np.concatenate([curve([*mirror(contour[::-1], -1), *contour[1:]]), line])
    context.paint(cap, dim(person.hair_colour, 0.62))


def _paint_pulled_back(context: FaceContext) -> None:
    person = context.person
    w = person.width
    crown = (0.0, -1.08 - 0.7 * person.hair_volume)
    contour = _skull_curve(person, 0.0, 0.7 * person.hair_volume, 4)[::-1]
    outer = [(w, 0.08), *contour[:-1], crown]
    second = [(0.94 * w, -0.2), (0.82 * w, -0.46), (0.6 * w, -0.76), (0.3 * w, -0.98), crown]
    third = [(0.5 * w, -0.64), (0.44 * w, -0.76), (0.34 * w, -0.88), (0.2 * w, -1.0), crown]
    right = [f32(line) for line in (outer, second, third)]
    left = [mirror(line, -1) for line in right]
    _paint_lock(context, [*left, *right[::-1]], strands=44, clumps=1, gloss=0.32)


def _paint_temples(context: FaceContext) -> None:
    """Short hair on the sides of the head."""
    person = context.person
    w = person.width
    outer = [*_skull_curve(person, 0.5 * w, 0.4 * person.hair_volume, 4), (w, 0.12)]
    inner = [(0.45 * w, -0.8), (0.72 * w, -0.6), (0.88 * w, -0.4), (0.94 * w, -0.2)]
    inner += [(0.97 * w, 0.1)]
    for side in (-1, 1):
        _paint_lock(context, _guides_between(inner, outer, side), tone=0.76, strands=18)


def _paint_cropped(context: FaceContext) -> None:
    person = context.person
    w, top = person.width, -1.1 - 0.5 * person.hair_volume
    edge = -0.48 if person.fringe == "bangs" else -0.62
    _paint_temples(context)
    guides = [
        [
            (0.35 * x, top + 0.08 * x * x),
            (0.74 * w * x, top + 0.1 + 0.1 * x * x),
            (0.86 * w * x, edge - 0.08 * (1 - x * x)),
        ]
        for x in (-1.0, -0.5, 0.0, 0.5, 1.0)
    ]
    _paint_lock(context, guides, strands=44, ragged=0.12, clumps=11, gloss=0.2)


def _paint_quiff(context: FaceContext) -> None:
    """Short hair that is combed up over the forehead and to one side."""
    person = context.person
    w, top, side = person.width, -1.14 - person.hair_volume, person.hair_side
    _paint_temples(context)
    guides = []
    for x in (-1.0, -0.5, 0.0, 0.5, 1.0):
        middle = 1 - x * x  # 1 in the middle of the forehead, 0 at its ends
        y, rise = -0.56 - 0.14 * middle, top + 0.12 - 0.16 * middle
        guides.append(
            [
                (0.80 * w * x, y),
                (0.84 * w * x + 0.02, (y + rise) / 2 - 0.03),
                (0.72 * w * x + 0.08, rise + 0.02),
                (0.48 * w * x + 0.16, rise + 0.03 + 0.05 * x * x),
            ]
        )
    turned = [mirror(guide, side) for guide in guides[::side]]
    _paint_lock(context, turned, strands=44, ragged=0.05, clumps=9)


def _paint_parted(context: FaceContext) -> None:
    """Hair that falls from a parting to both sides, over the temples and further down."""
    person = context.person
    w, v = person.width, person.hair_volume
    part = person.hair_part if person.fringe in ("side", "parted") else 0.0
    # Inner and outer curve below the temples.
    below: dict[str, tuple[Line, Line]] = {
        "short": ([(0.96 * w, -0.05), (0.98 * w, 0.12)], [(w + v * 0.85, 0.0), (w + 0.02, 0.14)]),
        "bob": ([(0.9 * w, 0.4), (0.78 * w, 0.95)], [(w + v * 1.2, 0.45), (w * 0.94, 1.0)]),
        "medium": ([(0.92 * w, 0.6), (0.98 * w, 1.4)], [(w + v * 1.4, 0.7), (w + v, 1.5)]),
        "long": ([(0.92 * w, 0.8), (0.93 * w, 2.3)], [(w + v * 1.4, 0.9), (w + v * 1.2, 2.4)]),
    }
    inner_end, outer_end = below[person.hair]
    for side in (-1, 1):
        p = part * side
        outer = [*_skull_curve(person, p, v), *outer_end]
        inner = [(p, -0.72), (p + 0.3 * (w - p), -0.68), (p + 0.62 * (w - p), -0.56)]
        inner += [(0.86 * w, -0.3), (0.95 * w, -0.05), *inner_end]
        guides = _guides_between(inner, outer, side, bulge=0.02)
        _paint_lock(context, guides, strands=34, ragged=0.05)
    scalp = ribbon([(part, -0.74), (part, -0.95), (part * 0.95, -1.1 - 0.6 * v)], 0.014)
    context.paint(scalp, mix(person.skin, person.hair_colour, 0.4), 0.55)


def _paint_fringe(context: FaceContext) -> None:
    """Bangs, curtain bangs or a fringe swept to one side; nothing for other fringes."""
    person = context.person
    w, top = person.width, -1.08 - 0.8 * person.hair_volume
    if person.fringe == "bangs":
        guides: list[Line] = [
            [
                (0.3 * x, top + 0.03),
                (0.66 * w * x, -0.9 + 0.14 * x * x),
                (0.86 * w * x, -0.36 + 0.10 * x * x),
            ]
            for x in (-1.0, -0.6, 0.0, 0.6, 1.0)
        ]
        _paint_lock(context, guides, strands=48, ragged=0.12, clumps=8)
    elif person.fringe == "curtain":
        inner = [(0.02, -0.95), (0.24, -0.68), (0.62 * w, -0.4), (0.9 * w, -0.02)]
        outer = [(0.02, top), (0.5, -0.98), (0.9 * w, -0.52), (w * 0.99, 0.08)]
        for side in (-1, 1):
            guides = _guides_between(inner, outer, side)
            _paint_lock(context, guides, strands=26, ragged=0.1, clumps=4)
    elif person.fringe == "side":
        root = abs(person.hair_part)
        inner = [(root, -0.9), (root - 0.28, -0.64), (-0.35, -0.45), (-0.9 * w, -0.16)]
        outer = [(root, top), (root - 0.4, -1.02), (-0.74 * w, -0.74), (-0.98 * w, -0.04)]
        guides = _guides_between(inner, outer, person.hair_side)
        _paint_lock(context, guides, ragged=0.08, clumps=5)


def _skull_curve(
    person: Person, start: float, volume: float, count: int = 5
) -> list[tuple[float, float]]:
    """Points on the contour of the hair, from x = start at the top to the side of the head."""
    rx, ry = person.width + volume, 0.88 + volume
    angles = np.linspace(np.arcsin(np.clip(start / rx, -1, 1)), np.pi / 2, count)
    return [(float(rx * np.sin(a)), float(-0.2 - ry * np.cos(a))) for a in angles]


def _guides_between(inner: Line, outer: Line, side: int, bulge: float = 0.0) -> list[Line]:
    """Three guides of a lock: two curves with equally many points, and one between them."""
    a, b = f32(inner), f32(outer)
    middle = f32((a + b) / 2 + f32([bulge, -bulge]))
    return [mirror(line, side) for line in (a, middle, b)]


def _paint_lock(
    context: FaceContext,
    guides: Sequence[Line],
    *,
    tone: float = 1.0,
    strands: int = 30,
    ragged: float = 0.0,
    clumps: int = 6,
    gloss: float = 0.34,
) -> None:
    """Paints a lock of hair: strands that run from root to tip between guide curves.

    guides: two or more curves of points in the frame of the face, side by side; tone: lightness;
    ragged: share of their length that strands between the clumps fall short; gloss: strength of
    the band of light across the lock.
    """
    canvas = context.canvas
    flow = _strands(context, guides, strands, ragged, clumps)
    pixels = context.on_face(flow)
    outline = [pixels[0], pixels[:, -1], pixels[-1, ::-1], pixels[::-1, 0]]
    patch = canvas.patch(np.concatenate(outline), 0.4)
    if patch is None:
        return
    colours = _strand_colours(context, flow, tone, gloss)
    layer = _layer(context, patch, pixels, colours, tone)
    canvas.lay(patch, f32(f32(layer) / 255))


def _strands(
    context: FaceContext, guides: Sequence[Line], count: int, ragged: float, clumps: int
) -> Array:
    """Strands between the guides: points (count, _STEPS, 2) in the frame of the face."""
    rng = context.rng
    rails = np.stack([along(curve(guide), np.linspace(0, 1, _FINE)) for guide in guides])
    across = curve(rails.reshape(len(rails), -1))
    t, s = np.linspace(0, 1, count), np.linspace(0, 1, _STEPS)
    dense = along(across, t).reshape(count, _FINE, 2)
    comb = np.abs((t * clumps + rng.uniform()) % 1 - 0.5) * 2
    length = 1 - ragged * (0.75 * comb + 0.4 * rng.random(count))
    flow = np.stack([along(dense[k], s * length[k]) for k in range(count)])
    swing = np.clip(2 * s - 0.5, 0, 1) * np.sin(9 * s + 2.5 * t[:, None] + rng.uniform(0, 6))
    flow[..., 0] += (0.075 * context.person.hair_wave * swing).astype(np.float32)
    return flow


def _strand_colours(context: FaceContext, flow: Array, tone: float, gloss: float) -> np.ndarray:
    """The colour of every point of the strands: (count, _STEPS, 3) in 0..255."""
    person, light, rng = context.person, context.light, context.rng
    count, s = len(flow), np.linspace(0, 1, _STEPS)
    streak = np.convolve(rng.normal(0, 0.10, count + 2), [0.3, 0.5, 0.3], "valid")
    streak = _contrast(person) * (streak + rng.normal(0, 0.035, count))
    level = tone * (1 + streak[:, None]) * (1.06 - 0.2 * s)
    level = level * (1 + 0.28 * light.direction[0] * np.clip(flow[..., 0], -1.2, 1.2))
    middle = 0.32 - 0.08 * light.direction[1] + rng.normal(0, 0.018, (count, 1))
    band = np.exp(-(((s - middle) / 0.13) ** 2)) * (0.7 + 0.3 * rng.random((count, 1)))
    base = np.array(person.hair_colour)
    sheen = np.array(mix(person.hair_colour, (1.0, 0.93, 0.86), 0.45)) - base
    colours = base * level[..., None] + (gloss * tone * band)[..., None] * sheen
    return np.clip(colours * 255, 0, 255)


def _layer(
    context: FaceContext, patch: Patch, pixels: Array, colours: np.ndarray, tone: float
) -> np.ndarray:
    """The lock as an image of the patch's size, uint8: the surface between the strands, blurred,
    and a hair along each of them."""
    person, rng = context.person, context.rng
    layer = np.empty((*patch.cover.shape, 3), np.uint8)
    layer[:] = np.clip(np.array(person.hair_colour) * tone * 255, 0, 255)
    # In sixteenths of a pixel, which OpenCV calls shift 4.
    grid = np.round((pixels - f32([patch.cols.start, patch.rows.start])) * 16)
    quads = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], 2)
    tints = colours[:-1, :-1].reshape(-1, 3).tolist()
    for quad, tint in zip(quads.reshape(-1, 4, 2).astype(np.int32), tints, strict=True):
        cv2.fillConvexPoly(layer, quad, tint, cv2.LINE_8, 4)
    layer = np.asarray(cv2.GaussianBlur(layer, (0, 0), max(0.5, 0.01 * context.pose.unit)))
    for k in range(len(grid) - 1):
        share = rng.random()
        hair = np.round(grid[k] * (1 - share) + grid[k + 1] * share).astype(np.int32)
        change = _contrast(person) * (0.24 if rng.random() < 0.4 else -0.32)
        tint = (colours[k, _STEPS // 2] * (1 + change) + 3).tolist()
        cv2.polylines(layer, [hair], False, tint, 1, cv2.LINE_AA, 4)
    return layer


def _contrast(person: Person) -> float:
    """How much strands differ from one another: less in light hair, where it shows more."""
    return 1.1 - 0.8 * max(person.hair_colour)
