"""Samplers, checked without training: an ideal denoiser of Gaussian data is known exactly.

Pixels are independent Gaussians, so one image of 96×96 holds 27,648 of them. The bounds come from
the closed form of each sampler's discretization. A deterministic sampler also keeps the error of
the mean at its start, 1 - α·√λ / √(α²λ + σ²) of it: 0.936 for the linear schedule and λ = 100.
"""

import itertools
import math
import re
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import settings
import tiny_training as tiny
import torch

from pttfaces import config
from pttfaces.diffusion.rng import Stream, generator_for
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.errors import ParamsError
from pttfaces.sampling import samplers

LINEAR = NoiseSchedule("linear", 1000, "epsilon", False)
COSINE = NoiseSchedule("cosine", 1000, "v_prediction", False)
SHAPE = (2, 3, 96, 96)


def with_sampler(name: str, spacing: str) -> config.Generate:
    """The group `generate` with a sampler and a spacing."""
    return settings.group("generate", sampler=name, timestep_spacing=spacing)


def sampled_moments(
    schedule: NoiseSchedule, options: config.Generate, steps: int, variance: float
) -> tuple[float, float]:
    """Sampled std over true std, and share kept of a mean of 30, without clipping."""
    mean = 30.0
    alpha_bar = schedule.alpha_bar().float()

    def ideal(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        share = alpha_bar[t][:, None, None, None]
        alpha, sigma = share.sqrt(), (1 - share).sqrt()
        gain = variance * alpha / (share * variance + 1 - share)
        x0 = mean + gain * (x - alpha * mean)  # the posterior mean of Gaussian data
        noise = (x - alpha * x0) / sigma
        return noise if schedule.prediction == "epsilon" else alpha * noise - sigma * x0

    generators = [generator_for(1, Stream.SAMPLE, index) for index in range(SHAPE[0])]
    noise = torch.stack([torch.randn(SHAPE[1:], generator=one) for one in generators])
    x = samplers.denoise_all(ideal, schedule, options, steps, noise, generators, clip=math.inf)
    return float(x.std()) / variance**0.5, float(x.mean()) / mean


SCHEDULES = {"linear": LINEAR, "cosine": COSINE}
STEPS = {"ddpm": 300, "ddim": 50, "dpmsolver++": 20}
# (schedule, sampler, spacing) → std, mean, by closed form, of the combinations that are allowed.
EXACT = {
    ("linear", "ddpm", "leading"): (0.990, 0.972),
    ("linear", "ddpm", "trailing"): (0.989, 0.996),
    ("linear", "ddpm", "linspace"): (0.989, 0.996),
    ("cosine", "ddpm", "leading"): (0.691, 0.280),  # as the seed samples
    ("cosine", "ddpm", "trailing"): (0.979, 1.000),
    ("cosine", "ddpm", "linspace"): (0.979, 1.000),
    ("linear", "ddim", "leading"): (0.963, 0.926),
    ("linear", "ddim", "trailing"): (0.964, 0.939),
    ("cosine", "ddim", "leading"): (0.885, 0.738),
    ("cosine", "ddim", "trailing"): (0.883, 1.000),
    ("linear", "dpmsolver++", "leading"): (1.005, 0.935),
    ("linear", "dpmsolver++", "trailing"): (1.005, 0.935),
    ("linear", "dpmsolver++", "linspace"): (1.005, 0.935),
    ("cosine", "dpmsolver++", "leading"): (1.02, 0.99),
    ("cosine", "dpmsolver++", "trailing"): (1.02, 0.99),
    ("cosine", "dpmsolver++", "linspace"): (1.02, 0.99),
}


def allowed(key: str) -> tuple[str, ...]:
    """The values that params.yaml allows."""
    annotation = config.Params if key == "noise_schedule" else config.Generate
    return get_args(annotation.model_fields[key].annotation)


@pytest.mark.parametrize("spacing", allowed("timestep_spacing"))
@pytest.mark.parametrize("name", allowed("sampler"))
@pytest.mark.parametrize("schedule", allowed("noise_schedule"))
def test_every_sampler_schedule_and_spacing_reaches_the_moments_of_gaussian_data(
    schedule: str, name: str, spacing: str
) -> None:
    options, steps = with_sampler(name, spacing), STEPS[name]
    if (schedule, name, spacing) not in EXACT:
        with pytest.raises(ParamsError):
            samplers.make_scheduler(SCHEDULES[schedule], options, steps)
        return
    found = sampled_moments(SCHEDULES[schedule], options, steps, variance=100.0)
    assert found == pytest.approx(EXACT[schedule, name, spacing], abs=0.015)


def test_all_thousand_steps_come_nearest_to_the_truth() -> None:
    found = sampled_moments(COSINE, with_sampler("ddpm", "leading"), 1000, variance=100.0)
    assert found == pytest.approx((0.994, 1.000), abs=0.015)


def test_the_first_timestep_is_checked_and_the_remedy_is_named() -> None:
    leading = with_sampler("ddpm", "leading")
    assert samplers.first_snr(LINEAR, leading, 300) == pytest.approx(2.9e-4, rel=0.02)
    assert samplers.first_snr(COSINE, leading, 300) == pytest.approx(2.6e-2, rel=0.02)
    for schedule in (LINEAR, COSINE):
        warning = samplers.start_warning(schedule, leading, 300)
        assert warning is not None
        assert "timestep 897 of 1000" in warning
        assert "timestep_spacing to trailing" in warning
        trailing, solver = with_sampler("ddpm", "trailing"), with_sampler("dpmsolver++", "leading")
        assert samplers.start_warning(schedule, trailing, 300) is None
        assert samplers.start_warning(schedule, solver, 20) is None
        assert samplers.start_warning(schedule, leading, 1000) is None


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("timesteps", [3, 100, 1000])
@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmsolver++"])
def test_every_remedy_works(name: str, timesteps: int, schedule: Any, prediction: Any) -> None:
    trained = NoiseSchedule(schedule, timesteps, prediction, False)
    for spacing, steps in itertools.product(("leading", "trailing"), (2, 3, 30, 100)):
        options = with_sampler(name, spacing)
        even = name != "ddim" or spacing != "trailing" or timesteps % steps == 0
        if steps > timesteps or not even:
            continue
        warning = samplers.start_warning(trained, options, steps)
        if warning is None:
            continue
        text = warning.split("washed out. ")[1]
        assert name != "dpmsolver++" or "timestep_spacing" not in text  # which ignores it
        new_options, new_steps = options, steps
        if "timestep_spacing to trailing" in text:
            new_options = with_sampler(name, "trailing")
        if found := re.search(r"infer_steps to (\d+)", text):
            new_steps = int(found[1])
        changes: dict[str, Any] = {}
        if "zero_terminal_snr to true" in text:
            changes["zero_terminal_snr"] = True
        if found := re.search(r"train.timesteps to (\d+)", text):
            changes["timesteps"] = int(found[1])
            if name == "ddim":  # whose steps may not divide the new timesteps: another message
                new_steps = 100
        assert changes or (new_options, new_steps) != (options, steps)
        assert samplers.start_warning(replace(trained, **changes), new_options, new_steps) is None


@pytest.mark.parametrize(
    ("name", "steps", "spacing", "words"),
    [
        ("ddpm", 1001, "trailing", "at most 1000"),
        ("ddim", 300, "trailing", "infer_steps to 250"),
        ("ddim", 50, "linspace", "timestep_spacing to trailing"),
    ],
)
def test_what_diffusers_gets_wrong_is_refused(
    name: str, steps: int, spacing: str, words: str
) -> None:
    with pytest.raises(ParamsError, match=words):
        samplers.make_scheduler(LINEAR, with_sampler(name, spacing), steps)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", ["ddpm", "dpmsolver++"])
def test_every_number_of_steps_gives_that_many_valid_timesteps(name: str, spacing: str) -> None:
    schedule = NoiseSchedule("cosine", 100, "v_prediction", False)
    options = with_sampler(name, spacing)
    for steps in range(1, 101):  # 29, 31, 58, 62 and 97 are too many by one in diffusers itself
        scheduler = samplers.make_scheduler(schedule, options, steps)
        assert len(scheduler.timesteps) == steps
        assert int(scheduler.timesteps.min()) >= 0
        assert int(scheduler.timesteps.max()) < 100


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmsolver++"])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 25])
def test_images_stay_within_their_range(name: str, zero: bool, steps: int) -> None:
    schedule = NoiseSchedule("cosine", 50, "v_prediction", zero)
    options = with_sampler(name, "trailing")
    noise = torch.randn(2, 3, 8, 8)
    generators = [torch.Generator().manual_seed(i) for i in (1, 2)]
    wild = samplers.denoise_all(lambda x, t: 9 * x, schedule, options, steps, noise, generators)
    assert bool(torch.isfinite(wild).all())
    assert float(wild.abs().max()) <= 1.001


@pytest.mark.parametrize("name", ["ddpm", "dpmsolver++"])
def test_an_image_is_the_same_in_any_batch(name: str) -> None:
    model, options = tiny.model(seed=5), with_sampler(name, "trailing")

    def in_batches_of(size: int) -> np.ndarray:
        batches = [range(i, min(i + size, 7)) for i in range(0, 7, size)]
        return np.concatenate([samplers.sample(model, options, 10, 4, b) for b in batches])

    alone, threes, together = (in_batches_of(size).astype(int) for size in (1, 3, 7))
    assert np.abs(alone - threes).max() <= 1
    assert np.abs(alone - together).max() <= 1
    other_seed = samplers.sample(model, options, 10, 5, range(7)).astype(int)
    assert np.abs(alone - other_seed).max() > 1
    assert np.abs(alone[0] - alone[1]).max() > 1
