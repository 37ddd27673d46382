"""Finds the nearest real images of every sample, and the share of samples that are copies.

With photographs of people this is a check of privacy as much as of quality. A mirrored copy is a
copy, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pttfaces.evaluation.image_folder import ImageFolder
from pttfaces.images import sheet
from pttfaces.progress import progress

QUANTILE = 0.05  # this share of real images is "closer than held-out ones" by definition
_SIDE = 32  # a copy shows at this size, and 50,000 images take 150 MB
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

    A query's distance to a key is the smallest over its views. Any number type. Works in blocks:
    memory does not grow with N × M.
    """
    indices, distances = [], []
    with progress("nearest images", len(views[0]), " images") as bar:
        for start in range(0, len(views[0]), _QUERIES):
            block = [np.asarray(view[start : start + _QUERIES], np.float32) for view in views]
            candidates = _two_nearest(block, keys)
            exact = _distances(block, keys, candidates)
            order = np.argsort(exact, axis=1, kind="stable")
            indices.append(np.take_along_axis(candidates, order, axis=1))
            distances.append(np.take_along_axis(exact, order, axis=1))
            bar.update(len(candidates))
    index, distance = np.concatenate(indices), np.concatenate(distances)
    second = distance[:, 1] if len(keys) > 1 else np.full(len(index), np.inf)
    return Nearest(index[:, 0], distance[:, 0], second)


@dataclass(frozen=True)
class Memorization:
    """Distances of one kind to the nearest images, which tell copies from new images.

    trained: of the samples to training images; held_out: of the samples to held-out ones; real:
    of held-out images to training images. The last two are None without held-out images.
    unit: what distances are divided by where they are shown. There may be fewer held-out images
    than training images, and a sample's nearest held-out image is farther for that reason alone.
    """

    trained: Nearest
    held_out: Nearest | None
    real: Nearest | None
    unit: float = 1.0

    def figures(self) -> dict[str, float]:
        """Medians and the minimum of the distances, over `unit`, and shares of the samples.

        near_one_picture: the share of samples whose nearest distance is under a third of the second
        nearest (Yoon et al. 2023). closer_than_holdout: the share of samples that lie closer to a
        training image than 95 % of the held-out images do (real images themselves: 0.05).
        """
        near = self.trained
        two = np.isfinite(near.second)
        # Equal ones, too: they may be copies of an image that is there twice.
        near_one = two & ((near.first < near.second / 3) | (near.first == 0))
        figures = {
            "median": float(np.median(near.first)) / self.unit,
            "least": float(near.first.min()) / self.unit,
            "near_one_picture": float(near_one.mean()),
        }
        if self.real is not None and self.held_out is not None:
            bound = np.quantile(self.real.first, QUANTILE)
            figures["to_holdout_median"] = float(np.median(self.held_out.first)) / self.unit
            figures["holdout_median"] = float(np.median(self.real.first)) / self.unit
            figures["closer_than_holdout"] = float((near.first < bound).mean())
        return figures

    def quantiles(self, shares: np.ndarray) -> dict[str, np.ndarray | None]:
        """The three distributions: the distance below which each share of images lies."""
        nearest_to = {
            "samples_to_train": self.trained,
            "samples_to_holdout": self.held_out,
            "holdout_to_train": self.real,
        }
        return {
            name: np.quantile(near.first, shares) / self.unit if near is not None else None
            for name, near in nearest_to.items()
        }


def copied_share(figures_by_kind: Iterable[Mapping[str, float]]) -> float:
    """The share of samples that are copies by the figures of one or more kinds of distance.

    The largest share of samples that are near one image only, or closer than held-out images
    (beyond the 0.05 that real images have themselves).
    """
    return max(
        max(figures["near_one_picture"], figures.get("closer_than_holdout", 0.0) - QUANTILE, 0.0)
        for figures in figures_by_kind
    )


def pixel_views(images: ImageFolder) -> list[np.ndarray]:
    """Each image and its mirror image at 32×32: two arrays (N, 3072) uint8."""
    upright = np.stack([_small(image) for batch in images.batches(256) for image in batch])
    mirrored = upright[:, :, ::-1]
    return [view.reshape(len(upright), -1) for view in (upright, mirrored)]


def nearest_sheet(
    samples: ImageFolder, trained: ImageFolder, pixels: Nearest, features: Nearest
) -> Image.Image:
    """Shows samples beside their nearest training images, the closest pairs first."""
    sections = []
    for space, near in (("pixels", pixels), ("features", features)):
        closest = np.argsort(near.first, kind="stable")[:_PAIRS]
        left, right = samples.read(closest), trained.read(near.index[closest])
        pairs = np.stack([left, right], axis=1).reshape(-1, *left.shape[1:])
        sections.append((f"sample | nearest training image, in {space}", pairs))
    return sheet(sections, columns=8)


def _small(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX))


def _two_nearest(views: Sequence[np.ndarray], keys: np.ndarray) -> np.ndarray:
    """Indices (B, 2) of the two nearest keys, in any order and up to float32's rounding."""
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
