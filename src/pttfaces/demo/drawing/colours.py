"""Colours, RGB in 0..1: mixing, dimming and picking them, and the shared palettes."""

from collections.abc import Sequence

import numpy as np
from PIL import ImageColor

Colour = tuple[float, float, float]


def palette(codes: str) -> tuple[Colour, ...]:
    """Colours from hexadecimal codes, separated by blanks."""
    colours = []
    for code in codes.split():
        red, green, blue = ImageColor.getrgb(f"#{code}")[:3]
        colours.append((red / 255, green / 255, blue / 255))
    return tuple(colours)


CLOTHES = palette(
    "f0ece4 2b2d35 35496e 8fa6c2 b9504f dcaaa0 6a8268 c9aa77 86688e dcbd60 4f868a e8dccb a8c0b0"
)
BACKDROPS = palette(
    "dcd6cb b5c7d6 cdb3a8 9fb39f 76869f 5d626c d7c29e b0a0bd 86a9b3 e6ccc6 c4d0c0 ead9c0"
)
WHITE: Colour = (1.0, 1.0, 1.0)
UMBER: Colour = (0.62, 0.44, 0.40)  # the factor by which a shadow darkens skin


def pick(
    rng: np.random.Generator, colours: Sequence[Colour], odds: Sequence[float] | None = None
) -> Colour:
    return colours[int(rng.choice(len(colours), p=odds))]


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with a share (0..1) of `b`."""
    red, green, blue = (p + (q - p) * share for p, q in zip(a, b, strict=True))
    return (red, green, blue)


def dim(colour: Colour, factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def jitter(colour: Colour, rng: np.random.Generator, spread: float) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.normal(0, spread, 3), 0.03, 0.97).tolist()
    return (red, green, blue)
