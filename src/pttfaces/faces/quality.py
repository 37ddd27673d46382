"""What is measured of a crop, to choose by: sharpness, brightness, pose, and what it looks like.

Knows pixels and landmarks only.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import imagehash
import numpy as np
from PIL import Image

# Of every crop, beside its perceptual hash; the columns of data/crops.csv and data/dataset.csv.
MEASURES = ("blur", "face_px", "upscale", "brightness", "yaw", "pitch", "roll", "score")
COLUMNS = ("crop", "image", "face", *MEASURES, "phash")  # of data/crops.csv
BLUR_SIDE = 256  # side at which blur is measured, so that one threshold fits every crop size
# Histogram edges in quarters of an octave around 100, the original's threshold: 0, 6.25 … 6400.
BLUR_EDGES = (0.0, *(100 * 2 ** (step / 4) for step in range(-16, 25)))

_HASH_SIDE = 16  # frequencies a side of the perceptual hash
HASH_BITS = _HASH_SIDE**2

# A face's five landmarks in space, in eye distances from the middle of the eyes: right, down, away
# from the viewer. The usual generic head of pose estimation; the nose stands out of the plane.
_HEAD = np.array(
    [[-0.5, 0, 0], [0.5, 0, 0], [0, 0.58, -0.42], [-0.41, 1.05, -0.04], [0.41, 1.05, -0.04]]
)
_FIT = np.linalg.pinv(_HEAD - _HEAD.mean(axis=0))


@dataclass(frozen=True)
class Pose:
    """How a head is turned, in degrees: yaw to the right of the picture, pitch upwards, roll
    clockwise; 0 looks at the viewer."""

    yaw: float
    pitch: float
    roll: float


def laplacian_variance(rgb: np.ndarray) -> float:
    """Variance of the Laplacian: the higher, the sharper.

    rgb: (H, W, 3) uint8. Grey, 256×256, OpenCV's default kernel, as in the original; a crop of
    another size is resized first.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if grey.shape != (BLUR_SIDE, BLUR_SIDE):
        grey = cv2.resize(grey, (BLUR_SIDE, BLUR_SIDE), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def brightness(rgb: np.ndarray) -> float:
    """Mean grey value, 0 (black) … 255 (white). rgb: (H, W, 3) uint8."""
    return float(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).mean())


def pose(landmarks: np.ndarray) -> Pose:
    """How the head is turned, from its landmarks (5, 2) in any picture's pixels.

    The orthographic fit of a generic head (POS: DeMenthon & Davis, 1995) to the landmarks with the
    eyes turned level. A guide within some 10°, for heads differ; a detector that places nose and
    mouth by the geometry of a face, as haar does, tells the roll only.
    """
    along = landmarks[1] - landmarks[0]
    roll = np.arctan2(along[1], along[0])
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    level = (landmarks - landmarks.mean(axis=0)) @ turn.T
    right, down = (row / max(float(np.linalg.norm(row)), 1e-9) for row in (_FIT @ level).T)
    away = np.cross(right, down)
    yaw = np.arctan2(-right[2], away[2])
    pitch = np.arcsin(np.clip(down[2], -1, 1))
    return Pose(*(float(np.degrees(angle)) for angle in (yaw, pitch, roll)))


def perceptual_hash(rgb: np.ndarray) -> str:
    """HASH_BITS bits in hex that differ the less, the more alike two crops look.

    pHash (Zauner, 2010) through imagehash: signs of the lowest frequencies. rgb: (S, S, 3) uint8.
    """
    return str(imagehash.phash(Image.fromarray(rgb), hash_size=_HASH_SIDE))


def blur_histogram(variances: Iterable[float]) -> list[tuple[float, int]]:
    """(lower edge of the bin, crops in it) for every bin of BLUR_EDGES; the last one is open."""
    edges = np.array([*BLUR_EDGES, np.inf])
    counts, _ = np.histogram(np.fromiter(variances, float), edges)
    return [(round(edge, 2), int(n)) for edge, n in zip(BLUR_EDGES, counts, strict=True)]
