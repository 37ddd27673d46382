"""Paints images without a face, for detectors to reject: a landscape, a dish, a room, a sign."""

import cv2
import numpy as np

from pttfaces.demo.drawing.backdrops import paint_gradient
from pttfaces.demo.drawing.canvas import Canvas
from pttfaces.demo.drawing.colours import (
    BACKDROPS,
    CLOTHES,
    UMBER,
    WHITE,
    dim,
    jitter,
    mix,
    palette,
    pick,
)
from pttfaces.demo.drawing.shapes import curve, ellipse, f32, rectangle, ribbon, rounded


def paint_scene(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paints one of the scenes, chosen at random."""
    kinds = (_landscape, _dish, _room, _sign)
    kinds[int(rng.integers(len(kinds)))](canvas, rng)


def _landscape(canvas: Canvas, rng: np.random.Generator) -> None:
    w, h = canvas.width, canvas.height
    sky = pick(rng, palette("73a6e0 f2b385 9eb8cc"))
    paint_gradient(canvas, sky, mix(sky, (1, 0.95, 0.88), 0.7))
    sun = ellipse(w * rng.uniform(0.15, 0.85), h * rng.uniform(0.12, 0.3), h * 0.05, h * 0.05)
    canvas.paint(sun, (1, 0.97, 0.85), 0.9, soft=h * 0.03)
    x = np.linspace(0, w, 60)
    ground = jitter(pick(rng, palette("486b52 6b664d 4d5c75")), rng, 0.02)
    for layer in range(4):
        y = np.full_like(x, h * (0.42 + 0.13 * layer))
        for wave in range(1, 5):
            turn = x / w * 3.0 * wave * rng.uniform(0.6, 1.4) + rng.uniform(0, 6)
            y += h * 0.07 / wave * np.sin(turn)
        ridge = np.concatenate([np.stack([x, y], 1), [(w, h + 4), (0, h + 4)]]).astype(np.float32)
        haze = mix(ground, mix(sky, WHITE, 0.4), 0.7 - 0.23 * layer)
        canvas.paint(ridge, haze, soft=0.6)


def _dish(canvas: Canvas, rng: np.random.Generator) -> None:
    w, h = canvas.width, canvas.height
    wood = jitter(pick(rng, palette("9e7552 ccc2b3 4d4747")), rng, 0.02)
    paint_gradient(canvas, wood, dim(wood, 0.75))
    for k in range(1, 6):
        seam = rectangle(-4, h * k / 6, w + 4, h * k / 6 + 2)
        canvas.shade(seam, (0.6, 0.58, 0.56), 0.6, soft=1.0)
    cx, cy, r = w * rng.uniform(0.42, 0.58), h * rng.uniform(0.46, 0.56), min(w, h) * 0.36
    canvas.shade(ellipse(cx + 8, cy + 14, r, r * 0.8), (0.4, 0.36, 0.34), 0.7, soft=12)
    canvas.paint(ellipse(cx, cy, r, r * 0.8), (0.93, 0.93, 0.91), soft=0.5)
    soup = jitter(pick(rng, palette("b86b33 dbb86b a8382a")), rng, 0.03)
    canvas.paint(ellipse(cx, cy, r * 0.82, r * 0.64), soup, soft=1.5)
    inside = canvas.stencil(ellipse(cx, cy, r * 0.8, r * 0.62))
    for _ in range(60):
        x, y, turn = rng.normal(cx, r * 0.3), rng.normal(cy, r * 0.2), rng.uniform(0, 6.3)
        dx, dy = r * 0.35 * np.cos(turn), r * 0.25 * np.sin(turn)
        bend = rng.normal(0, r * 0.12, 2)
        noodle = curve([(x - dx, y - dy), (x + bend[0], y + bend[1]), (x + dx, y + dy)])
        tint = jitter(mix(soup, (0.97, 0.88, 0.62), 0.6), rng, 0.03)
        canvas.paint(ribbon(noodle, r * 0.035, (0.6, 0.6)), tint, 0.9, soft=0.5, within=inside)
    for _ in range(16):
        x, y = rng.normal(cx, r * 0.3), rng.normal(cy, r * 0.22)
        leaf = ellipse(x, y, r * 0.05, r * 0.022, rng.uniform(0, 3))
        canvas.paint(leaf, jitter((0.42, 0.6, 0.3), rng, 0.05), 0.9, soft=0.6, within=inside)


def _room(canvas: Canvas, rng: np.random.Generator) -> None:
    w, h = canvas.width, canvas.height
    wall = jitter(pick(rng, BACKDROPS), rng, 0.02)
    paint_gradient(canvas, wall, dim(wall, 0.88), 0.4)
    floor = h * rng.uniform(0.68, 0.78)
    canvas.paint(rectangle(-4, floor, w + 4, h + 4), (0.55, 0.42, 0.32))
    x, y = w * rng.uniform(0.06, 0.2), h * 0.12
    pane_w, pane_h = w * 0.15, h * 0.21
    frame = rectangle(x - 6, y - 6, x + 2 * pane_w + 6, y + 2 * pane_h + 6)
    canvas.paint(frame, (0.95, 0.94, 0.92))
    for left in (x, x + pane_w):
        for top in (y, y + pane_h):
            pane = rectangle(left + 3, top + 3, left + pane_w - 3, top + pane_h - 3)
            canvas.paint(pane, (0.66, 0.80, 0.90))
    sofa = jitter(pick(rng, CLOTHES), rng, 0.02)
    left, wide = w * rng.uniform(0.42, 0.5), w * 0.46
    base = floor + h * 0.1
    canvas.shade(ellipse(left + wide / 2, base, wide * 0.55, h * 0.025), UMBER, soft=6)

    def cushion(x0: float, y0: float, x1: float, y1: float, tone: float) -> None:
        """A rounded box on the sofa, in shares of its width and in heights above the floor."""
        rx, ry = (x1 - x0) * wide / 2, (y0 - y1) * h / 2
        shape = rounded(left + x0 * wide + rx, base - y0 * h + ry, rx, ry, 6.0)
        canvas.shade(shape + f32([0, 4]), (0.66, 0.62, 0.62), 0.7, soft=5)
        canvas.paint(shape, dim(sofa, tone), soft=0.6)

    cushion(0.03, 0.30, 0.97, 0.06, 0.92)
    cushion(0.08, 0.15, 0.50, 0.05, 1.04)
    cushion(0.50, 0.15, 0.92, 0.05, 1.0)
    cushion(-0.02, 0.20, 0.09, 0.02, 0.84)
    cushion(0.91, 0.20, 1.02, 0.02, 0.84)
    pot_x, pot_y = w * rng.uniform(0.1, 0.25), floor + h * 0.12
    for turn in np.linspace(-1.1, 1.1, 9):
        tip = (pot_x + h * 0.2 * np.sin(turn), pot_y - h * (0.12 + 0.2 * np.cos(turn)))
        bend = (pot_x + h * 0.05 * np.sin(turn), pot_y - h * 0.22)
        leaf = ribbon(curve([(pot_x, pot_y - h * 0.1), bend, tip]), h * 0.03, (0.2, 0.05))
        canvas.paint(leaf, jitter((0.30, 0.46, 0.30), rng, 0.03), soft=0.6)
    pot = [(pot_x - h * 0.06, pot_y - h * 0.11), (pot_x + h * 0.06, pot_y - h * 0.11)]
    pot += [(pot_x + h * 0.045, pot_y), (pot_x - h * 0.045, pot_y)]
    canvas.paint(f32(pot), (0.74, 0.46, 0.36), soft=0.6)


def _sign(canvas: Canvas, rng: np.random.Generator) -> None:
    w, h = canvas.width, canvas.height
    paper = jitter(pick(rng, BACKDROPS), rng, 0.02)
    paint_gradient(canvas, paper, dim(paper, 0.8))
    ink = mix(paper, dim(pick(rng, CLOTHES), 0.3), 0.85)
    board = rectangle(w * 0.03, h * 0.06, w * 0.97, h * 0.94)
    canvas.shade(board + f32([0, 6]), (0.5, 0.48, 0.48), 0.6, soft=6)
    canvas.paint(board, mix(paper, WHITE, 0.45), soft=0.6)
    words = ("SALE TODAY", "OPEN 24 H", "MENU", "EXIT", "NEWS", "NIGHT MARKET", "TEA", "BUS STOP")
    line = h / 9
    for row in range(1, 8, 2):
        word = words[int(rng.integers(len(words)))]
        layer = np.zeros((h, w), np.uint8)
        place = (int(w * rng.uniform(0.06, 0.2)), int(row * line + 0.7 * line))
        cv2.putText(layer, word, place, cv2.FONT_HERSHEY_SIMPLEX, line / 40, 255, 2, cv2.LINE_AA)
        share = (layer.astype(np.float32) / 255)[..., None]
        canvas.pixels += share * (f32(ink) - canvas.pixels)
