from dataclasses import replace
from typing import Any

import pytest
from candidates_support import candidate, filtered, grouped

from pttfaces.curation import splits, summary
from pttfaces.curation.candidates import Candidate
from pttfaces.errors import DataError


def figures(candidates: list[Candidate], holdout: float = 0.1, **limits: Any) -> dict[str, Any]:
    rows, groups = filtered(candidates, **limits), grouped(candidates)
    return summary.curation_metrics(splits.split_rows(rows, groups, holdout), groups)


def test_curation_metrics_count_every_crop_once() -> None:
    crops = [candidate(n, f"M.{n}") for n in range(4)] + [candidate(9, sharpness=3)]
    counts = figures(crops, holdout=0.25)
    assert (counts["crops"], counts["kept"], counts["left_out"]["blurred"]) == (5, 4, 1)
    assert (counts["train"], counts["train_series"]) == (3, 3)
    assert (counts["holdout"], counts["holdout_series"]) == (1, 1)
    assert (
        summary.describe_curation(counts) == "3 crops to train on, 1 held out; left out: 1 blurred"
    )


def test_check_enough_of_one_crop_raises_with_what_to_change() -> None:
    crops = [candidate(1), candidate(2, sharpness=3)]
    with pytest.raises(DataError, match=r"1 of 2 crops can be.*1 blurred.*lower blur_threshold or"):
        summary.check_enough(figures(crops))
    counts = figures(crops, blur_threshold=0, min_score=0.5)
    with pytest.raises(DataError, match=r"2 detector too unsure.*then lower curate\.min_score or"):
        summary.check_enough(counts)
    with pytest.raises(DataError, match=r"0 of 0 crops.*then add images"):
        summary.check_enough(figures([]))


def test_explain_empty_holdout_when_one_is_requested_gives_the_reason() -> None:
    one, two = candidate(1, "M.1"), candidate(2, "M.2")
    again = replace(two, sources=one.sources)
    assert "one group" in summary.explain_empty_holdout(figures([one, again]), 0.1)
    assert summary.explain_empty_holdout(figures([one, two]), 0.1) == ""
    assert summary.explain_empty_holdout(figures([one], holdout=0), 0) == ""
