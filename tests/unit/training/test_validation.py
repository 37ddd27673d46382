"""The validation loss: reproducible, and at the levels it names."""

from pathlib import Path
from typing import Any

import pytest
import tiny_training as tiny

from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.training import data, validation


def test_validation_loss_is_the_same_number_twice_and_for_any_batch(tmp_path: Path) -> None:
    held_out, model = tiny.draw_images(tmp_path, 11), tiny.model(seed=1)
    first = validation.x0_error(model, held_out, 4)
    assert validation.x0_error(model, held_out, 4) == first
    assert validation.x0_error(model, held_out, 11) == pytest.approx(first, rel=1e-5)
    assert validation.x0_error(model, data.load_images(tmp_path / "none", 16), 4) is None


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_timestep_at_a_log_snr_is_that_of_the_schedule(name: Any) -> None:
    schedule = NoiseSchedule(name, 1000, "epsilon", False)
    found = validation.timestep_at(schedule, schedule.snr().log()[[10, 500, 900]])
    assert found.tolist() == pytest.approx([10, 500, 900], abs=1e-3)
