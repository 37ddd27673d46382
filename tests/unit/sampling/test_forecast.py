"""Every combination of params.yaml: right within a stated tolerance, or warned of with a remedy."""

import itertools
import re
from typing import Any, get_args

import pytest
import settings

from pttfaces import config
from pttfaces.diffusion.schedule import EPSILON_MIN_LAMBDA, NoiseSchedule
from pttfaces.sampling import forecast, samplers

SCHEDULES = [
    NoiseSchedule(name, 1000, prediction, zero)
    for name in get_args(config.NoiseScheduleName)
    for prediction in get_args(config.Prediction)
    for zero in (False, True)
]
SPACINGS = get_args(config.Generate.model_fields["timestep_spacing"].annotation)
CHOICES = [
    (sampler, spacing)
    for sampler, known in samplers.SAMPLERS.items()
    for spacing in (SPACINGS if known.spacing is None else ("trailing",))
]
STEPS = (2, 10, 20, 50)


def with_sampler(sampler: str, spacing: str) -> config.Generate:
    return settings.group("generate", sampler=sampler, timestep_spacing=spacing)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize(("sampler", "spacing"), CHOICES)
def test_warnings_are_none_only_where_an_ideal_network_is_sampled_within_tolerance(
    schedule: NoiseSchedule, sampler: str, spacing: str
) -> None:
    """Measured at variances between and beyond those that the warning looks at, too."""
    options = with_sampler(sampler, spacing)
    for steps in STEPS:
        if list(forecast.warnings(schedule, options, steps)):
            continue
        stds, means = forecast.moments(schedule, options, steps, 30.0, (0.1, 1.0, 10.0, 100.0))
        assert min(stds) >= 0.78, steps
        assert max(stds) <= 1.27, steps
        assert min(means) >= 0.88, steps


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmsolver++"])
def test_warnings_of_few_steps_are_none_after_each_remedy(
    schedule: NoiseSchedule, sampler: str
) -> None:
    options = with_sampler(sampler, "trailing")
    (warning,) = forecast.warnings(schedule, options, 5)
    more = re.search(r"infer_steps to (\d+)", warning)
    assert more
    assert list(forecast.warnings(schedule, options, int(more[1]))) == []
    (warning,) = forecast.warnings(schedule, with_sampler(sampler, "trailing"), 1)
    assert "1 steps" not in warning


def test_warnings_of_the_presets_are_none_but_for_the_start_of_seed() -> None:
    for name in ("demo", "photos", "best", "seed"):
        params = config.load(f"presets/{name}.yaml")
        schedule = NoiseSchedule.from_params(params)
        found = list(forecast.warnings(schedule, params.generate, params.infer_steps))
        assert len(found) == (name == "seed")


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize(("sampler", "spacing"), CHOICES)
def test_samplers_never_visit_a_level_of_which_epsilon_says_nothing(
    schedule: NoiseSchedule, sampler: str, spacing: str
) -> None:
    """There a network's error of 1 % is an error of the image of 160 % and more."""
    for steps in (1, 20, 999, 1000):
        levels = samplers.noise_levels(schedule, with_sampler(sampler, spacing), steps)
        assert len(levels) == steps
        assert all(s.alpha >= t.alpha for t, s in itertools.pairwise(levels))
        if schedule.prediction == "epsilon":
            assert min(level.lambda_ for level in levels) >= EPSILON_MIN_LAMBDA


def test_start_from_pure_noise_of_an_epsilon_network_at_zero_snr_is_finite() -> None:
    schedule: Any = NoiseSchedule("linear", 1000, "epsilon", True)
    for sampler in samplers.SAMPLERS:
        options = with_sampler(sampler, "trailing")
        (std,), (mean,) = forecast.moments(schedule, options, 1000, 30.0, [100.0])
        assert std == pytest.approx(1, abs=0.02)
        assert mean == pytest.approx(1, abs=0.08)
