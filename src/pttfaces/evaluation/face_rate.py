"""Computes face_rate: the share of images in which a detector finds a face with both eyes.

A detector's rate on real images is the ceiling for samples.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from PIL import Image

from pttfaces.evaluation.image_folder import ImageFolder
from pttfaces.progress import progress

# Detectors were made for images of some hundred pixels; both sets are enlarged in the same way.
_ENLARGE = 4
_MAX_IMAGES = 1000  # the share is accurate to 3% at worst; slow detectors need seconds per image


class FaceLike(Protocol):
    """A detector's face, as far as it matters here."""

    @property
    def eyes_found(self) -> int:
        """How many eyes were seen (0..2)."""


DetectFaces = Callable[[np.ndarray], Sequence[FaceLike]]
"""An image (H, W, 3) uint8 RGB → the faces in it; called from several threads at once."""


def face_rate(images: ImageFolder, detect: DetectFaces) -> float:
    """The share of images (0..1) in which `detect` finds a face with both eyes.

    Both eyes, because a cascade alone takes nearly every smear for a face. Images are enlarged four
    times first. Of more than 1,000, an evenly spread 1,000 count.
    """

    def has_face(image: np.ndarray) -> bool:
        return any(face.eyes_found == 2 for face in detect(_enlarge(image)))

    looked_at, count = images.spread(_MAX_IMAGES), 0
    with (
        ThreadPoolExecutor(os.cpu_count()) as threads,
        progress(f"faces in {images.folder}", len(looked_at), " images") as bar,
    ):
        for batch in looked_at.batches(64):
            count += sum(threads.map(has_face, batch))
            bar.update(len(batch))
    return count / len(looked_at)


def _enlarge(image: np.ndarray) -> np.ndarray:
    height, width, _ = image.shape
    size = (width * _ENLARGE, height * _ENLARGE)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
