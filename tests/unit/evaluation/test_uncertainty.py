"""Intervals and extrapolation of the Fréchet distance, against many independent sets of samples."""

import numpy as np
import pytest

from pttfaces.evaluation import fid, kid
from pttfaces.evaluation.uncertainty import Z_95, uncertainty

DIMS, COUNT, SETS = 16, 200, 40


def normal(rng: np.random.Generator, count: int, shift: float = 0.3) -> np.ndarray:
    """Features with a few large variances and many small ones, as a network's have."""
    return rng.normal(shift, 1, (count, DIMS)) / np.arange(1, DIMS + 1) ** 0.5


def test_uncertainty_of_many_sets_of_samples_holds_what_it_says() -> None:
    """Of 95 % intervals that are right, fewer than 32 of 40 hold the mean once in 10,000 tests."""
    rng = np.random.default_rng(0)
    reference = fid.statistics(normal(rng, 50_000, shift=0.0))
    truth = fid.frechet_distance(fid.statistics(normal(rng, 200_000)), reference)
    distances, found = [], []
    for _ in range(SETS):
        features = normal(rng, COUNT)
        distances.append(fid.frechet_distance(fid.statistics(features), reference))
        found.append(uncertainty(features, reference, distances[-1]))
    expected = np.mean(distances)
    assert expected > truth * 1.1  # the bias of few samples
    assert sum(one.low <= expected <= one.high for one in found) >= 32
    widths = np.mean([one.high - one.low for one in found])
    assert widths == pytest.approx(2 * Z_95 * np.std(distances), rel=0.4)
    infinite = np.array([one.infinite for one in found], float)
    errors = np.array([one.infinite_error for one in found], float)
    assert abs(infinite.mean() - truth) < 0.3 * (expected - truth)
    assert sum(np.abs(infinite - truth) < 2 * errors) >= 32


def test_uncertainty_of_too_few_samples_has_no_extrapolation() -> None:
    rng = np.random.default_rng(1)
    features = normal(rng, 20)
    reference = fid.statistics(normal(rng, 500))
    found = uncertainty(features, reference, 1.0)
    assert found.infinite is None
    assert found.low < 1.0 < found.high


def test_uncertainty_s_distance_of_all_samples_is_the_distance() -> None:
    """With more and with fewer samples than dimensions, and far from the origin."""
    from pttfaces.evaluation.uncertainty import _Distance

    rng = np.random.default_rng(2)
    reference = fid.statistics(normal(rng, 500) + 1000)
    for count in (10, 300):
        features = normal(rng, count) + 1000
        expected = fid.frechet_distance(fid.statistics(features), reference)
        assert _Distance(features, reference)(np.ones(count)) == pytest.approx(expected, rel=1e-6)


def test_standard_error_of_kid_is_its_spread_over_sets_of_samples() -> None:
    rng = np.random.default_rng(3)
    real = normal(rng, 400, shift=0.0)
    sets = [normal(rng, 150) for _ in range(60)]
    spread = np.std([kid.mmd2(features, real) for features in sets])
    errors = [kid.standard_error(features, real) for features in sets]
    assert np.mean(errors) == pytest.approx(spread, rel=0.3)
