"""What a face detector is and what it gives: the interface that all detectors share.

Knows pixels only. Coordinates follow OpenCV: whole numbers lie at the centres of pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np


@dataclass(frozen=True)
class Face:
    """A face in a picture; coordinates in pixels of that picture.

    score: 0…1; box: (x, y, width, height); landmarks: (5, 2) float32: left eye, right
    eye, nose tip, left and right corner of the mouth, "left" being left in the picture; eyes_found:
    how many eyes were really seen (0…2) rather than placed by the geometry of a face.
    """

    score: float
    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    eyes_found: int

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return self.box[2] * self.box[3]


@dataclass(frozen=True)
class Limits:
    """What is searched for.

    threshold: least score, 0…1; min_size: shortest side of a box, in pixels of the picture;
    max_side: pictures with a longer side are searched shrunk to it, in pixels.
    """

    threshold: float = 0.0
    min_size: int = 48
    max_side: int = 640


class Detector(ABC):
    """Finds faces; several threads may use one detector at once.

    identity: everything that decides what `search` gives, of JSON types; cache_version: of the code that finds the
    faces; batch_size: how many
    pictures it wants at once, 1 for a detector that gains nothing by more.
    """

    batch_size: int = 1
    name: str
    cache_version: str
    limits: Limits
    identity: dict[str, Any]

    @abstractmethod
    def search(self, image: np.ndarray) -> list[Face]:
        """Whatever looks like a face in an (H, W, 3) uint8 RGB picture, in any order."""

    def search_many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """As `search`, for each of several pictures (H, W, 3) of any sizes."""
        return [self.search(image) for image in images]

    def detect(self, image: np.ndarray) -> list[Face]:
        """Faces of an (H, W, 3) uint8 RGB picture within the detector's limits, largest first."""
        return within_limits(self.search(image), self.limits)


def working_size(image: np.ndarray, max_side: int) -> tuple[np.ndarray, float]:
    """The picture (H, W[, 3]) shrunk, antialiased, to at most `max_side`; the factor used (≤ 1)."""
    longest = max(image.shape[:2])
    if longest <= max_side:
        return image, 1.0
    factor = max_side / longest
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), factor


def to_full_size(points: np.ndarray, factor: float) -> np.ndarray:
    """Points (…, 2) of a picture shrunk by `factor`, in pixels of the full one."""
    return (points + 0.5) / factor - 0.5


def within_limits(faces: Iterable[Face], limits: Limits) -> list[Face]:
    """The faces that are sure and large enough, in an order that depends on nothing but them."""
    kept = [
        face
        for face in faces
        if face.score >= limits.threshold and min(face.box[2:]) >= limits.min_size
    ]
    return sorted(kept, key=lambda face: (-face.area, -face.score, face.box))
