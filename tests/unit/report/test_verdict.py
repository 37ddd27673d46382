"""Better, worse, cannot tell: by intervals, and only between scores that compare."""

from typing import Any

import pytest

from pttfaces.evaluation import COMPARABLE
from pttfaces.report import verdict
from pttfaces.report.verdict import Score


def score(value: float, half: float | None = 1.0, **conditions: Any) -> Score:
    figures = {"fid": value}
    if half is not None:
        figures |= {"fid_low": value - half, "fid_high": value + half}
    found = Score.of(figures, {"features": "inception", "generated": 100, **conditions})
    assert found
    return found


@pytest.mark.parametrize(
    ("value", "half", "expected"),
    [
        (10.0, 1.0, "cannot tell"),
        (11.3, 1.0, "cannot tell"),  # the intervals overlap
        (11.5, 1.0, "better"),  # and here, too, but the difference is beyond √2
        (8.5, 1.0, "worse"),
        (8.5, 2.0, "cannot tell"),
        (90.0, None, "cannot tell"),  # a result of before there were intervals
    ],
)
def test_verdict_of_two_scores_is_as_sure_as_their_intervals(
    value: float, half: float | None, expected: str
) -> None:
    assert verdict.verdict(score(10.0), score(value, half)) == expected


def test_verdict_of_scores_whose_interval_ends_at_zero_takes_their_whole_uncertainty() -> None:
    """No distance is below 0, which halves an interval and not what the samples change."""
    figures = {"fid": 1.0, "fid_low": 0.0, "fid_high": 5.0}
    near_zero = Score.of(figures, {"features": "inception", "generated": 100})
    assert near_zero
    assert verdict.verdict(near_zero, score(4.9, 0.5)) == "cannot tell"
    assert verdict.verdict(near_zero, score(5.1, 0.5)) == "better"


def test_verdict_of_scores_under_other_conditions_is_not_comparable() -> None:
    for key in COMPARABLE:
        conditions: dict[str, Any] = {key: "other"}
        assert verdict.verdict(score(1), score(90, **conditions)) == "not comparable"
    other = Score.of({"random_feature_distance": 90.0}, {})
    assert other
    assert verdict.verdict(score(1), other) == "not comparable"


def test_score_of_figures_without_a_distance_is_none() -> None:
    assert Score.of({"kid": 1.0}, {}) is None
    assert score(31.25, 0.5).text == "fid 31.25 (30.75 to 31.75)"
    assert score(31.25, None).text == "fid 31.25"
