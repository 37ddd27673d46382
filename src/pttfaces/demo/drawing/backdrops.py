"""Paints what is behind a person, out of focus, and the gradient that backgrounds start with."""

import cv2
import numpy as np

from pttfaces.demo.drawing.canvas import Canvas
from pttfaces.demo.drawing.colours import BACKDROPS, Colour, dim, jitter, mix, pick
from pttfaces.demo.drawing.shapes import ellipse, f32, rectangle


def paint_gradient(canvas: Canvas, top: Colour, bottom: Colour, lean: float = 0.0) -> None:
    """Fills the canvas from top to bottom; lean: how much further along the right side is."""
    y = np.linspace(0, 1, canvas.height, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, canvas.width, dtype=np.float32)[None, :]
    share = np.clip(y + f32(lean) * x, 0, 1)[..., None]
    canvas.pixels[:] = f32(top) * (1 - share) + f32(bottom) * share


def paint_backdrop(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paints a backdrop, out of focus: plain or with light spots, a window, plants or a panel."""
    # A quarter of the size is enough for what is blurred.
    small = Canvas(max(canvas.width // 4, 8), max(canvas.height // 4, 8))
    w, h = small.width, small.height
    colour = jitter(pick(rng, BACKDROPS), rng, 0.02)
    below = dim(colour, float(rng.uniform(0.62, 0.9)))
    paint_gradient(small, colour, below, lean=float(rng.uniform(-1, 1)))
    kind = str(rng.choice(["plain", "glow", "bokeh", "window", "plants", "panel"]))
    if kind == "glow":
        spot = ellipse(w * rng.uniform(0.2, 0.8), h * rng.uniform(0.1, 0.6), w * 0.3, w * 0.3)
        small.paint(spot, mix(colour, (1, 0.97, 0.9), 0.6), 0.7, soft=w * 0.12)
    elif kind == "bokeh":
        for _ in range(14):
            r = w * rng.uniform(0.03, 0.09)
            disc = ellipse(rng.uniform(0, w), rng.uniform(0, h * 0.8), r, r)
            tint = mix(colour, jitter((1, 0.88, 0.68), rng, 0.08), 0.7)
            small.paint(disc, tint, float(rng.uniform(0.15, 0.45)), soft=0.8)
    elif kind == "window":
        x = w * rng.uniform(0.0, 0.6)
        pane = rectangle(x, -5, x + w * rng.uniform(0.25, 0.4), h * 0.62)
        small.paint(pane, (0.97, 0.98, 0.98), 0.6, soft=1.5)
    elif kind == "plants":
        for _ in range(16):
            x, y, turn = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0, 3.1)
            leaf = ellipse(x, y, w * 0.13, w * 0.045, turn)
            small.paint(leaf, jitter((0.42, 0.54, 0.38), rng, 0.05), 0.5, soft=2.5)
    elif kind == "panel":
        board = rectangle(-5, h * rng.uniform(0.5, 0.75), w + 5, h + 5)
        small.paint(board, dim(colour, 0.7), 0.8, soft=1.0)
    pixels = cv2.GaussianBlur(small.pixels, (0, 0), float(rng.uniform(1.2, 3.0)))
    cv2.resize(pixels, (canvas.width, canvas.height), canvas.pixels, interpolation=cv2.INTER_LINEAR)
