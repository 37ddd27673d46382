"""RetinaFace (Deng et al., 2020) with a ResNet-50, the one that comes with face-crop-plus."""

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

from pttfaces import files, weights, workdir
from pttfaces.errors import WeightsError
from pttfaces.faces.detectors.base import Detector, Face, Limits, to_full_size, working_size

_FILE = RetinaFace.WEIGHTS_FILENAME
_FLOOR = 0.2  # below this nearly all of its boxes are no faces
# What torch raises for a file that is none of its own, or holds another network.
_NO_WEIGHTS: tuple[type[Exception], ...] = (
    *(RuntimeError, pickle.UnpicklingError, EOFError, LookupError),
    *(TypeError, ValueError, AttributeError),
)
_MEAN_BGR = np.array([104, 117, 123], np.float32)  # what its authors subtract
_STEP = 32  # sides are padded to multiples of it, so that pictures of like shapes share a batch


def find_weights(given: str | None, key: str) -> Path:
    """The file that face-crop-plus publishes; WeightsError where it is not to be had.

    torch.hub's folder is where face-crop-plus itself keeps it. No digest was ever published.
    """
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    candidates = [workdir.cache_dir("weights") / _FILE, hub / _FILE]
    return weights.find("RetinaFace", given, candidates, RetinaFace.URL_ROOT + _FILE, None, key=key)


# Change it with any change of the faces found, also in base.py or in how images are decoded. As long
# as it is version 0.1's, that version's cache is used.
CACHE_VERSION = "4028224beea6e7438b5dabf332a3bc9d02d55d7a4718014361cf26ec7985daef"


class RetinaFaceDetector(Detector):
    """Scores are the network's own; all five landmarks are seen, so both eyes count as found.

    Runs on a GPU where there is one, there on up to `batch_size` pictures at once; a CPU is busy
    with one. Raises WeightsError for a file of something else.
    """

    name = "retinaface"
    cache_version = CACHE_VERSION

    def __init__(self, limits: Limits, path: Path, batch_size: int = 8) -> None:
        self.limits = limits
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self.batch_size = batch_size if self._device == "cuda" else 1
        self._network = _load(path).to(self._device)
        self._one_at_a_time = threading.Lock()  # torch itself keeps all cores busy
        self.identity: dict[str, Any] = {
            "name": self.name,
            "weights": files.digest_file(path),
            "floor": _FLOOR,
            "max_side": limits.max_side,
        }

    def search(self, image: np.ndarray) -> list[Face]:
        return self.search_many([image])[0]

    def search_many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        shrunk = [working_size(image, self.limits.max_side) for image in images]
        alike: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for number, (small, _) in enumerate(shrunk):
            alike[_padded(small.shape[0]), _padded(small.shape[1])].append(number)
        found: list[list[Face]] = [[] for _ in images]
        for shape, numbers in alike.items():
            with self._one_at_a_time:
                batches = self._run([shrunk[number][0] for number in numbers], shape)
            for number, rows in zip(numbers, batches, strict=True):
                found[number] = [_face(row, shrunk[number][1]) for row in rows]
        return found

    @torch.no_grad()
    def _run(self, images: Sequence[np.ndarray], shape: tuple[int, int]) -> list[np.ndarray]:
        """Faces in each of the (H, W, 3) uint8 pictures, padded to the right and below to `shape`:
        (N, 15), box corners (4), landmarks (10), score."""
        height, width = shape
        # Zero after the mean is subtracted: what the network's own padding holds.
        batch = np.zeros((len(images), height, width, 3), np.float32)
        for place, rgb in zip(batch, images, strict=True):
            place[: rgb.shape[0], : rgb.shape[1]] = rgb[..., ::-1] - _MEAN_BGR
        pixels = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)
        scores, boxes, landmarks = self._network(pixels)
        priors = _priors(height, width).to(self._device)
        scores = scores[..., 1]
        boxes = self._network.decode_bboxes(boxes, priors)
        boxes = boxes * torch.tensor([width, height] * 2, device=self._device)
        landmarks = self._network.decode_landms(landmarks, priors)
        landmarks = landmarks * torch.tensor([width, height] * 5, device=self._device)
        # filter_preds does not give the scores back: they ride along with the landmarks.
        riders = torch.cat([landmarks, scores[..., None]], dim=-1)
        riders, boxes, owners = self._network.filter_preds(scores, boxes, riders)
        rows = torch.cat([boxes, riders], dim=-1).cpu().numpy()
        owners = np.array(owners, int)
        return [rows[owners == number] for number in range(len(images))]


def _padded(side: int) -> int:
    return -(-side // _STEP) * _STEP


@functools.lru_cache(maxsize=64)
def _priors(height: int, width: int) -> torch.Tensor:
    """Anchors of a picture of this size; made in plain Python, so worth keeping."""
    return PriorBox((height, width)).forward()


def _load(path: Path) -> RetinaFace:
    network = RetinaFace(strategy="all", vis=_FLOOR)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except _NO_WEIGHTS:
        raise WeightsError(
            f"RetinaFace: {path} does not hold its weights; replace it by {_FILE} of "
            f"{RetinaFace.URL_ROOT.rstrip('/')}."
        ) from None
    return network.eval()


def _face(row: np.ndarray, factor: float) -> Face:
    left, top, right, bottom = (float(value) / factor for value in row[:4])
    landmarks = to_full_size(row[4:14].reshape(5, 2), factor).astype(np.float32)
    return Face(float(row[14]), (left, top, right - left, bottom - top), landmarks, eyes_found=2)
