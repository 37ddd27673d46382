"""Detects faces by OpenCV's Haar cascades (Viola & Jones, 2001), on a CPU and without a download.

The cascades find boxes of faces and of eyes. Eyes are placed by the votes of many overlapping boxes
and by where a face has its eyes; nose and mouth follow from the eyes by the geometry of a face.
The constants were measured on drawn faces against the truth and on photographs against YuNet.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv2.data import haarcascades

from pttfaces import config
from pttfaces.faces.detectors.base import (
    Detector,
    Face,
    PerThread,
    drop_overlapping,
    shrink_to_fit,
)

# Of the frontal cascades that find as much, the one with the fewest false faces.
_FACE_FILE = "haarcascade_frontalface_alt.xml"
# Finer steps cost half as much again and add neighbours, but no faces.
_SCALE_STEP = 1.15
_MIN_NEIGHBOURS = 2
_MIN_SIZE = 24  # pixels of the searched image; the cascade's own window is 20
_HALF_SCORE = 9.0  # neighbours (overlapping boxes) at which a face with both eyes scores 0.5
_SURE_SCORE = 0.5
_MIN_SCORE = 0.25  # the score of 3 neighbours and both eyes, or of 9 and no eye

# Eyes are searched in the upper part of a face's box, scaled to this size.
_STRIP_WIDTH, _STRIP_HEIGHT = 200, 124
_EYE_SIZES = (28, 28), (100, 100)
_EYE_STEP = 1.2
# Where eyes are in a face's box, as shares of its width, and the deviation of that.
_EYES = np.array([[0.298, 0.402], [0.690, 0.402]])
_EYE_DEVIATION = 0.07
_ONE_EYE = 0.06  # votes within this distance are for the same point
_MIN_VOTES = 6
_EYE_DISTANCE = 0.385  # mean, as a share of the box's width
# A plausible pair of eyes: distance as a share of the box's width, and slope.
_MIN_DISTANCE, _MAX_DISTANCE, _MAX_SLOPE = 0.25, 0.55, 0.5

# Nose tip and corners of the mouth in eye distances: along the line of the eyes and down from it.
_BELOW_EYES = np.array([[0.0, 0.56], [-0.41, 1.0], [0.41, 1.0]])


# (file, from the centre of its boxes to the eye as shares of the face's box).
_EYE_CASCADES = (
    ("haarcascade_eye.xml", (0.006, 0.018)),
    ("haarcascade_eye_tree_eyeglasses.xml", (0.003, 0.013)),
)


class HaarDetector(Detector):
    """Scores grow with the number of overlapping boxes and of eyes seen."""

    name = "haar"
    # Raise it whenever other faces are found, also after a change of base.py, view.py or images.py.
    cache_version = "2"

    def __init__(self, options: config.Detect) -> None:
        self.options = options
        self._cascades = PerThread(_load_cascades)
        self.identity: dict[str, Any] = {
            "name": self.name,
            "max_side": options.max_side,
            "turns": options.turns,
            "min_size": options.min_size,
            "opencv": cv2.__version__,
        }

    def look(self, image: np.ndarray) -> list[Face]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small, factor = shrink_to_fit(grey, self.options.max_side)
        min_side = max(_MIN_SIZE, int(self.options.min_size * factor))
        face_cascade, eye_cascades = self._cascades.value
        boxes, neighbours = face_cascade.detectMultiScale2(
            cv2.equalizeHist(small),
            scaleFactor=_SCALE_STEP,
            minNeighbors=_MIN_NEIGHBOURS,
            minSize=(min_side, min_side),
        )
        faces = [
            _face(grey, np.asarray(box, float) / factor, int(count), eye_cascades)
            for box, count in zip(boxes, neighbours, strict=True)
        ]
        faces = [face for face in faces if face.score >= _MIN_SCORE]
        return drop_overlapping(sorted(faces, key=lambda face: (-face.score, face.box)))

    def is_sure(self, face: Face) -> bool:
        return face.eyes_found == 2 and face.score >= _SURE_SCORE


def _load_cascades() -> tuple[Any, list[tuple[Any, np.ndarray]]]:
    """The cascade of faces, and those of eyes with their shifts."""
    return _load(_FACE_FILE), [(_load(file), np.array(shift)) for file, shift in _EYE_CASCADES]


def _load(file: str) -> Any:
    # From memory: OpenCV cannot open every path on Windows.
    text = (Path(haarcascades) / file).read_text(encoding="utf-8")
    storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    cascade = cv2.CascadeClassifier()
    cascade.read(storage.getFirstTopLevelNode())
    return cascade


def _face(
    grey: np.ndarray, box: np.ndarray, neighbours: int, eye_cascades: list[tuple[Any, np.ndarray]]
) -> Face:
    """A face from its box (x, y, width, height) and the eyes in it; pixels of `grey` (H, W)."""
    x, y, width, height = (float(value) for value in box)
    shares = (_eye_votes(grey, box, eye_cascades) + 0.5 - (x, y)) / width
    eyes, found = _pair([_agree(shares, usual) for usual in _EYES])
    score = neighbours / (neighbours + _HALF_SCORE) * (2 + found) / 4
    landmarks = _landmarks(eyes) * width + (x, y) - 0.5
    return Face(score, (x, y, width, height), landmarks.astype(np.float32), found)


def _eye_votes(
    grey: np.ndarray, box: np.ndarray, eye_cascades: list[tuple[Any, np.ndarray]]
) -> np.ndarray:
    """The eye that each single box stands for: (votes, 2), in pixels of `grey`.

    The strip is cut from the full image, where a face may have more pixels than where it was
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
        min_size, max_size = _EYE_SIZES
        # With 0 neighbours required, every single box votes.
        found = cascade.detectMultiScale(strip, _EYE_STEP, 0, minSize=min_size, maxSize=max_size)
        boxes = np.asarray(found, float).reshape(-1, 4)
        votes.append(boxes[:, :2] + boxes[:, 2:] / 2 + shift * _STRIP_WIDTH)
    # The order of the boxes depends on OpenCV's threads, and sums on the order.
    together = np.concatenate(votes)
    together = together[np.lexsort(together.T)]
    return together / scale + (left, top) - 0.5


def _agree(votes: np.ndarray, usual: np.ndarray) -> tuple[np.ndarray, int]:
    """The point near `usual` (2,) on which most votes (N, 2) agree, and how many do.

    Votes are weighted by how far an eye deviates from its usual position. Without enough votes it
    is `usual` itself, with none.
    """
    if not len(votes):
        return usual, 0
    weights = np.exp(-((votes - usual) ** 2).sum(axis=1) / (2 * _EYE_DEVIATION**2))
    distances = ((votes[:, None] - votes[None]) ** 2).sum(axis=2)
    agreement = weights * (np.exp(-distances / (2 * (_ONE_EYE / 2) ** 2)) @ weights)
    point = votes[agreement.argmax()]
    for _ in range(2):
        near = np.hypot(*(votes - point).T) < _ONE_EYE
        point = votes[near].mean(axis=0)
    is_off = float(np.hypot(*(point - usual))) > 3 * _EYE_DEVIATION
    return (usual, 0) if is_off or near.sum() < _MIN_VOTES else (point, int(near.sum()))


def _pair(eyes: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    """Both eyes (2, 2) and how many of them were seen (0…2).

    eyes: position and votes, left and right. Where the two cannot belong to one face, the one with
    fewer votes is dropped; an eye that was not seen is placed relative to the other one.
    """
    (left, left_votes), (right, right_votes) = eyes
    if left_votes and right_votes:
        across, down = right - left
        distance = float(np.hypot(across, down))
        if _MIN_DISTANCE < distance < _MAX_DISTANCE and abs(down) < _MAX_SLOPE * across:
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

    Lengths down the face follow the mean of the eyes' distance and of the one expected in such a
    box: a turned head brings the eyes together, but not the mouth closer to them.
    """
    along = eyes[1] - eyes[0]
    distance = float(np.hypot(*along))
    down = np.array([-along[1], along[0]]) / distance * (distance + _EYE_DISTANCE) / 2
    return np.concatenate([eyes, eyes.mean(axis=0) + _BELOW_EYES @ np.stack([along, down])])
