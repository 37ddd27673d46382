"""KID: its closed form on a small set, and what it says of equal and of different distributions."""

import numpy as np
import pytest

from pttfaces.evaluation.kid import kid, mmd2


def normal(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (count, 16)).astype(np.float32)


def test_mmd2_is_the_sum_over_pairs_that_the_paper_gives() -> None:
    x, y = normal(5, 0).astype(float), normal(7, 1).astype(float)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 16 + 1) ** 3)

    within_x = [kernel(x[i], x[j]) for i in range(5) for j in range(5) if i != j]
    within_y = [kernel(y[i], y[j]) for i in range(7) for j in range(7) if i != j]
    between = [kernel(a, b) for a in x for b in y]
    expected = np.mean(within_x) + np.mean(within_y) - 2 * np.mean(between)
    assert mmd2(x, y) == pytest.approx(expected)


def test_kid_of_equal_distributions_is_zero_and_of_different_ones_is_not() -> None:
    """Zero whatever the size of the sets."""
    for count in (64, 600):
        mean, deviation = kid(normal(count, 0), normal(2 * count, 1))
        assert abs(mean) < 2 * deviation
    shifted, deviation = kid(normal(300, 0), normal(300, 1, 0.5))
    assert shifted > 5 * deviation


def test_kid_of_the_same_features_is_the_same_number_each_time() -> None:
    assert kid(normal(100, 0), normal(90, 1)) == kid(normal(100, 0), normal(90, 1))
