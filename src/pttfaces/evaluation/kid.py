"""Computes KID, the kernel distance of two sets of features (Bińkowski et al. 2018).

Unlike the Fréchet distance its mean does not depend on the number of samples, so that runs of
different size can be compared.
"""

import numpy as np

from pttfaces.evaluation.prdc import spread

_SUBSETS, _MAX_SUBSET_SIZE = 100, 1000
_BLOCK = 512


def kid(first: np.ndarray, second: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of the unbiased MMD² over 100 random subsets.

    first (N, D), second (M, D): features, N and M ≥ 4. Subsets hold 1,000 rows of each set, or half
    of the smaller set. Kernel: (x·y / D + 1)³. The mean can be a little below 0.
    """
    size = min(_MAX_SUBSET_SIZE, len(first) // 2, len(second) // 2)
    rng = np.random.default_rng(seed)
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    estimates = [
        mmd2(
            first[rng.choice(len(first), size, replace=False)],
            second[rng.choice(len(second), size, replace=False)],
        )
        for _ in range(_SUBSETS)
    ]
    return float(np.mean(estimates)), float(np.std(estimates))


def standard_error(samples: np.ndarray, real: np.ndarray) -> float:
    """Standard error of KID by the samples that were drawn, for fixed real images.

    samples (N, D), real (M, D): features, N ≥ 2; of more than 10,000 rows an evenly spread 10,000
    are used. By the influence of each sample on the estimate (Hoeffding's projection of a
    U-statistic), of which √N times the standard error is the standard deviation.
    """
    samples = np.asarray(samples[spread(len(samples))], np.float64)
    real = np.asarray(real[spread(len(real))], np.float64)
    influence = np.empty(len(samples))
    for start in range(0, len(samples), _BLOCK):
        block = samples[start : start + _BLOCK]
        alone = (np.square(block).sum(axis=1) / block.shape[1] + 1) ** 3
        within = (_kernel(block, samples).sum(axis=1) - alone) / (len(samples) - 1)
        influence[start : start + _BLOCK] = 2 * (within - _kernel(block, real).mean(axis=1))
    return float(influence.std(ddof=1) / np.sqrt(len(samples)))


def mmd2(first: np.ndarray, second: np.ndarray) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy of (N, D) and (M, D)."""
    within_first, within_second = _kernel(first, first), _kernel(second, second)
    return float(
        _mean_off_diagonal(within_first)
        + _mean_off_diagonal(within_second)
        - 2 * _kernel(first, second).mean()
    )


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _mean_off_diagonal(matrix: np.ndarray) -> float:
    count = len(matrix)
    return (matrix.sum() - np.trace(matrix)) / (count * (count - 1))
