"""Detects faces by YuNet (Wu et al., 2023), a small network, through OpenCV's FaceDetectorYN."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pttfaces import config, weights, workdir
from pttfaces.faces.detectors.base import (
    MAX_LOOKS,
    MAX_TILT,
    Detector,
    Face,
    PerThread,
    angle_between,
    central_face,
    shrink_to_fit,
    to_full_size,
)
from pttfaces.faces.detectors.view import VIEW_SIDE, View

_FILE = "face_detection_yunet_2023mar.onnx"
_URL = f"https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/{_FILE}"
_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
_MIN_SCORE = 0.5  # below this nearly all of its boxes are no faces
_MAX_OVERLAP = 0.3  # boxes that overlap by more are one face
_MAX_BOXES = 5000  # before overlapping ones are merged
# In an image narrower than two of the network's widest strides OpenCV reads uninitialized memory:
# it finds faces in black spacers, and others on the next call.
_MIN_SIDE = 64  # pixels
# Landmarks are the mean of several views of a face, at the sizes at which the network places them
# best, and of their mirror images. Its grid of 8 pixels shifts those of a single view by up to a
# tenth of the eyes' distance, so that a resized copy would be cropped differently.
_FACE_SIDES = (145, 155, 170, 200, 230)  # pixels: longer side of the face in a view
_SEEN_OF_TILT = 0.7  # landmarks of a face tilted by 15° show 10.5°; 0.6 at 30°, 0.5 at 45°
# Views of an upright face disagree by 0.03 to 0.055, of one tilted by 30° by up to 0.09, of one on
# its head, which the network takes for upright, by 0.1 to 0.15.
_MAX_SPREAD = 0.07  # eye distances
_MIRRORED = [1, 0, 2, 4, 3]  # order of the landmarks in a mirror image


def find_weights(given: str | None, key: str) -> Path:
    """The file that the OpenCV model zoo publishes; WeightsError where it is not available."""
    return weights.find(
        "YuNet", given, [workdir.cache_dir("weights") / _FILE], _URL, _SHA256, key=key
    )


class YuNetDetector(Detector):
    """Scores are the network's own; all five landmarks are seen, so both eyes count as found."""

    name = "yunet"
    # Raise it whenever other faces are found, also after a change of base.py, view.py or images.py.
    cache_version = "3"

    def __init__(self, options: config.Detect, path: Path) -> None:
        self.options = options
        self._network = PerThread(partial(_load_network, path.read_bytes()))
        self.identity: dict[str, Any] = {
            "name": self.name,
            "weights": _SHA256,
            "floor": _MIN_SCORE,
            "max_side": options.max_side,
            "turns": options.turns,
            "opencv": cv2.__version__,
        }

    def look(self, image: np.ndarray) -> list[Face]:
        small, factor = shrink_to_fit(image, self.options.max_side)
        return [_face(row, factor) for row in self._run(small)]

    def _run(self, rgb: np.ndarray) -> np.ndarray:
        """(N, 15): rows of FaceDetectorYN for an (H, W, 3) uint8 image."""
        bottom, right = (max(0, _MIN_SIDE - side) for side in rgb.shape[:2])
        rgb = cv2.copyMakeBorder(rgb, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        network = self._network.value
        network.setInputSize((rgb.shape[1], rgb.shape[0]))
        _, rows = network.detect(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        return rows if rows is not None else np.empty((0, 15), np.float32)

    def refine(self, image: np.ndarray, face: Face) -> Face:
        """With landmarks that are the mean over several views; its own if all of them fail.

        With `options.turns` the views are turned upright by the face's roll, and a sure face has
        their mean score, if it is higher: a look underrates tilted faces.
        """
        roll, turns = (face.roll, MAX_LOOKS - 1) if self.options.turns else (0.0, 0)
        seen = self._look_closer(image, face, roll, turns)
        if not seen:
            return replace(face, spread=1.0)
        mean, spread = _mean_landmarks(seen), 1.0
        if len(seen) == 2 * len(_FACE_SIDES):
            eyes = max(float(np.linalg.norm(mean[1] - mean[0])), 1e-6)
            spread = float(np.std([one.landmarks for one in seen], axis=0).mean()) / eyes
        face = replace(face, landmarks=mean, spread=spread)
        if turns and self.is_sure(face):
            face = replace(face, score=max(face.score, float(np.mean([one.score for one in seen]))))
        return face

    def is_sure(self, face: Face) -> bool:
        return face.spread <= _MAX_SPREAD

    def _look_closer(
        self, image: np.ndarray, face: Face, roll: float, turns_left: int
    ) -> list[Face]:
        """A face as the views that show it see it, its landmarks in pixels of the image.

        roll: by which the views are turned. Where they show a tilt, they are taken again, turned by
        that, too.
        """
        seen: list[Face] = []
        for side in _FACE_SIDES:
            view = View.of(image, face.box, side, roll)
            for mirrored in (False, True):
                pixels = view.pixels[:, ::-1] if mirrored else view.pixels
                if central := central_face([_face(row, 1.0) for row in self._run(pixels)]):
                    points = central.landmarks
                    if mirrored:
                        points = (points * (-1, 1) + (VIEW_SIDE - 1, 0))[_MIRRORED]
                    seen.append(replace(central, landmarks=view.in_image(points)))
            if seen and turns_left:
                tilt = angle_between(replace(face, landmarks=_mean_landmarks(seen)).roll, roll)
                if abs(tilt) > MAX_TILT:
                    turned = roll + tilt / _SEEN_OF_TILT
                    return self._look_closer(image, face, turned, turns_left - 1)
        return seen


def _load_network(content: bytes) -> Any:
    # From memory: OpenCV cannot open every path on Windows.
    network, no_config = np.frombuffer(content, np.uint8), np.empty(0, np.uint8)
    return cv2.FaceDetectorYN.create(
        "onnx", network, no_config, (320, 320), _MIN_SCORE, _MAX_OVERLAP, _MAX_BOXES
    )


def _mean_landmarks(faces: Sequence[Face]) -> np.ndarray:
    """(5, 2) float32."""
    mean: np.ndarray = np.mean([face.landmarks for face in faces], axis=0)
    return mean.astype(np.float32)


def _face(row: np.ndarray, factor: float) -> Face:
    """A row of FaceDetectorYN: box (4), landmarks (10), score, in pixels of the shrunk image.

    It names the eyes as seen by the person (right first), which is left to right in the image.
    """
    x, y, width, height = (float(value) / factor for value in row[:4])
    landmarks = to_full_size(row[4:14].reshape(5, 2), factor).astype(np.float32)
    return Face(float(row[14]), (x, y, width, height), landmarks, eyes_found=2)
