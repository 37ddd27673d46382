"""YuNet, a small convolutional face detector (Wu et al., 2023), through OpenCV's FaceDetectorYN."""

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pttfaces import weights, workdir
from pttfaces.faces.detectors.base import Detector, Face, Limits, to_full_size, working_size

_FILE = "face_detection_yunet_2023mar.onnx"
_URL = f"https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/{_FILE}"
_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
_FLOOR = 0.5  # below this nearly all of its boxes are no faces
_SAME_FACE = 0.3  # boxes that overlap by more are one face
_MOST = 5000
# A picture narrower than two of the network's widest strides makes OpenCV read memory that nobody
# has written: faces in black spacers, and others on the next call.
_LEAST_SIDE = 64  # pixels
# Landmarks are taken from second looks, at sizes at which the network places them best, and from
# their mirror images: its grid of 8 pixels makes a single look waver by a tenth of the eyes'
# distance, and a copy of another size be cut out otherwise than its original.
_LOOK = 320  # pixels: side of a look
_FACE_IN_LOOK = (145, 155, 170, 200, 230)  # pixels: longer side of the face in it
_MIRRORED = [1, 0, 2, 4, 3]  # left and right of the landmarks change places


def find_weights(given: str | None, key: str) -> Path:
    """The file that the OpenCV model zoo publishes; WeightsError where it is not to be had."""
    return weights.find(
        "YuNet", given, [workdir.cache_dir("weights") / _FILE], _URL, _SHA256, key=key
    )


# Change it with any change of the faces found, also in base.py or in how images are decoded. As long
# as it is version 0.1's, that version's cache is used.
CACHE_VERSION = "d8f25b0a2f3d148b67ff8d7f6ab151d29825599988afd640d2a010165d9f621b"


class YuNetDetector(Detector):
    """Scores are the network's own; all five landmarks are seen, so both eyes count as found."""

    name = "yunet"
    cache_version = CACHE_VERSION

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
        faces = [_face(row, factor) for row in self._run(small)]
        return [replace(face, landmarks=self._settled(image, face)) for face in faces]

    def _run(self, rgb: np.ndarray) -> np.ndarray:
        """(N, 15): rows of FaceDetectorYN for an (H, W, 3) uint8 picture."""
        bottom, right = (max(0, _LEAST_SIDE - side) for side in rgb.shape[:2])
        rgb = cv2.copyMakeBorder(rgb, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        network = self._thread_network()
        network.setInputSize((rgb.shape[1], rgb.shape[0]))
        _, rows = network.detect(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        return rows if rows is not None else np.empty((0, 15), np.float32)

    def _settled(self, image: np.ndarray, face: Face) -> np.ndarray:
        """The face's landmarks (5, 2): the mean of second looks; the first one's if all fail."""
        seen = []
        for size in _FACE_IN_LOOK:
            look = _Look.at(image, face.box, size)
            for mirrored in (False, True):
                points = self._nearest(look.pixels[:, ::-1] if mirrored else look.pixels)
                if points is not None:
                    if mirrored:
                        points = (points * (-1, 1) + (_LOOK - 1, 0))[_MIRRORED]
                    seen.append(look.in_picture(points))
        return np.mean(seen, axis=0).astype(np.float32) if seen else face.landmarks

    def _nearest(self, look: np.ndarray) -> np.ndarray | None:
        """Landmarks (5, 2) of the face in the middle of a look; None without one there."""
        rows = self._run(look)
        if not len(rows):
            return None
        away = np.hypot(*(rows[:, :2] + rows[:, 2:4] / 2 - _LOOK / 2).T)
        nearest = int(away.argmin())
        return rows[nearest, 4:14].reshape(5, 2) if away[nearest] < _LOOK / 8 else None

    def _thread_network(self) -> Any:
        if not hasattr(self._own, "network"):
            nothing = np.empty(0, np.uint8)
            self._own.network = cv2.FaceDetectorYN.create(
                "onnx", self._network, nothing, (320, 320), _FLOOR, _SAME_FACE, _MOST
            )
        return self._own.network


@dataclass(frozen=True)
class _Look:
    """A square part of a picture at another size, (_LOOK, _LOOK, 3); beyond the picture's edge that
    edge is repeated.

    scale: look pixels a picture's pixel, pad: from the look's corner to the picture in it, and
    corner: where that begins in the picture; each (x, y).
    """

    pixels: np.ndarray
    scale: np.ndarray
    pad: np.ndarray
    corner: np.ndarray

    @classmethod
    def at(cls, image: np.ndarray, box: tuple[float, float, float, float], size: int) -> "_Look":
        """With the longer side of a face's box `size` pixels long, in the middle."""
        shape = np.array(image.shape[1::-1])
        low, extent = np.array(box[:2]), np.array(box[2:])
        side = max(1.0, float(extent.max()) * _LOOK / size)
        start = low + (extent - side) / 2
        # At least one pixel of the picture, whatever the box.
        corner = np.clip(np.floor(start), 0, shape - 1).astype(int)
        end = np.clip(np.ceil(start + side), corner + 1, shape).astype(int)
        (left, top), (right, bottom) = corner, end
        inside = np.clip(np.round((end - corner) * _LOOK / side), 1, _LOOK).astype(int)
        pad = np.clip(np.round((corner - start) * _LOOK / side), 0, _LOOK - inside).astype(int)
        after = _LOOK - inside - pad
        how = cv2.INTER_AREA if side > _LOOK else cv2.INTER_LINEAR
        part = cv2.resize(image[top:bottom, left:right], inside.tolist(), interpolation=how)
        borders = (int(pad[1]), int(after[1]), int(pad[0]), int(after[0]))
        pixels = cv2.copyMakeBorder(part, *borders, cv2.BORDER_REPLICATE)
        return cls(pixels, inside / (end - corner), pad, corner)

    def in_picture(self, points: np.ndarray) -> np.ndarray:
        """Points (…, 2) of the look, in pixels of the picture."""
        return (points - self.pad + 0.5) / self.scale - 0.5 + self.corner


def _face(row: np.ndarray, factor: float) -> Face:
    """A row of FaceDetectorYN: box (4), landmarks (10), score, in pixels of the shrunk picture.

    It names the eyes as seen by the person (right first), which is left to right in the picture.
    """
    x, y, width, height = (float(value) / factor for value in row[:4])
    landmarks = to_full_size(row[4:14].reshape(5, 2), factor).astype(np.float32)
    return Face(float(row[14]), (x, y, width, height), landmarks, eyes_found=2)
