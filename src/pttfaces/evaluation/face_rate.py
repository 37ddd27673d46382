"""face_rate: in how many pictures a detector finds a face.

Takes any detector; knows none. A detector's rate on real pictures is the ceiling for samples.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Protocol

import numpy as np
from PIL import Image

from pttfaces.evaluation.image_folder import Pictures
from pttfaces.progress import progress

# Detectors were made for pictures of some hundred pixels; both sides are enlarged alike.
_ENLARGE = 4
_MOST = 1000  # a share of 1,000 is known to 3 % at worst; slow detectors need seconds a picture


class Face(Protocol):
    """What is asked of a detector's face."""

    @property
    def eyes_found(self) -> int:
        """How many eyes were seen (0..2)."""


Detect = Callable[[np.ndarray], Sequence[Face]]
"""A picture (H, W, 3) uint8 RGB → the faces in it; called from several threads at once."""


def face_rates(samples: Pictures, real: Pictures, detect: Detect) -> dict[str, float]:
    """The face_rate of samples ("generated") and of as many real pictures ("real")."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return {
            "generated": face_rate(samples, detect, threads),
            "real": face_rate(real.spread(len(samples)), detect, threads),
        }


def face_rate(pictures: Pictures, detect: Detect, threads: Executor) -> float:
    """The share of pictures (0..1) in which `detect` finds a face with both eyes.

    Both eyes, because a cascade of its own takes nearly every smear for a face. Pictures are
    enlarged four times first. Of more than 1,000, 1,000 evenly spread ones are looked at.
    """

    def found(picture: np.ndarray) -> bool:
        return any(face.eyes_found == 2 for face in detect(_enlarge(picture)))

    looked_at, count = pictures.spread(_MOST), 0
    with progress(f"faces in {pictures.folder}", len(looked_at), " pictures") as bar:
        for batch in looked_at.batches(64):
            count += sum(threads.map(found, batch))
            bar.update(len(batch))
    return count / len(looked_at)


def _enlarge(picture: np.ndarray) -> np.ndarray:
    height, width, _ = picture.shape
    size = (width * _ENLARGE, height * _ENLARGE)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
