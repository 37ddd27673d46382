"""Defines the interface of all face detectors, and the geometry that they share.

Coordinates follow OpenCV: whole numbers are at the centres of pixels.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from pttfaces import config
from pttfaces.faces.detectors.view import VIEW_SIDE, View

_MAX_OVERLAP = 0.5  # of two faces that share more of the smaller box than this, one is false
_MAX_ENLARGEMENT = 3.0  # of a small image: a tilted face has to be larger to be found
_FACE_SIDE = 160  # pixels of a face in a view
MAX_LOOKS = 3  # at a tilted face
MAX_TILT = 5.0  # degrees: of a face that counts as upright


@dataclass(frozen=True)
class Face:
    """A face in an image; coordinates in pixels of that image.

    score: 0…1; box: (x, y, width, height); landmarks: (5, 2) float32: left eye, right eye, nose
    tip, left and right corner of the mouth, as in the image of an upright face; eyes_found: how
    many eyes the detector saw (0…2) rather than placed by the geometry of a face; spread: how far
    the landmarks of several views of the face are apart, in eye distances: 0 for a single view, 1
    where some show no face.
    """

    score: float
    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    eyes_found: int
    spread: float = 0.0

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return self.box[2] * self.box[3]

    @property
    def roll(self) -> float:
        """How far the line of the eyes is turned clockwise, −180…180 degrees."""
        along = self.landmarks[1] - self.landmarks[0]
        return float(np.degrees(np.arctan2(along[1], along[0])))


class PerThread(threading.local):
    """`value`: what `make` gives in each thread, for objects that keep state between calls.

    Pickled, it is only `make`.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self.value = make, make()

    def __reduce__(self) -> tuple[type["PerThread"], tuple[Callable[[], Any]]]:
        return PerThread, (self._make,)


class Detector(ABC):
    """Finds faces; several threads may use one detector at once.

    cache_version: of the code that finds the faces; identity: everything else that decides what
    `search` returns, of JSON types; batch_size: how many images it wants at once, 1 for a detector
    that gains nothing by more; uses_device: whether one search keeps a GPU, or all cores, busy by
    itself. A detector can be pickled, to search on another machine.
    """

    batch_size: int = 1
    uses_device: bool = False
    name: str
    cache_version: str
    options: config.Detect
    identity: dict[str, Any]

    @abstractmethod
    def look(self, image: np.ndarray) -> list[Face]:
        """Whatever looks like an upright face in an (H, W, 3) uint8 RGB image, in any order."""

    def look_many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """As `look`, for each of several images (H, W, 3) of any sizes."""
        return [self.look(image) for image in images]

    def refine(self, image: np.ndarray, face: Face) -> Face:
        """The face, with landmarks from a closer look at it.

        With `options.turns` a tilted face is looked at again, turned upright by the roll that the
        look before shows, which is less than all of it.
        """
        upright = 90.0 * round(face.roll / 90)  # that of the quarter turn in which it was found
        for _ in range(MAX_LOOKS if self.options.turns else 0):
            if abs(angle_between(face.roll, upright)) <= MAX_TILT:
                break
            upright, view = face.roll, View.of(image, face.box, _FACE_SIDE, face.roll)
            again = central_face(self.look(view.pixels))
            if again is None:
                break
            landmarks = view.in_image(again.landmarks).astype(np.float32)
            face = replace(face, landmarks=landmarks, eyes_found=again.eyes_found)
        return face

    @abstractmethod
    def is_sure(self, face: Face) -> bool:
        """Whether a refined face is one, and upright but for its roll."""

    def search(self, image: np.ndarray) -> list[Face]:
        """As `search_many`, for one image."""
        return self.search_many([image])[0]

    def search_many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """The faces of several images (H, W, 3) uint8 RGB, in any order.

        With `options.turns`, an image without a sure face is also searched in its quarter turns.
        """
        found = []
        for image, seen in zip(images, self.look_many(images), strict=True):
            faces = [self.refine(image, face) for face in seen]
            if self.options.turns and not any(self.is_sure(face) for face in faces):
                faces = drop_overlapping([*self._search_turned(image), *faces])
            found.append(faces)
        return found

    def _search_turned(self, image: np.ndarray) -> list[Face]:
        """The sure faces of an image (H, W, 3) in one of its quarter turns, best first.

        The one with the best score; where it has no sure face, the second.
        """
        fitted, factor = shrink_to_fit(image, self.options.max_side)
        if factor == 1:
            factor = min(_MAX_ENLARGEMENT, self.options.max_side / max(image.shape[:2]))
            fitted = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        turned = [np.ascontiguousarray(np.rot90(fitted, turns)) for turns in range(4)]
        looks = self.look_many(turned)
        best = [max((face.score for face in faces), default=0.0) for faces in looks]
        for turns in sorted(range(4), key=lambda turns: -best[turns])[:2]:
            seen = (_turned_back(face, turns, fitted.shape, factor) for face in looks[turns])
            faces = [
                face for face in (self.refine(image, face) for face in seen) if self.is_sure(face)
            ]
            if faces:
                return sorted(faces, key=lambda face: (-face.score, face.box))
        return []

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


def central_face(faces: Sequence[Face]) -> Face | None:
    """The face in the middle of a view; None without one there."""

    def distance(face: Face) -> float:
        left, top, width, height = face.box
        return float(np.hypot(left + width / 2 - VIEW_SIDE / 2, top + height / 2 - VIEW_SIDE / 2))

    nearest = min(faces, key=distance, default=None)
    return nearest if nearest and distance(nearest) < VIEW_SIDE / 8 else None


def angle_between(left: float, right: float) -> float:
    """left − right in degrees, −180…180."""
    return (left - right + 180) % 360 - 180


def drop_overlapping(faces: Iterable[Face]) -> list[Face]:
    """The faces without those that overlap an earlier one, such as a whole figure."""
    kept: list[Face] = []
    for face in faces:
        if all(_overlap(face.box, other.box) <= _MAX_OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(left: tuple[float, ...], right: tuple[float, ...]) -> float:
    """Area that two boxes (x, y, width, height) share, as a share of the smaller one."""
    across = min(left[0] + left[2], right[0] + right[2]) - max(left[0], right[0])
    down = min(left[1] + left[3], right[1] + right[3]) - max(left[1], right[1])
    return max(across, 0) * max(down, 0) / min(left[2] * left[3], right[2] * right[3])


def _turned_back(face: Face, turns: int, shape: Sequence[int], factor: float) -> Face:
    """A face of an image of `shape` (height, width, …), turned by np.rot90, before that.

    turns: quarters counter-clockwise; factor: by which the image was enlarged before.
    """

    def back(points: np.ndarray) -> np.ndarray:
        for turn in range(turns, 0, -1):
            width = shape[1] if turn % 2 else shape[0]  # before that turn
            points = np.stack([width - 1 - points[:, 1], points[:, 0]], axis=1)
        return to_full_size(points, factor)

    low, extent = np.array(face.box[:2]), np.array(face.box[2:])
    corners = back(np.stack([low, low + extent]) - 0.5) + 0.5
    box = tuple(np.concatenate([corners.min(axis=0), np.ptp(corners, axis=0)]).tolist())
    return replace(face, box=box, landmarks=back(face.landmarks).astype(np.float32))


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
