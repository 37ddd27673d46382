"""Detects faces by RetinaFace (Deng et al., 2020) with a ResNet-50, from face-crop-plus."""

import copy
import functools
import pickle
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from face_crop_plus.models._layers import PriorBox
from face_crop_plus.models.retinaface import RetinaFace

from pttfaces import config, files, weights, workdir
from pttfaces.errors import WeightsError
from pttfaces.faces.detectors.base import Detector, Face, shrink_to_fit, to_full_size

_FILE = RetinaFace.WEIGHTS_FILENAME
_SURE_SCORE = 0.95
_MIN_SCORE = 0.2  # below this nearly all of its boxes are no faces
# What torch raises for a file of another format, or of another network.
_WRONG_FILE: tuple[type[Exception], ...] = (
    *(RuntimeError, pickle.UnpicklingError, EOFError, LookupError),
    *(TypeError, ValueError, AttributeError),
)
_MEAN_BGR = np.array([104, 117, 123], np.float32)  # what its authors subtract
_STEP = 32  # sides are padded to multiples of it, so that images of like shapes share a batch


def find_weights(given: str | None, key: str) -> Path:
    """The file that face-crop-plus publishes; WeightsError where it is not available.

    torch.hub's folder is where face-crop-plus itself keeps it. No digest was ever published.
    """
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    candidates = [workdir.cache_dir("weights") / _FILE, hub / _FILE]
    return weights.find("RetinaFace", given, candidates, RetinaFace.URL_ROOT + _FILE, None, key=key)


class RetinaFaceDetector(Detector):
    """Scores are the network's own; all five landmarks are seen, so both eyes count as found.

    Runs on a GPU where there is one, there on up to detect.batch_size images at once; a CPU is busy
    with one. WeightsError: `path` holds something else.
    """

    name = "retinaface"
    uses_device = True
    # Raise it whenever other faces are found, also after a change of base.py, view.py or images.py.
    cache_version = "2"

    def __init__(self, options: config.Detect, path: Path) -> None:
        self.options = options
        self.identity: dict[str, Any] = {
            "name": self.name,
            "weights": files.digest_file(path),
            "floor": _MIN_SCORE,
            "max_side": options.max_side,
            "turns": options.turns,
        }
        self._place(_load(path))

    def __getstate__(self) -> dict[str, Any]:
        network = copy.deepcopy(self._network).cpu()
        return {"options": self.options, "identity": self.identity, "network": network}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.options, self.identity = state["options"], state["identity"]
        self._place(state["network"])

    def _place(self, network: RetinaFace) -> None:
        """Moves the network to this machine's device."""
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self.batch_size = self.options.batch_size if self._device == "cuda" else 1
        self._network = network.to(self._device)
        self._lock = threading.Lock()  # torch itself keeps all cores busy

    def look(self, image: np.ndarray) -> list[Face]:
        return self.look_many([image])[0]

    def is_sure(self, face: Face) -> bool:
        return face.score >= _SURE_SCORE

    def look_many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        shrunk = [shrink_to_fit(image, self.options.max_side) for image in images]
        by_shape: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for number, (small, _) in enumerate(shrunk):
            by_shape[_padded(small.shape[0]), _padded(small.shape[1])].append(number)
        found: list[list[Face]] = [[] for _ in images]
        for shape, numbers in by_shape.items():
            with self._lock:
                batches = self._run([shrunk[number][0] for number in numbers], shape)
            for number, rows in zip(numbers, batches, strict=True):
                found[number] = [_face(row, shrunk[number][1]) for row in rows]
        return found

    @torch.no_grad()
    def _run(self, images: Sequence[np.ndarray], shape: tuple[int, int]) -> list[np.ndarray]:
        """Faces in each of the (H, W, 3) uint8 images, padded to the right and below to `shape`:
        (N, 15), box corners (4), landmarks (10), score."""
        height, width = shape
        # Zero after the mean is subtracted: what the network's own padding holds.
        batch = np.zeros((len(images), height, width, 3), np.float32)
        for padded, rgb in zip(batch, images, strict=True):
            padded[: rgb.shape[0], : rgb.shape[1]] = rgb[..., ::-1] - _MEAN_BGR
        pixels = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)
        scores, boxes, landmarks = self._network(pixels)
        priors = _priors(height, width).to(self._device)
        scores = scores[..., 1]
        boxes = self._network.decode_bboxes(boxes, priors)
        boxes = boxes * torch.tensor([width, height] * 2, device=self._device)
        landmarks = self._network.decode_landms(landmarks, priors)
        landmarks = landmarks * torch.tensor([width, height] * 5, device=self._device)
        # filter_preds does not return the scores: they are passed as further landmarks.
        details = torch.cat([landmarks, scores[..., None]], dim=-1)
        details, boxes, owners = self._network.filter_preds(scores, boxes, details)
        rows = torch.cat([boxes, details], dim=-1).cpu().numpy()
        owners = np.array(owners, int)
        return [rows[owners == number] for number in range(len(images))]


def _padded(side: int) -> int:
    return -(-side // _STEP) * _STEP


@functools.lru_cache(maxsize=64)
def _priors(height: int, width: int) -> torch.Tensor:
    """Anchors of an image of this size; cached, because plain Python computes them."""
    return PriorBox((height, width)).forward()


def _load(path: Path) -> RetinaFace:
    network = RetinaFace(strategy="all", vis=_MIN_SCORE)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except _WRONG_FILE:
        raise WeightsError(
            f"RetinaFace: {path} does not hold its weights; replace it with {_FILE} from "
            f"{RetinaFace.URL_ROOT.rstrip('/')}."
        ) from None
    return network.eval()


def _face(row: np.ndarray, factor: float) -> Face:
    left, top, right, bottom = (float(value) / factor for value in row[:4])
    landmarks = to_full_size(row[4:14].reshape(5, 2), factor).astype(np.float32)
    return Face(float(row[14]), (left, top, right - left, bottom - top), landmarks, eyes_found=2)
