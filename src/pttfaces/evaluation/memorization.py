"""Finds the nearest real images of every sample, and the share of samples that are copies.

With photographs of people this is a check of privacy as much as of quality. A mirrored copy is a
copy, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pttfaces.evaluation.image_folder import ImageFolder
from pttfaces.images import sheet
from pttfaces.progress import progress

QUANTILE = 0.05  # this share of real images is "closer than held-out ones" by definition
_SIDE = 32  # a copy shows at this size; 50,000 images and their mirror images take 300 MB
_QUERIES, _KEYS = 1024, 8192  # 32 MB of distances at a time
_PAIRS = 16

Views = Sequence[np.ndarray]
"""A set of N images in one or more ways, such as upright and mirrored: each (N, D)."""


@dataclass(frozen=True)
class Nearest:
    """For each of N queries the nearest key, its distance, and that of the second nearest key.

    index (N,) int; first, second (N,) float64, Euclidean; second is inf where there is one key.
    """

    index: np.ndarray
    first: np.ndarray
    second: np.ndarray


def nearest(views: Views, keys: np.ndarray, desc: str = "nearest images") -> Nearest:
    """The nearest keys (M, D) of N queries, each given in one or more views (N, D).

    A query's distance to a key is the smallest over its views. Any number type. Works in blocks:
    memory does not grow with N × M. desc: of the progress bar.
    """
    indices, distances = [], []
    with progress(desc, len(views[0]), " images") as bar:
        for start in range(0, len(views[0]), _QUERIES):
            block = [np.asarray(view[start : start + _QUERIES], np.float32) for view in views]
            candidates = np.concatenate(  # (B, 2 for each block of keys)
                [
                    offset + _two_nearest(block, keys[offset : offset + _KEYS])
                    for offset in range(0, len(keys), _KEYS)
                ],
                axis=1,
            )
            exact = _distances(block, keys, candidates)
            order = np.argsort(exact, axis=1, kind="stable")[:, :2]
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
    of held-out images to training images. The last two are None without held-out images. There may
    be fewer of these than of training images, and a sample's nearest held-out image is farther for
    that reason alone.
    """

    trained: Nearest
    held_out: Nearest | None
    real: Nearest | None

    @property
    def expected_closer(self) -> float:
        """`closer_than_holdout` of real images: 0.05, or 1 / (n + 1) of n < 19 held-out ones."""
        return max(QUANTILE, 1 / (len(self.real.first) + 1)) if self.real else QUANTILE

    def figures(self) -> dict[str, float]:
        """Medians and the minimum of the distances, and shares of the samples.

        near_one_picture: the share of samples whose nearest distance is under a third of the second
        nearest (Yoon et al. 2023). closer_than_holdout: the share of samples that lie closer to a
        training image than 95% of the held-out images do (real images themselves: 0.05).
        """
        near = self.trained
        two = np.isfinite(near.second)
        # Equal ones, too: they may be copies of an image that is there twice.
        near_one = two & ((near.first < near.second / 3) | (near.first == 0))
        figures = {
            "median": float(np.median(near.first)),
            "least": float(near.first.min()),
            "near_one_picture": float(near_one.mean()),
        }
        if self.real is not None and self.held_out is not None:
            # Weibull's: of n distances the k-th is above k / (n + 1) of new ones. Below numpy's
            # default quantile of 37 images lie 7 % of new ones, and not 5 %.
            bound = np.quantile(self.real.first, QUANTILE, method="weibull")
            figures["to_holdout_median"] = float(np.median(self.held_out.first))
            figures["holdout_median"] = float(np.median(self.real.first))
            figures["closer_than_holdout"] = float((near.first < bound).mean())
        return figures

    def neighbours(
        self, trained: ImageFolder, held_out: ImageFolder | None
    ) -> dict[str, list[Any]]:
        """Columns with a row for each sample: the nearest image of each set, and its distance."""
        columns: dict[str, list[Any]] = {}
        for split, near, images in (
            ("train", self.trained, trained),
            ("holdout", self.held_out, held_out),
        ):
            if near is not None and images is not None:
                columns[split] = [images.paths[index].name for index in near.index]
                columns[f"{split}_distance"] = near.first.tolist()
        return columns

    def quantiles(self, shares: np.ndarray) -> dict[str, list[float | None]]:
        """The three distributions: the distance below which each share of images lies."""
        nearest_to = {
            "samples_to_train": self.trained,
            "samples_to_holdout": self.held_out,
            "holdout_to_train": self.real,
        }
        return {
            name: [None] * len(shares) if near is None else np.quantile(near.first, shares).tolist()
            for name, near in nearest_to.items()
        }


def compare(
    samples: Views,
    trained: np.ndarray,
    held_out: Views | None,
    unit: float = 1.0,
    kind: str = "features",
) -> Memorization:
    """Compares samples and held-out images with training images (M, D), and with each other.

    unit: what all distances are divided by. kind: of the views, for the progress bars.
    """

    def distances(desc: str, queries: Views, keys: np.ndarray) -> Nearest:
        near = nearest(queries, keys, f"{desc}, in {kind}")
        return Nearest(near.index, near.first / unit, near.second / unit)

    return Memorization(
        trained=distances("training images near samples", samples, trained),
        held_out=distances("held-out images near samples", samples, held_out[0])
        if held_out
        else None,
        real=distances("training images near held-out ones", held_out, trained)
        if held_out
        else None,
    )


def compare_pixels(
    samples: ImageFolder, trained: ImageFolder, held_out: ImageFolder | None
) -> Memorization:
    """As `compare`, by the pixels at 32×32, upright and mirrored.

    Distances are root mean squares of the difference in colour levels (0..255).
    """
    held_out_views = pixel_views(held_out) if held_out else None
    trained_view = pixel_views(trained)[0]
    unit = trained_view.shape[1] ** 0.5
    return compare(pixel_views(samples), trained_view, held_out_views, unit, kind="pixels")


def pixel_views(images: ImageFolder) -> Views:
    """Each image and its mirror image at 32×32: two arrays (N, 3072) uint8."""
    upright = np.stack([_small(image) for batch in images.batches(256) for image in batch])
    mirrored = upright[:, :, ::-1]
    return [view.reshape(len(upright), -1) for view in (upright, mirrored)]


def copies(kinds: Mapping[str, Memorization], max_copied: float) -> dict[str, Any]:
    """The figures of each kind of distance, and `copied`, the share of samples that are copies.

    This is the largest share of samples that are near one image only, or closer than held-out
    images (beyond what real images have themselves, 0.05); up to max_copied is allowed.
    """
    figures = {kind: found.figures() for kind, found in kinds.items()}
    copied = max(
        max(
            figures[kind]["near_one_picture"],
            figures[kind].get("closer_than_holdout", 0.0) - found.expected_closer,
            0.0,
        )
        for kind, found in kinds.items()
    )
    verdict = {"copied": copied, "max_copied": max_copied, "too_many": copied > max_copied}
    return verdict | figures


def copy_warning(copies: Mapping[str, Any]) -> str | None:
    """A sentence where `copies` found too many of them among the samples."""
    if not copies["too_many"]:
        return None
    return (
        f"COPIES OF TRAINING IMAGES: {copies['copied']:.1%} of the samples (evaluate.max_copied "
        f"allows {copies['max_copied']:.1%}); look at metrics/pictures/nearest.png, show no "
        "samples of this model, and train on more images, for fewer epochs, or with dropout."
    )


def nearest_sheet(
    samples: ImageFolder, trained: ImageFolder, kinds: Mapping[str, Memorization]
) -> Image.Image:
    """Shows samples beside their nearest training images, the closest pairs first."""
    sections = []
    for kind, found in kinds.items():
        closest = np.argsort(found.trained.first, kind="stable")[:_PAIRS]
        left = samples.read(closest)
        right = trained.read(found.trained.index[closest])
        pairs = np.stack([left, right], axis=1).reshape(-1, *left.shape[1:])
        sections.append((f"sample | nearest training image, in {kind}", pairs))
    return sheet(sections, columns=8)


def _small(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX))


def _two_nearest(views: Views, keys: np.ndarray) -> np.ndarray:
    """Indices (B, 2) of the two nearest keys, in any order and up to float32's rounding."""
    keys = np.asarray(keys, np.float32)
    squares = np.full((len(views[0]), len(keys)), np.inf, np.float32)
    for view in views:
        norms = np.square(view).sum(axis=1, keepdims=True) + np.square(keys).sum(axis=1)
        np.minimum(squares, norms - 2 * (view @ keys.T), out=squares)
    return np.argpartition(squares, min(1, len(keys) - 1), axis=1)[:, :2]


def _distances(views: Views, keys: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Distances (B, K) of B queries to the keys at index (B, K), without float32's rounding."""
    columns = []
    for column in index.T:
        chosen = np.asarray(keys[column], np.float64)
        columns.append(np.min([np.linalg.norm(view - chosen, axis=1) for view in views], axis=0))
    return np.stack(columns, axis=1)
