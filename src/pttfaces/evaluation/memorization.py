"""The nearest real pictures of every sample: which samples are copies of the training data.

Pure functions of arrays. With photographs of people this is a check of privacy as much as of
quality, so a mirrored copy is a copy, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pttfaces import images as sheets
from pttfaces.evaluation.image_folder import Pictures
from pttfaces.progress import progress

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
    with progress("nearest pictures", len(views[0]), " pictures") as bar:
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
class Copying:
    """Distances of one kind that speak of copies: who lies how near to whom, each (its number,).

    trained: of the samples to training pictures; held_out: of the samples to held-out ones; real:
    of held-out pictures to training pictures. The last two are None without held-out pictures.
    unit: what distances are divided by for a person. There may be fewer held-out pictures than
    training pictures, so a sample's nearest one of them lies farther for that reason alone.
    """

    trained: Nearest
    held_out: Nearest | None
    real: Nearest | None
    unit: float = 1.0

    def figures(self) -> dict[str, float]:
        """median, least, and the medians of the other two: distances over `unit`.

        near_one_picture: the share of samples whose nearest distance is under a third of the second
        nearest (Yoon et al. 2023). closer_than_holdout: the share of samples that lie closer to a
        training picture than 95 % of the held-out pictures do (real pictures themselves: 0.05).
        """
        near = self.trained
        alone = np.isfinite(near.second) & (near.first < near.second / 3)
        exact = np.isfinite(near.second) & (
            near.first == 0
        )  # also of a picture that is there twice
        found = {
            "median": float(np.median(near.first)) / self.unit,
            "least": float(near.first.min()) / self.unit,
            "near_one_picture": float((alone | exact).mean()),
        }
        if self.real is not None and self.held_out is not None:
            bound = np.quantile(self.real.first, QUANTILE)
            found["to_holdout_median"] = float(np.median(self.held_out.first)) / self.unit
            found["holdout_median"] = float(np.median(self.real.first)) / self.unit
            found["closer_than_holdout"] = float((near.first < bound).mean())
        return found

    def quantiles(self, shares: np.ndarray) -> dict[str, np.ndarray | None]:
        """The three distributions: the distance below which each share of pictures lies."""
        kinds = {
            "samples_to_train": self.trained,
            "samples_to_holdout": self.held_out,
            "holdout_to_train": self.real,
        }
        return {
            name: np.quantile(near.first, shares) / self.unit if near is not None else None
            for name, near in kinds.items()
        }


def copied(kinds: Iterable[Mapping[str, float]]) -> float:
    """The share of samples that are copies by the figures of one or more kinds of distance.

    The greatest share of those near to one picture only and, beyond the 0.05 that real pictures
    have themselves, of those closer than held-out pictures.
    """
    return max(
        max(one["near_one_picture"], one.get("closer_than_holdout", 0.0) - QUANTILE, 0.0)
        for one in kinds
    )


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
