"""The Fréchet distance of two sets of features, as pytorch-fid defines it, and its statistics.

Pure functions of arrays; knows neither networks nor pictures. Heusel et al. 2017; with features of
pytorch-fid's Inception the distance is FID.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pttfaces import files
from pttfaces.errors import DataError


@dataclass(frozen=True)
class Statistics:
    """The mean and the covariance of features: mu (D,), sigma (D, D), float64."""

    mu: np.ndarray
    sigma: np.ndarray


def statistics(features: np.ndarray) -> Statistics:
    """Mean and unbiased covariance of features (N, D), N ≥ 2, in float64."""
    values = np.asarray(features, np.float64)
    return Statistics(values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False)))


def distance(first: Statistics, second: Statistics) -> float:
    """|mu1 − mu2|² + tr(S1 + S2 − 2 (S1 S2)^½), never below 0.

    tr (S1 S2)^½ = tr (Aᵀ S2 A)^½ with S1 = A Aᵀ, which needs two symmetric eigendecompositions
    instead of the square root of a matrix that is not symmetric. A keeps only the directions in
    which S1 is not zero, so covariances of fewer samples than dimensions (singular) are exact too.
    """
    difference = first.mu - second.mu
    values, vectors = np.linalg.eigh(first.sigma)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    root = vectors[:, kept] * np.sqrt(values[kept])
    between = np.linalg.eigvalsh(root.T @ second.sigma @ root)
    trace = np.trace(first.sigma) + np.trace(second.sigma)
    cross = np.sqrt(np.clip(between, 0, None)).sum()
    return max(0.0, float(difference @ difference + trace - 2 * cross))


def floor(features: np.ndarray, count: int, seed: int = 0) -> tuple[float, int]:
    """The distance between real and real: `count` random rows of features (M, D) and the rest.

    Samples cannot be expected below it: it is what the number of pictures alone costs (Chong &
    Forsyth 2020). Where M < 2·count, half of the rows are taken. Returns (distance, rows taken).
    """
    taken = min(count, len(features) // 2)
    order = np.random.default_rng(seed).permutation(len(features))
    some, rest = features[order[:taken]], features[order[taken:]]
    return distance(statistics(some), statistics(rest)), taken


def write_npz(path: str | Path, values: Statistics, **more: np.ndarray) -> None:
    """Writes mu and sigma as pytorch-fid's `.npz` (which does not mind further arrays)."""
    arrays: dict[str, Any] = {"mu": values.mu, "sigma": values.sigma, **more}
    with files.atomic(path) as handle:
        np.savez(handle, **arrays)


def read_npz(path: str | Path, dims: int) -> tuple[Statistics, dict[str, np.ndarray]]:
    """Statistics in pytorch-fid's `.npz`, and the arrays that lie beside them.

    Nothing is unpickled. DataError: no such file, not such a file, or not of `dims` dimensions.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        values = Statistics(
            np.asarray(arrays.pop("mu"), np.float64), np.asarray(arrays.pop("sigma"), np.float64)
        )
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist; evaluate.reference names a .npz of statistics, or is train, "
            "holdout or reference."
        ) from None
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, AttributeError) as error:
        raise DataError(
            f"{path} does not hold the arrays mu and sigma of pytorch-fid's .npz ({error}); make "
            "it anew with `python -m pytorch_fid --save-stats FOLDER FILE.npz`."
        ) from None
    found = values.mu.shape, values.sigma.shape
    if found != ((dims,), (dims, dims)):
        raise DataError(
            f"{path} has mu of shape {found[0]} and sigma of shape {found[1]}, expected ({dims},) "
            f"and ({dims}, {dims}); set evaluate.dims to the file's, or name another file."
        )
    if not (np.isfinite(values.mu).all() and np.isfinite(values.sigma).all()):
        raise DataError(f"{path} holds values that are not finite; make it anew.")
    return values, arrays
