"""Detects faces by YuNet (Wu et al., 2023), a small network, through OpenCV's FaceDetectorYN."""

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pttfaces import config, weights, workdir
from pttfaces.faces.detectors.base import Detector, Face, shrink_to_fit, to_full_size

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
_VIEW_SIDE = 320  # pixels
_FACE_SIDES = (145, 155, 170, 200, 230)  # pixels: longer side of the face in a view
_MIRRORED = [1, 0, 2, 4, 3]  # order of the landmarks in a mirror image


def find_weights(given: str | None, key: str) -> Path:
    """The file that the OpenCV model zoo publishes; WeightsError where it is not available."""
    return weights.find(
        "YuNet", given, [workdir.cache_dir("weights") / _FILE], _URL, _SHA256, key=key
    )


# Change it whenever other faces are found, also after a change of base.py or of images.decode. This
# value is version 0.1's digest of its code, so that its caches stay valid.
CACHE_VERSION = "d8f25b0a2f3d148b67ff8d7f6ab151d29825599988afd640d2a010165d9f621b"


class YuNetDetector(Detector):
    """Scores are the network's own; all five landmarks are seen, so both eyes count as found."""

    name = "yunet"
    cache_version = CACHE_VERSION

    def __init__(self, options: config.Detect, path: Path) -> None:
        self.options = options
        # From memory: OpenCV cannot open every path on Windows.
        self._network = np.frombuffer(path.read_bytes(), np.uint8)
        self._thread = threading.local()  # OpenCV's object keeps state between calls
        self.identity: dict[str, Any] = {
            "name": self.name,
            "weights": _SHA256,
            "floor": _MIN_SCORE,
            "max_side": options.max_side,
            "opencv": cv2.__version__,
        }

    def search(self, image: np.ndarray) -> list[Face]:
        small, factor = shrink_to_fit(image, self.options.max_side)
        faces = [_face(row, factor) for row in self._run(small)]
        return [replace(face, landmarks=self._mean_landmarks(image, face)) for face in faces]

    def _run(self, rgb: np.ndarray) -> np.ndarray:
        """(N, 15): rows of FaceDetectorYN for an (H, W, 3) uint8 image."""
        bottom, right = (max(0, _MIN_SIDE - side) for side in rgb.shape[:2])
        rgb = cv2.copyMakeBorder(rgb, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        network = self._thread_network()
        network.setInputSize((rgb.shape[1], rgb.shape[0]))
        _, rows = network.detect(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        return rows if rows is not None else np.empty((0, 15), np.float32)

    def _mean_landmarks(self, image: np.ndarray, face: Face) -> np.ndarray:
        """The face's landmarks (5, 2), the mean over several views; its own if all of them fail."""
        found = []
        for side in _FACE_SIDES:
            view = _View.of(image, face.box, side)
            for mirrored in (False, True):
                points = self._central_landmarks(view.pixels[:, ::-1] if mirrored else view.pixels)
                if points is not None:
                    if mirrored:
                        points = (points * (-1, 1) + (_VIEW_SIDE - 1, 0))[_MIRRORED]
                    found.append(view.in_image(points))
        return np.mean(found, axis=0).astype(np.float32) if found else face.landmarks

    def _central_landmarks(self, view: np.ndarray) -> np.ndarray | None:
        """Landmarks (5, 2) of the face in the middle of a view; None without one there."""
        rows = self._run(view)
        if not len(rows):
            return None
        distances = np.hypot(*(rows[:, :2] + rows[:, 2:4] / 2 - _VIEW_SIDE / 2).T)
        nearest = int(distances.argmin())
        is_central = distances[nearest] < _VIEW_SIDE / 8
        return rows[nearest, 4:14].reshape(5, 2) if is_central else None

    def _thread_network(self) -> Any:
        if not hasattr(self._thread, "network"):
            no_config = np.empty(0, np.uint8)
            self._thread.network = cv2.FaceDetectorYN.create(
                "onnx", self._network, no_config, (320, 320), _MIN_SCORE, _MAX_OVERLAP, _MAX_BOXES
            )
        return self._thread.network


@dataclass(frozen=True)
class _View:
    """A square part of an image at another size, (_VIEW_SIDE, _VIEW_SIDE, 3); beyond the image's
    edge that edge is repeated.

    scale: view pixels per image pixel; pad: from the view's corner to the image in it; corner:
    where that begins in the image; each (x, y).
    """

    pixels: np.ndarray
    scale: np.ndarray
    pad: np.ndarray
    corner: np.ndarray

    @classmethod
    def of(
        cls, image: np.ndarray, box: tuple[float, float, float, float], face_side: int
    ) -> "_View":
        """With a face's box in the middle, its longer side scaled to `face_side` pixels."""
        shape = np.array(image.shape[1::-1])
        low, extent = np.array(box[:2]), np.array(box[2:])
        side = max(1.0, float(extent.max()) * _VIEW_SIDE / face_side)
        start = low + (extent - side) / 2
        # At least one pixel of the image, whatever the box.
        corner = np.clip(np.floor(start), 0, shape - 1).astype(int)
        end = np.clip(np.ceil(start + side), corner + 1, shape).astype(int)
        (left, top), (right, bottom) = corner, end
        inside = np.clip(np.round((end - corner) * _VIEW_SIDE / side), 1, _VIEW_SIDE).astype(int)
        pad = np.clip(
            np.round((corner - start) * _VIEW_SIDE / side), 0, _VIEW_SIDE - inside
        ).astype(int)
        after = _VIEW_SIDE - inside - pad
        interpolation = cv2.INTER_AREA if side > _VIEW_SIDE else cv2.INTER_LINEAR
        part = cv2.resize(
            image[top:bottom, left:right], inside.tolist(), interpolation=interpolation
        )
        borders = (int(pad[1]), int(after[1]), int(pad[0]), int(after[0]))
        pixels = cv2.copyMakeBorder(part, *borders, cv2.BORDER_REPLICATE)
        return cls(pixels, inside / (end - corner), pad, corner)

    def in_image(self, points: np.ndarray) -> np.ndarray:
        """Points (…, 2) of the view, in pixels of the image."""
        return (points - self.pad + 0.5) / self.scale - 0.5 + self.corner


def _face(row: np.ndarray, factor: float) -> Face:
    """A row of FaceDetectorYN: box (4), landmarks (10), score, in pixels of the shrunk image.

    It names the eyes as seen by the person (right first), which is left to right in the image.
    """
    x, y, width, height = (float(value) / factor for value in row[:4])
    landmarks = to_full_size(row[4:14].reshape(5, 2), factor).astype(np.float32)
    return Face(float(row[14]), (x, y, width, height), landmarks, eyes_found=2)
