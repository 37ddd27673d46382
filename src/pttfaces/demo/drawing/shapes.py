"""Plane shapes as arrays of points (N, 2), float32: curves, ribbons, ellipses, mirror images."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Line = Sequence[tuple[float, float]] | Array


def f32(values: npt.ArrayLike) -> Array:
    return np.asarray(values, np.float32)


def curve(points: npt.ArrayLike, samples: int = 8, closed: bool = False) -> Array:
    """A Catmull–Rom spline through points (N, D) → (M, D), `samples` to a segment."""
    p = f32(points)
    if closed:
        q = np.concatenate([p[-1:], p, p[:2]])
    else:
        q = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = (np.arange(samples, dtype=np.float32) / samples)[None, :, None]
    a, b, c, d = (q[i : len(q) - 3 + i, None] for i in range(4))
    out = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    out = out.reshape(-1, p.shape[1])
    return out if closed else np.concatenate([out, p[-1:]])


def along(points: Array, positions: npt.ArrayLike) -> Array:
    """The points at positions (0..1, any shape) along a polyline (N, D) → (*shape, D)."""
    at = f32(positions) * (len(points) - 1)
    low = np.clip(at.astype(np.int64), 0, len(points) - 2)
    share = (at - low)[..., None]
    return points[low] * (1 - share) + points[low + 1] * share


def ribbon(line: Line, width: float, ends: tuple[float, float] = (0.2, 0.2)) -> Array:
    """A polyline (N, 2) as a polygon of some width; ends: the shares of it at both ends."""
    p = f32(line)
    step = np.empty_like(p)
    step[1:-1], step[0], step[-1] = p[2:] - p[:-2], p[1] - p[0], p[-1] - p[-2]
    step /= np.sqrt((step**2).sum(1, keepdims=True)) + 1e-6
    normal = step[:, ::-1] * f32([-1, 1])
    t = np.linspace(0, 1, len(p))
    thin = np.where(t < 0.5, ends[0], ends[1])
    half = width / 2 * (thin + (1 - thin) * np.sin(np.pi * t) ** 0.7)
    offset = normal * half[:, None].astype(np.float32)
    return np.concatenate([p + offset, (p - offset)[::-1]])


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> Array:
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    px, py = rx * np.cos(angle), ry * np.sin(angle)
    c, s = np.cos(tilt), np.sin(tilt)
    return np.stack([x + c * px - s * py, y + s * px + c * py], 1).astype(np.float32)


def rounded(x: float, y: float, rx: float, ry: float, power: float) -> Array:
    """A superellipse: an ellipse at power 2, closer to a rectangle at higher ones."""
    angle = np.linspace(0, 2 * np.pi, 60)
    c, s = np.cos(angle), np.sin(angle)
    px = x + rx * np.sign(c) * np.abs(c) ** (2 / power)
    py = y + ry * np.sign(s) * np.abs(s) ** (2 / power)
    return f32(np.stack([px, py], 1))


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Array:
    return f32([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def mirror(points: Line, side: int) -> Array:
    """The points themselves (side 1), or mirrored to the other half of the face (side -1)."""
    return f32(points) * f32([side, 1])
