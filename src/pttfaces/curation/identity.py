"""Recognizes crops of the same person by SFace (Zhong et al., 2021), through OpenCV.

Optional: the network's file is downloaded once, and only where curate.identity or `pttfaces forget
--face` asks for it. A face's features identify a person: they are kept in .cache/ alone.
"""

import io
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pttfaces import config, files, images, weights, workdir
from pttfaces.curation.candidates import Candidate
from pttfaces.curation.filters import is_denied
from pttfaces.denylist import DenyList
from pttfaces.faces.parallel import ordered_map
from pttfaces.progress import progress

_FILE = "face_recognition_sface_2021dec.onnx"
_URL = f"https://github.com/opencv/opencv_zoo/raw/main/models/face_recognition_sface/{_FILE}"
SHA256 = "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79"
CACHE_VERSION = 1  # of the features
_BLOCK = 1024  # crops compared with all others at once


class Recognizer:
    """Features of faces, whose cosine says how much two resemble each other.

    path: of the network's file; landmarks: (5, 2), where an aligned crop has them; cache: a folder.
    Several threads may use one.
    """

    def __init__(self, path: Path, landmarks: np.ndarray, cache: Path) -> None:
        # From memory: OpenCV cannot open every path on Windows.
        self._network = np.frombuffer(path.read_bytes(), np.uint8)
        key = files.digest_json([CACHE_VERSION, SHA256, landmarks.round(2).tolist()])
        self._cache = cache / f"sface-{key[:16]}"
        # As OpenCV's detector writes a face: box, landmarks, score.
        self._face = np.array([[0, 0, 0, 0, *landmarks.ravel(), 1]], np.float32)
        self._thread = threading.local()  # OpenCV's object keeps state between calls

    def file_features(self, crop: Path) -> np.ndarray:
        """The features (D,) of a crop's file, of length 1, from the cache if it has them."""
        content = images.read_bytes(crop)
        digest = files.digest_bytes(content)
        path = self._cache / digest[:2] / digest
        if (known := _parse(path)) is not None:
            return known
        found = self.features(images.decode(content))
        with files.atomic(path) as handle:
            np.save(handle, found, allow_pickle=False)
        return found

    def features(self, crop: np.ndarray) -> np.ndarray:
        """The features (D,) float32 of an aligned crop (S, S, 3) uint8 RGB, of length 1."""
        if not hasattr(self._thread, "network"):
            self._thread.network = cv2.FaceRecognizerSF.create(
                "onnx", self._network, np.empty(0, np.uint8)
            )
        network: Any = self._thread.network
        aligned = network.alignCrop(cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), self._face)
        found = network.feature(aligned).ravel().astype(np.float32)
        return found / max(float(np.linalg.norm(found)), 1e-9)


def _parse(path: Path) -> np.ndarray | None:
    """Cached features; None without them, or where the file is damaged."""
    try:
        found = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return found if abs(float(np.linalg.norm(found)) - 1) < 1e-3 else None


def make_recognizer(params: config.Params) -> Recognizer:
    """The recognizer for crops of `params`; WeightsError: its file is not available."""
    from pttfaces.faces.alignment import FaceCropper  # takes seconds: torch

    path = weights.find(
        "SFace",
        params.curate.identity_weights,
        [workdir.cache_dir("weights") / _FILE],
        _URL,
        SHA256,
        key="curate.identity_weights",
    )
    landmarks = FaceCropper(params.crop).landmarks
    return Recognizer(path, landmarks, workdir.cache_dir("identity"))


def pairs_of_people(
    candidates: Sequence[Candidate], crops: Path, params: config.Params, deny: DenyList
) -> np.ndarray:
    """As `find_same_person`, by the parameters; no pairs without curate.identity."""
    if params.curate.identity == "none":
        return np.empty((0, 2), np.int64)
    recognizer = make_recognizer(params)
    return find_same_person(candidates, crops, recognizer, params.curate.same_person, deny)


def find_same_person(
    candidates: Sequence[Candidate],
    crops: Path,
    recognizer: Recognizer,
    cosine: float,
    deny: DenyList,
) -> np.ndarray:
    """The indices (P, 2) of every two candidates that show the same person, by the cosine of their
    features; the smaller one first, sorted. Denied candidates resemble nobody.

    crops: their folder; cosine: from which on two are the same.
    """
    allowed = [index for index, each in enumerate(candidates) if not is_denied(each, deny)]
    found = []
    with progress("recognize", len(allowed), " crops") as bar:
        paths = [crops / candidates[index].crop.crop for index in allowed]
        for _, features in ordered_map(recognizer.file_features, paths):
            found.append(features)
            bar.update()
    pairs = similar_features(np.stack(found), cosine) if found else np.empty((0, 2), np.int64)
    return np.array(allowed, np.int64)[pairs]


def similar_features(features: np.ndarray, cosine: float) -> np.ndarray:
    """The indices (P, 2) of every two rows of (N, D) with at least that cosine, sorted."""
    found = []
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK]
        first, second = np.nonzero(block @ features[start:].T >= cosine)
        later = second > first
        found.append(np.stack([first[later], second[later]], axis=1) + start)
    return np.concatenate(found)


def number_people(count: int, same_person: np.ndarray) -> list[int]:
    """The number of the person whom each of `count` crops shows: crops that are linked by pairs
    (P, 2) show one person."""
    links = coo_array((np.ones(len(same_person)), tuple(same_person.T)), (count, count))
    people: list[int] = connected_components(links, directed=False)[1].tolist()
    return people
