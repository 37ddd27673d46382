"""Computes the Fréchet distance of two sets of features, and its statistics, as pytorch-fid does.

Heusel et al. 2017; with features of pytorch-fid's Inception the distance is FID.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pttfaces import files
from pttfaces.archive import NO_ZIP
from pttfaces.errors import DataError

_BLOCK = 1024  # rows turned into float64 at a time
_REGULAR = 1e-5  # smallest over largest pivot; its square is about one over the condition number


@dataclass(frozen=True)
class Statistics:
    """The mean and the covariance of features: mu (D,), sigma (D, D), float64."""

    mu: np.ndarray
    sigma: np.ndarray


class Moments:
    """Mean and unbiased covariance of features that come in batches, in float64.

    Takes D × D numbers of memory, however many features come.
    """

    def __init__(self) -> None:
        self._count = 0

    def add(self, features: np.ndarray) -> None:
        """features: (B, D)."""
        values = np.asarray(features, np.float64)
        if not self._count:  # an origin near the mean, so that no digits are lost
            self._origin = values.mean(axis=0)
            self._sum = np.zeros_like(self._origin)
            self._products = np.zeros((len(self._origin),) * 2)
        values = values - self._origin
        self._count += len(values)
        self._sum += values.sum(axis=0)
        self._products += values.T @ values

    def statistics(self) -> Statistics:
        """Statistics of all features so far, at least two."""
        mean = self._sum / self._count
        centred = self._products - self._count * np.outer(mean, mean)
        return Statistics(self._origin + mean, centred / (self._count - 1))


def statistics(features: np.ndarray) -> Statistics:
    """Mean and unbiased covariance of features (N, D), N ≥ 2, in float64."""
    moments = Moments()
    for start in range(0, len(features), _BLOCK):
        moments.add(features[start : start + _BLOCK])
    return moments.statistics()


def frechet_distance(first: Statistics, second: Statistics) -> float:
    """|mu1 − mu2|² + tr(S1 + S2 − 2 (S1 S2)^½), never below 0.

    tr (S1 S2)^½ = tr (Aᵀ S2 A)^½ with S1 = A Aᵀ, which needs the eigenvalues of a symmetric matrix
    instead of the square root of one that is not.
    """
    difference = first.mu - second.mu
    root = covariance_root(first.sigma)
    between = np.linalg.eigvalsh(root.T @ second.sigma @ root)
    trace = np.trace(first.sigma) + np.trace(second.sigma)
    cross = np.sqrt(np.clip(between, 0, None)).sum()
    return max(0.0, float(difference @ difference + trace - 2 * cross))


def covariance_root(sigma: np.ndarray) -> np.ndarray:
    """A (D, R) with A Aᵀ = sigma: a triangle where sigma is regular, since that takes less time.

    Otherwise A keeps only the directions in which sigma is not zero, so that covariances of fewer
    samples than dimensions are exact, too.
    """
    try:
        triangle = np.linalg.cholesky(sigma)
        if triangle.diagonal().min() > _REGULAR * triangle.diagonal().max():
            return triangle
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(sigma)
    nonzero = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, nonzero] * np.sqrt(values[nonzero])


def floor(features: np.ndarray, count: int, seed: int = 0) -> tuple[float, int]:
    """The distance between two sets of real images: `count` random rows of features (M, D), and
    the others.

    Perfect samples would score about this, or less: it is the bias of a finite number of images
    (Chong & Forsyth 2020), and the rest is smaller than the reference. Where M < 2·count, half of
    the rows are taken. Returns (distance, rows taken).
    """
    taken = min(count, len(features) // 2)
    order = np.random.default_rng(seed).permutation(len(features))
    some, rest = features[order[:taken]], features[order[taken:]]
    return frechet_distance(statistics(some), statistics(rest)), taken


def write_npz(path: str | Path, values: Statistics, **more: np.ndarray) -> None:
    """Writes mu and sigma as pytorch-fid's `.npz`, which may hold further arrays."""
    arrays: dict[str, Any] = {"mu": values.mu, "sigma": values.sigma, **more}
    with files.atomic(path) as handle:
        np.savez(handle, **arrays)


def read_npz(path: str | Path, dims: int, *others: str) -> tuple[Statistics, dict[str, np.ndarray]]:
    """Statistics in pytorch-fid's `.npz`, and the arrays named `others` as far as it holds them.

    Nothing is unpickled. DataError: no such file, not such a file, or not of `dims` dimensions.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            # numpy may read fewer bytes than the checksum covers, where a header is damaged.
            if damaged := archive.zip.testzip():
                raise ValueError(f"{damaged} is damaged")
            arrays = {name: archive[name] for name in others if name in archive.files}
            values = Statistics(
                np.asarray(archive["mu"], np.float64), np.asarray(archive["sigma"], np.float64)
            )
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist; name a .npz of statistics that does, or make it with "
            f"`pttfaces distance --save {path} FOLDER`."
        ) from None
    except (*NO_ZIP, OSError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} does not hold the arrays mu and sigma of pytorch-fid's .npz ({error}); make "
            f"it again with `pttfaces distance --save {path} FOLDER`."
        ) from None
    found = values.mu.shape, values.sigma.shape
    if found != ((dims,), (dims, dims)):
        raise DataError(
            f"{path} has mu of shape {found[0]} and sigma of shape {found[1]}, expected ({dims},) "
            f"and ({dims}, {dims}); set evaluate.dims to the file's, or name another file."
        )
    if not (np.isfinite(values.mu).all() and np.isfinite(values.sigma).all()):
        raise DataError(f"{path} holds values that are not finite; make it again.")
    return values, arrays
