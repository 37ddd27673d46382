"""Progress: rates as a reader would write them."""

import time

import pytest

from pttfaces.progress import progress


def test_progress_of_slow_work_says_how_long_one_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """Not "3.06s/ images"."""
    with progress("train", 4, " images") as bar:
        bar.start_t = time.time() - 6
        bar.update(2)
        bar.refresh()
    said = capsys.readouterr().err
    assert " s/image," in said
    assert "s/ images" not in said


def test_progress_of_fast_work_says_how_many_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("train", 400, " images") as bar:
        bar.start_t = time.time() - 1
        bar.update(200)
        bar.refresh()
    assert " images/s," in capsys.readouterr().err
