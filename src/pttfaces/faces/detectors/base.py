"""Defines the interface of all face detectors, and the geometry that they share.

Coordinates follow OpenCV: whole numbers are at the centres of pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from pttfaces import config


@dataclass(frozen=True)
class Face:
    """A face in an image; coordinates in pixels of that image.

    score: 0…1; box: (x, y, width, height); landmarks: (5, 2) float32: left eye, right eye, nose
    tip, left and right corner of the mouth, "left" being left in the image; eyes_found: how many
    eyes the detector saw (0…2) rather than placed by the geometry of a face.
    """

    score: float
    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    eyes_found: int

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return self.box[2] * self.box[3]


class Detector(ABC):
    """Finds faces; several threads may use one detector at once.

    cache_version: of the code that finds the faces; identity: everything else that decides what
    `search` returns, of JSON types; batch_size: how many images it wants at once, 1 for a detector
    that gains nothing by more.
    """

    batch_size: int = 1
    name: str
    cache_version: str
    options: config.Detect
    identity: dict[str, Any]

    @abstractmethod
    def search(self, image: np.ndarray) -> list[Face]:
        """Whatever looks like a face in an (H, W, 3) uint8 RGB image, in any order."""

    def search_many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """As `search`, for each of several images (H, W, 3) of any sizes."""
        return [self.search(image) for image in images]

    def detect(self, image: np.ndarray) -> list[Face]:
        """Faces of an (H, W, 3) uint8 RGB image within the detector's limits, largest first."""
        return self.within_limits(self.search(image))

    def within_limits(self, faces: Iterable[Face]) -> list[Face]:
        """The faces with enough score and size, largest first; ties have a fixed order, too."""
        kept = [
            face
            for face in faces
            if face.score >= self.options.threshold and min(face.box[2:]) >= self.options.min_size
        ]
        return sorted(kept, key=lambda face: (-face.area, -face.score, face.box))


def shrink_to_fit(image: np.ndarray, max_side: int) -> tuple[np.ndarray, float]:
    """The image (H, W[, 3]) shrunk, antialiased, to at most `max_side`; the factor used (≤ 1)."""
    longest = max(image.shape[:2])
    if longest <= max_side:
        return image, 1.0
    factor = max_side / longest
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), factor


def to_full_size(points: np.ndarray, factor: float) -> np.ndarray:
    """Points (…, 2) of an image shrunk by `factor`, in pixels of the full one."""
    return (points + 0.5) / factor - 0.5
