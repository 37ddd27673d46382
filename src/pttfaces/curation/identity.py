"""Recognizes crops of the same person by SFace (Zhong et al., 2021), through OpenCV.

Optional: the network's file is downloaded once, and only where curate.identity or `pttfaces forget
--face` asks for it. A face's features identify a person: they are kept in .cache/ alone.
"""

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pttfaces import config, files, images, weights, workdir
from pttfaces.curation.candidates import DENIED, Candidate
from pttfaces.faces.detectors.base import PerThread
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
        self._network = PerThread(partial(_load_network, path.read_bytes()))
        key = files.digest_json([CACHE_VERSION, SHA256, landmarks.round(2).tolist()])
        self._cache = cache / f"sface-{key[:16]}"
        # As OpenCV's detector writes a face: box, landmarks, score.
        self._face = np.array([[0, 0, 0, 0, *landmarks.ravel(), 1]], np.float32)

    def files_features(self, crops: Sequence[Path]) -> np.ndarray:
        """The features (N, D) of N ≥ 1 crops' files, from the cache where it has them."""
        found = []
        with progress("recognize", len(crops), " crops") as bar:
            for _, features in ordered_map(self._file_features, crops):
                found.append(features)
                bar.update()
        return np.stack(found)

    def _file_features(self, crop: Path) -> np.ndarray:
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
        network = self._network.value
        aligned = network.alignCrop(cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), self._face)
        found = network.feature(aligned).ravel().astype(np.float32)
        return found / max(float(np.linalg.norm(found)), 1e-9)


def _load_network(content: bytes) -> Any:
    # From memory: OpenCV cannot open every path on Windows.
    network, no_config = np.frombuffer(content, np.uint8), np.empty(0, np.uint8)
    return cv2.FaceRecognizerSF.create("onnx", network, no_config)


def _parse(path: Path) -> np.ndarray | None:
    """Cached features; None without them, or where the file is damaged."""
    try:
        found: np.ndarray = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
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
    candidates: Sequence[Candidate], crops: Path, params: config.Params
) -> np.ndarray:
    """The indices (P, 2) of every two candidates that show the same person, by the cosine of their
    features; the smaller one first, sorted. No pairs without curate.identity.

    crops: their folder. Denied candidates resemble nobody.
    """
    allowed = [index for index, each in enumerate(candidates) if each.reason != DENIED]
    if params.curate.identity == "none" or not allowed:
        return np.empty((0, 2), np.int64)
    paths = [crops / candidates[index].crop.crop for index in allowed]
    features = make_recognizer(params).files_features(paths)
    return np.array(allowed)[similar_features(features, params.curate.same_person)]


def similar_features(features: np.ndarray, cosine: float) -> np.ndarray:
    """The indices (P, 2) of every two rows of (N, D) with at least that cosine, sorted."""
    found = []
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK]
        first, second = np.nonzero(block @ features[start:].T >= cosine)
        later = second > first
        found.append(np.stack([first[later], second[later]], axis=1) + start)
    return np.concatenate(found)
