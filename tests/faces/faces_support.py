"""Drawn portraits and posted pictures, for the tests of the faces room."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pttfaces.demo import drawing


@dataclass(frozen=True)
class Portrait:
    """pixels: (H, W, 3) uint8; landmarks: (5, 2), the true ones."""

    pixels: np.ndarray
    landmarks: np.ndarray

    def png(self) -> bytes:
        return encoded(Image.fromarray(self.pixels), "PNG")


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def draw(seed: int, size: tuple[int, int] = (400, 480)) -> Portrait:
    rng = np.random.default_rng([2024, seed])
    drawn = drawing.portrait(drawing.Person.random(rng), rng, size)
    return Portrait(np.asarray(drawn.image.convert("RGB")), drawn.landmarks[0])


@dataclass(frozen=True)
class Posted:
    """A picture on the board: its bytes, the article it is in ("" for the inbox), its address."""

    content: bytes
    article: str
    url: str


Workspace = Callable[..., Path]
