"""Haar cascades (Viola & Jones, 2001), those that come with OpenCV: no download, made for CPUs.

The cascades give boxes of faces and of eyes. Eyes are placed by the votes of many overlapping boxes
and by where a face has its eyes; nose and mouth follow from the eyes by the geometry of a face.
The constants were measured on drawn faces against the truth and on photographs against YuNet.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv2.data import haarcascades

from pttfaces.faces.detectors.base import Detector, Face, Limits, working_size

# Of the frontal cascades the one with the fewest boxes where no face is, at the same finds.
_FACE_FILE = "haarcascade_frontalface_alt.xml"
# Finer steps cost half as much again and find no more: what they add is neighbours.
_SCALE_STEP = 1.15
_FEWEST_NEIGHBOURS = 2
_SMALLEST = 24  # pixels of the searched picture; the cascade's own window is 20
_HALF_SURE = 9.0  # neighbours, overlapping boxes, at which a face is half sure
_FLOOR = 0.25  # score of what has 3 neighbours and both eyes, or 9 and none
_SAME_PLACE = 0.5  # faces that share more of the smaller box than this cannot both be one

# Eyes are sought in the upper part of a face's box, drawn at this size.
_STRIP_WIDTH, _STRIP_HEIGHT = 200, 124
_EYE_SIZES = (28, 28), (100, 100)
_EYE_STEP = 1.2
# Where eyes lie in a face's box, as shares of its width, and how far they stray.
_EYES = np.array([[0.298, 0.402], [0.690, 0.402]])
_STRAY = 0.07
_ONE_EYE = 0.06  # votes within this distance speak of the same point
_FEWEST_VOTES = 6
_EYE_DISTANCE = 0.385  # mean, as a share of the box's width
_LEAST_DISTANCE, _MOST_DISTANCE, _STEEPEST = 0.25, 0.55, 0.5  # of a plausible pair

# Nose tip and corners of the mouth in eye distances: along the line of the eyes and down from it.
_BELOW_EYES = np.array([[0.0, 0.56], [-0.41, 1.0], [0.41, 1.0]])


@dataclass(frozen=True)
class _EyeCascade:
    """shift: from the centre of its boxes to the eye, as a share of the face's box."""

    file: str
    shift: tuple[float, float]


_EYE_CASCADES = (
    _EyeCascade("haarcascade_eye.xml", (0.006, 0.018)),
    _EyeCascade("haarcascade_eye_tree_eyeglasses.xml", (0.003, 0.013)),
)

# Change it with any change of the faces found, also in base.py or in how images are decoded. As long
# as it is version 0.1's, that version's cache is used.
CACHE_VERSION = "732956b000ffa054493bdff38d663263123b3a0df58f121f85158bb91a3b87d9"


class HaarDetector(Detector):
    """Scores grow with the number of overlapping boxes and with the eyes that are seen."""

    name = "haar"
    cache_version = CACHE_VERSION

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._own = threading.local()  # OpenCV's cascades keep state between calls
        self.identity: dict[str, Any] = {
            "name": self.name,
            "max_side": limits.max_side,
            "min_size": limits.min_size,
            "opencv": cv2.__version__,
        }

    def search(self, image: np.ndarray) -> list[Face]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small, factor = working_size(grey, self.limits.max_side)
        least = max(_SMALLEST, int(self.limits.min_size * factor))
        cascades = self._thread_cascades()
        boxes, neighbours = cascades.face.detectMultiScale2(
            cv2.equalizeHist(small),
            scaleFactor=_SCALE_STEP,
            minNeighbors=_FEWEST_NEIGHBOURS,
            minSize=(least, least),
        )
        faces = [
            _face(grey, np.asarray(box, float) / factor, int(count), cascades.eyes)
            for box, count in zip(boxes, neighbours, strict=True)
        ]
        return _one_a_place([face for face in faces if face.score >= _FLOOR])

    def _thread_cascades(self) -> "_Cascades":
        if not hasattr(self._own, "cascades"):
            self._own.cascades = _Cascades()
        return self._own.cascades


class _Cascades:
    """One thread's cascades."""

    def __init__(self) -> None:
        self.face = _load(_FACE_FILE)
        self.eyes = [(_load(cascade.file), np.array(cascade.shift)) for cascade in _EYE_CASCADES]


def _load(file: str) -> Any:
    # From memory: OpenCV cannot open every path on Windows.
    text = (Path(haarcascades) / file).read_text(encoding="utf-8")
    storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    cascade = cv2.CascadeClassifier()
    cascade.read(storage.getFirstTopLevelNode())
    return cascade


def _one_a_place(faces: list[Face]) -> list[Face]:
    """The faces without those that lie upon a surer one, such as a figure taken for a face."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: (-face.score, face.box)):
        if all(_shared(face.box, other.box) <= _SAME_PLACE for other in kept):
            kept.append(face)
    return kept


def _shared(left: tuple[float, ...], right: tuple[float, ...]) -> float:
    """Area that two boxes (x, y, width, height) share, as a share of the smaller one."""
    across = min(left[0] + left[2], right[0] + right[2]) - max(left[0], right[0])
    down = min(left[1] + left[3], right[1] + right[3]) - max(left[1], right[1])
    return max(across, 0) * max(down, 0) / min(left[2] * left[3], right[2] * right[3])


def _face(
    grey: np.ndarray, box: np.ndarray, neighbours: int, eye_cascades: list[tuple[Any, np.ndarray]]
) -> Face:
    """A face from its box (x, y, width, height) and the eyes in it; pixels of `grey` (H, W)."""
    x, y, width, height = (float(value) for value in box)
    shares = (_eye_votes(grey, box, eye_cascades) + 0.5 - (x, y)) / width
    eyes, found = _pair([_settle(shares, place) for place in _EYES])
    score = neighbours / (neighbours + _HALF_SURE) * (2 + found) / 4
    landmarks = _landmarks(eyes) * width + (x, y) - 0.5
    return Face(score, (x, y, width, height), landmarks.astype(np.float32), found)


def _eye_votes(
    grey: np.ndarray, box: np.ndarray, eye_cascades: list[tuple[Any, np.ndarray]]
) -> np.ndarray:
    """Where each single box of an eye puts it: (votes, 2), in pixels of `grey`.

    The strip is cut from the full picture, where a face may have more pixels than where it was
    found. It is not equalised: that costs eyes on real photographs.
    """
    height, width = grey.shape
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    side = min(round(box[2]), width - left)
    cut = grey[
        top : min(height, top + round(side * _STRIP_HEIGHT / _STRIP_WIDTH)), left : left + side
    ]
    scale = _STRIP_WIDTH / side
    shrinking = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    strip = cv2.resize(
        cut, (_STRIP_WIDTH, max(1, round(len(cut) * scale))), interpolation=shrinking
    )
    votes = [np.empty((0, 2))]
    for cascade, shift in eye_cascades:
        least, most = _EYE_SIZES
        # No neighbours asked for: every single box votes.
        found = cascade.detectMultiScale(strip, _EYE_STEP, 0, minSize=least, maxSize=most)
        boxes = np.asarray(found, float).reshape(-1, 4)
        votes.append(boxes[:, :2] + boxes[:, 2:] / 2 + shift * _STRIP_WIDTH)
    # The order of the boxes depends on OpenCV's threads, and sums on the order.
    together = np.concatenate(votes)
    together = together[np.lexsort(together.T)]
    return together / scale + (left, top) - 0.5


def _settle(votes: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, int]:
    """The point near `place` (2,) on which most votes (N, 2) agree, and how many do.

    Votes are weighed by how far an eye strays from its usual place; without enough votes it is
    `place` itself, with none.
    """
    if not len(votes):
        return place, 0
    likely = np.exp(-((votes - place) ** 2).sum(axis=1) / (2 * _STRAY**2))
    apart = ((votes[:, None] - votes[None]) ** 2).sum(axis=2)
    agreement = likely * (np.exp(-apart / (2 * (_ONE_EYE / 2) ** 2)) @ likely)
    point = votes[agreement.argmax()]
    for _ in range(2):
        near = np.hypot(*(votes - point).T) < _ONE_EYE
        point = votes[near].mean(axis=0)
    strayed = float(np.hypot(*(point - place))) > 3 * _STRAY
    return (place, 0) if strayed or near.sum() < _FEWEST_VOTES else (point, int(near.sum()))


def _pair(settled: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    """Both eyes (2, 2) and how many of them were seen (0…2).

    Where the two cannot belong to one face, the one with fewer votes is dropped; an eye that was
    not seen is put where it lies beside the other one.
    """
    (left, left_votes), (right, right_votes) = settled
    if left_votes and right_votes:
        across, down = right - left
        distance = float(np.hypot(across, down))
        if _LEAST_DISTANCE < distance < _MOST_DISTANCE and abs(down) < _STEEPEST * across:
            return np.stack([left, right]), 2
        if left_votes < right_votes:
            left_votes = 0
        else:
            right_votes = 0
    if left_votes:
        return left + (_EYES - _EYES[0]), 1
    if right_votes:
        return right + (_EYES - _EYES[1]), 1
    return _EYES.copy(), 0


def _landmarks(eyes: np.ndarray) -> np.ndarray:
    """All five landmarks (5, 2) from the eyes (2, 2), in shares of the face's box.

    Lengths down the face follow the mean of the eyes' distance and of what the box lets expect: a
    turned head brings the eyes together, and not the mouth nearer.
    """
    along = eyes[1] - eyes[0]
    distance = float(np.hypot(*along))
    down = np.array([-along[1], along[0]]) / distance * (distance + _EYE_DISTANCE) / 2
    return np.concatenate([eyes, eyes.mean(axis=0) + _BELOW_EYES @ np.stack([along, down])])
