"""Says how far a Fréchet distance depends on the samples that were drawn, and on their number."""

from dataclasses import dataclass

import numpy as np

from pttfaces.evaluation.fid import Statistics, covariance_root
from pttfaces.progress import progress

_RESAMPLES, _SIZES = 30, 8
_LARGEST_OVER_SMALLEST = 2  # of the sizes from which the distance is extrapolated
Z_95 = 1.96  # a normal deviate lies within this with 95 %


@dataclass(frozen=True)
class Uncertainty:
    """low, high: where 95 % of the distances of as many other samples of the model lie; infinite:
    the distance extrapolated to infinitely many samples, infinite_error: its standard error. The
    last two are None with too few samples for the number of dimensions."""

    low: float
    high: float
    infinite: float | None
    infinite_error: float | None


def uncertainty(
    features: np.ndarray, reference: Statistics, distance: float, seed: int = 0
) -> Uncertainty:
    """The uncertainty of the Fréchet distance of samples' features (N, D) to a fixed reference.

    The interval is the distance ± 1.96 standard deviations of its values for 30 bootstrap samples
    (Efron 1979), whose own mean is too high: a repeated image lowers the rank of the covariance.
    The bias of the distance is about proportional to 1/N; so a line through the distances of 8
    random subsets of N/2 to N samples is followed to 1/N = 0 (Chong & Forsyth 2020). Its error
    holds that of the line and that of the N samples. The reference's own finite size stays in both.
    """
    count, dims = features.shape
    rng = np.random.default_rng(seed)
    resampled = _Distance(features, reference)
    sizes = np.linspace(count, count // _LARGEST_OVER_SMALLEST, _SIZES).astype(int)
    enough = sizes[-1] > dims
    with progress("interval", _RESAMPLES + _SIZES * enough, " resamples") as bar:
        boot = []
        for _ in range(_RESAMPLES):
            weights = np.bincount(rng.integers(0, count, count), minlength=count)
            boot.append(resampled(weights))
            bar.update()
        deviation = float(np.std(boot, ddof=1))
        interval = max(0.0, distance - Z_95 * deviation), distance + Z_95 * deviation
        if not enough:
            return Uncertainty(*interval, None, None)
        values = []
        for size in sizes:
            weights = np.zeros(count, int)
            weights[rng.permutation(count)[:size]] = 1
            values.append(resampled(weights))
            bar.update()
    (_, infinite), errors = np.polyfit(1 / sizes, values, 1, cov=True)
    error = float(np.hypot(np.sqrt(errors[1, 1]), deviation))
    return Uncertainty(*interval, float(infinite), error)


class _Distance:
    """The Fréchet distance of weighted features (N, D) to a reference.

    As fid.frechet_distance, with the reference's root computed once.
    """

    def __init__(self, features: np.ndarray, reference: Statistics) -> None:
        # Centred first: sums of squares of large numbers would lose digits.
        self._centred = np.asarray(features, np.float64) - reference.mu
        self._projected = self._centred @ covariance_root(reference.sigma)  # (N, R)
        self._squares = np.square(self._centred).sum(axis=1)
        self._reference_trace = float(np.trace(reference.sigma))

    def __call__(self, weights: np.ndarray) -> float:
        """weights: how often each row counts, (N,)."""
        used = np.flatnonzero(weights)
        weights = weights[used].astype(np.float64)
        count = weights.sum()
        difference = weights @ self._centred[used] / count
        trace = (weights @ self._squares[used] - count * (difference @ difference)) / (count - 1)
        projected = self._projected[used]
        centred = projected - weights @ projected / count
        centred *= np.sqrt(weights / (count - 1))[:, None]
        if len(centred) < centred.shape[1]:  # the same eigenvalues but for zeros
            centred = centred.T
        between = np.linalg.eigvalsh(centred.T @ centred)
        cross = np.sqrt(np.clip(between, 0, None)).sum()
        return float(difference @ difference + trace + self._reference_trace - 2 * cross)
