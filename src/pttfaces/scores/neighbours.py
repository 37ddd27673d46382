"""The nearest training picture of every sample: which samples are copies of the training data.

Pure functions of arrays. With photographs of people this is a check of privacy as much as of
quality, so a mirrored copy is a copy, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pttfaces import pictures as sheets
from pttfaces.scores.folder import Pictures

QUANTILE = 0.05  # this share of real pictures is "closer than held-out ones" by definition
_SIDE = 32  # a copy shows at this size, and 50,000 pictures take 150 MB
_QUERIES, _KEYS = 1024, 8192  # 32 MB of distances at a time
_PAIRS = 16


@dataclass(frozen=True)
class Nearest:
    """For each of N queries the nearest key, its distance, and that of the second nearest key.

    index (N,) int; first, second (N,) float64, Euclidean; second is inf where there is one key.
    """

    index: np.ndarray
    first: np.ndarray
    second: np.ndarray


def nearest(views: Sequence[np.ndarray], keys: np.ndarray) -> Nearest:
    """The nearest keys (M, D) of N queries, each given in one or more views (N, D).

    A query's distance to a key is the least over its views. Any number type. Works block by block:
    its memory does not grow with N × M.
    """
    indices, distances = [], []
    for start in range(0, len(views[0]), _QUERIES):
        block = [np.asarray(view[start : start + _QUERIES], np.float32) for view in views]
        candidates = _two_nearest(block, keys)
        exact = _distances(block, keys, candidates)
        order = np.argsort(exact, axis=1, kind="stable")
        indices.append(np.take_along_axis(candidates, order, axis=1))
        distances.append(np.take_along_axis(exact, order, axis=1))
    index, distance = np.concatenate(indices), np.concatenate(distances)
    second = distance[:, 1] if len(keys) > 1 else np.full(len(index), np.inf)
    return Nearest(index[:, 0], distance[:, 0], second)


def copy_figures(samples: Nearest, held_out: Nearest | None, unit: float = 1.0) -> dict[str, float]:
    """What the distances to the training pictures say of copying.

    median, least: of the samples' distances, divided by `unit`; holdout_median: of real pictures
    that were not trained on. closer_than_holdout: the share of samples that lie closer to a
    training picture than 95 % of those real pictures do (real pictures themselves: 0.05).
    near_one_picture: the share whose nearest distance is at most a third of the second nearest
    (Yoon et al. 2023).
    """
    alone = np.isfinite(samples.second) & (samples.first <= samples.second / 3)
    figures = {
        "median": float(np.median(samples.first)) / unit,
        "least": float(samples.first.min()) / unit,
        "near_one_picture": float(alone.mean()),
    }
    if held_out is not None:
        bound = np.quantile(held_out.first, QUANTILE)
        figures["holdout_median"] = float(np.median(held_out.first)) / unit
        figures["closer_than_holdout"] = float((samples.first < bound).mean())
    return figures


def pixel_views(pictures: Pictures) -> list[np.ndarray]:
    """Each picture and its mirror image at 32×32: two arrays (N, 3072) uint8."""
    upright = np.stack([_small(picture) for batch in pictures.batches(256) for picture in batch])
    mirrored = upright[:, :, ::-1]
    return [view.reshape(len(upright), -1) for view in (upright, mirrored)]


def pairs_picture(
    samples: Pictures, trained: Pictures, pixels: Nearest, features: Nearest
) -> Image.Image:
    """Samples beside their nearest training pictures, the closest pairs first."""
    sections = []
    for space, near in (("pixels", pixels), ("features", features)):
        closest = np.argsort(near.first, kind="stable")[:_PAIRS]
        left, right = samples.read(closest), trained.read(near.index[closest])
        pairs = np.stack([left, right], axis=1).reshape(-1, *left.shape[1:])
        sections.append((f"sample | nearest training picture, in {space}", pairs))
    return sheets.sheet(sections, columns=8)


def _small(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BOX))


def _two_nearest(views: Sequence[np.ndarray], keys: np.ndarray) -> np.ndarray:
    """Indices (B, 2) of the two nearest keys, in no order and but for float32's rounding."""
    rows = np.arange(len(views[0]))[:, None]
    best = np.full((len(rows), 0), np.inf, np.float32)
    index = np.zeros((len(rows), 0), np.int64)
    for start in range(0, len(keys), _KEYS):
        block = np.asarray(keys[start : start + _KEYS], np.float32)
        norms = np.square(block).sum(axis=1)
        squares = np.full((len(rows), len(block)), np.inf, np.float32)
        for view in views:
            own = np.square(view).sum(axis=1, keepdims=True)
            np.minimum(squares, own + norms - 2 * (view @ block.T), out=squares)
        best = np.concatenate([best, squares], axis=1)
        numbers = np.broadcast_to(np.arange(start, start + len(block)), squares.shape)
        index = np.concatenate([index, numbers], axis=1)
        if best.shape[1] > 2:
            chosen = np.argpartition(best, 1, axis=1)[:, :2]
            best, index = best[rows, chosen], index[rows, chosen]
    return index


def _distances(views: Sequence[np.ndarray], keys: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Distances (B, K) of B queries to the keys at index (B, K), without float32's rounding."""
    columns = []
    for column in index.T:
        chosen = np.asarray(keys[column], np.float64)
        columns.append(np.min([np.linalg.norm(view - chosen, axis=1) for view in views], axis=0))
    return np.stack(columns, axis=1)
