"""Computes KID, the kernel distance of two sets of features (Bińkowski et al. 2018).

Unlike the Fréchet distance its mean does not depend on the number of samples, so that runs of
different size can be compared.
"""

import numpy as np

_SUBSETS, _MAX_SUBSET_SIZE = 100, 1000


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
