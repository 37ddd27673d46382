"""Precision, recall, density and coverage against their authors' code and closed forms."""

import numpy as np
import pytest

from pttfaces.evaluation import prdc
from pttfaces.evaluation.prdc import overlap, radii


def normal(count: int, dims: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dims))


@pytest.mark.parametrize(
    ("k", "precision", "recall", "density", "coverage"),
    [  # of the package prdc 0.2 (Naeem et al.), on the features below
        (1, 67 / 90, 45 / 120, 94 / 90, 35 / 120),
        (3, 88 / 90, 80 / 120, 301 / 270, 80 / 120),
        (5, 89 / 90, 90 / 120, 433 / 450, 99 / 120),
    ],
)
def test_overlap_gives_the_figures_of_the_published_code(
    k: int,
    precision: float,
    recall: float,
    density: float,
    coverage: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prdc, "_BLOCK", 7)
    rng = np.random.default_rng(7)
    real, samples = rng.normal(size=(120, 6)), rng.normal(0.4, 0.8, size=(90, 6))
    expected = {
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
    }
    assert overlap(samples, real, k).figures() == pytest.approx(expected)
    # Far from the origin, as features of a network are, and in their number type.
    far = overlap((samples + 100).astype(np.float32), (real + 100).astype(np.float32), k)
    assert far.figures() == pytest.approx(expected, abs=0.02)


def test_overlap_of_equal_distributions_has_the_expected_density_and_coverage() -> None:
    found = overlap(normal(1000, 8, 0), normal(1000, 8, 1))
    assert found.density == pytest.approx(1, abs=0.05)
    # Of the k nearest of 2N-1 images all are real: (N-1)…(N-k) / (2N-1)…(2N-k)
    missed = np.prod([(1000 - i) / (2000 - i) for i in range(1, 6)])
    assert found.coverage == pytest.approx(1 - missed, abs=0.02)
    assert found.precision == pytest.approx(found.recall, abs=0.05)


def test_overlap_shows_missing_modes_in_recall_and_foreign_ones_in_precision() -> None:
    real = np.concatenate([normal(300, 4, 0), normal(300, 4, 1) + 50])
    one_mode = overlap(normal(300, 4, 2), real).figures()
    assert one_mode["precision"] > 0.9
    assert one_mode["recall"] < 0.55
    assert one_mode["coverage"] < 0.55
    half_foreign = np.concatenate([normal(150, 4, 2), normal(150, 4, 3) - 50])
    found = overlap(half_foreign, real)
    assert found.precision == pytest.approx(0.5, abs=0.06)
    assert (found.densities[150:] == 0).all()
    assert found.realism[150:].max() < 0.1 < found.realism[:150].min()


def test_overlap_of_a_set_with_itself_has_precision_one() -> None:
    """Sets of few or of repeated images have figures, too."""
    features = normal(40, 16, 0)
    assert overlap(features, features).figures()["precision"] == 1
    assert (overlap(features, features).realism > 1e6).all()  # copies
    assert overlap(features[:2], features[:3]).figures()["density"] >= 0
    doubled = np.repeat(normal(3, 4, 0), 6, axis=0)
    assert not np.isnan(overlap(doubled, doubled).realism).any()


def test_radii_reach_to_the_kth_neighbour() -> None:
    line = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert radii(line, 1).tolist() == [1, 1, 2, 4]
    assert radii(line, 2).tolist() == [3, 2, 3, 6]


def test_overlap_of_many_rows_takes_evenly_spread_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prdc, "MAX_ROWS", 50)
    found = overlap(normal(200, 3, 0), normal(300, 3, 1))
    assert len(found.rows) == len(found.densities) == 50
    assert (found.rows[0], found.rows[-1]) == (0, 199)
