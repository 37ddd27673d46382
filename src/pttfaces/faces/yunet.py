"""YuNet, a small convolutional face detector (Wu et al., 2023), through OpenCV's FaceDetectorYN."""

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pttfaces import files, weights
from pttfaces.faces.face import Detector, Face, Limits, to_full_size, working_size

_FILE = "face_detection_yunet_2023mar.onnx"
_URL = f"https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/{_FILE}"
_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
_FLOOR = 0.5  # below this nearly all of its boxes are no faces
_SAME_FACE = 0.3  # boxes that overlap by more are one face
_MOST = 5000


def find_weights(given: str | None, key: str) -> Path:
    """The file that the OpenCV model zoo publishes; WeightsError where it is not to be had."""
    return weights.find(
        "YuNet", given, [files.cache_dir("weights") / _FILE], _URL, _SHA256, key=key
    )


class YuNetDetector(Detector):
    """Scores are the network's own; all five landmarks are seen, so both eyes count as found."""

    name = "yunet"

    def __init__(self, limits: Limits, path: Path) -> None:
        self.limits = limits
        # From memory: OpenCV cannot open every path on Windows.
        self._network = np.frombuffer(path.read_bytes(), np.uint8)
        self._own = threading.local()  # OpenCV's object keeps state between calls
        self.identity: dict[str, Any] = {
            "name": self.name,
            "weights": _SHA256,
            "floor": _FLOOR,
            "max_side": limits.max_side,
            "opencv": cv2.__version__,
        }

    def search(self, image: np.ndarray) -> list[Face]:
        small, factor = working_size(image, self.limits.max_side)
        network = self._thread_network()
        network.setInputSize((small.shape[1], small.shape[0]))
        _, rows = network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        return [_face(row, factor) for row in (rows if rows is not None else [])]

    def _thread_network(self) -> Any:
        if not hasattr(self._own, "network"):
            nothing = np.empty(0, np.uint8)
            self._own.network = cv2.FaceDetectorYN.create(
                "onnx", self._network, nothing, (320, 320), _FLOOR, _SAME_FACE, _MOST
            )
        return self._own.network


def _face(row: np.ndarray, factor: float) -> Face:
    """A row of FaceDetectorYN: box (4), landmarks (10), score, in pixels of the shrunk picture.

    It names the eyes as seen by the person (right first), which is left to right in the picture.
    """
    x, y, width, height = (float(value) / factor for value in row[:4])
    landmarks = to_full_size(row[4:14].reshape(5, 2), factor).astype(np.float32)
    return Face(float(row[14]), (x, y, width, height), landmarks, eyes_found=2)
