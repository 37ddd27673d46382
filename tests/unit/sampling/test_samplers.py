"""Samplers, checked without training against diffusers' schedulers and against closed forms.

An ideal denoiser of Gaussian data is known exactly. Pixels are independent Gaussians, so one image
of 64×64 holds 12,288 of them. A deterministic sampler keeps the error of the mean at its start,
1 - α·√λ / √(α²λ + σ²) of it: 0.936 for the linear schedule and λ = 100.
"""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import settings
import tiny_training as tiny
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, DPMSolverMultistepScheduler

from pttfaces import config
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.diffusion.rng import Stream, generator_for
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.errors import ParamsError
from pttfaces.sampling import forecast, samplers

LINEAR = NoiseSchedule("linear", 1000, "epsilon", False)
COSINE = NoiseSchedule("cosine", 1000, "v_prediction", False)
ZERO_SNR = NoiseSchedule("linear", 1000, "v_prediction", True)
SCHEDULES = {"linear": LINEAR, "cosine": COSINE, "zero SNR": ZERO_SNR}
DETERMINISTIC = ("ddim", "dpmsolver++")
SMALL, MEAN = (2, 3, 4, 4), 30.0


def with_sampler(name: str, spacing: str = "trailing") -> config.Generate:
    """The group `generate` with a sampler and a spacing."""
    return settings.group("generate", sampler=name, timestep_spacing=spacing)


def generators(count: int = 2) -> list[torch.Generator]:
    return [generator_for(1, Stream.SAMPLE, index) for index in range(count)]


def moments(
    schedule: NoiseSchedule, options: config.Generate, steps: int, variance: float = 100.0
) -> tuple[float, float]:
    """Sampled std over true std, and share kept of the mean."""
    (std,), (mean,) = forecast.moments(schedule, options, steps, MEAN, [variance])
    return std, mean


def allowed(key: str) -> tuple[Any, ...]:
    """The values that params.yaml allows."""
    annotation = config.Params if key == "noise_schedule" else config.Generate
    return get_args(annotation.model_fields[key].annotation)


def test_tables_when_a_name_is_allowed_in_params_have_its_entry() -> None:
    assert set(samplers.SAMPLERS) == set(allowed("sampler"))
    assert set(samplers.SPACINGS) >= set(allowed("timestep_spacing"))
    for schedule in allowed("noise_schedule"):
        assert len(replace(LINEAR, name=schedule).alpha_bar()) == 1000


# --- diffusers as the oracle


def timesteps_of(schedule: NoiseSchedule, options: config.Generate, steps: int) -> list[Any]:
    """Whole ones as integers, which diffusers takes for indices."""
    levels = samplers.noise_levels(schedule, options, steps)
    return [int(t) if t.is_integer() else t for t in (level.timestep for level in levels)]


def where_diffusers_is_right() -> Iterator[tuple[str, str, str, int]]:
    """(schedule, sampler, spacing, steps)."""
    for schedule in SCHEDULES:
        for spacing, steps in itertools.product(allowed("timestep_spacing"), (1, 7, 61, 300)):
            yield schedule, "ddpm", spacing, steps
        for steps in (1, 20, 250):  # DDIM's strides have to be of one length
            yield schedule, "ddim", "trailing", steps
        yield schedule, "ddim", "leading", 300
        for steps in (1, 2, 7, 20, 300):
            if schedule != "zero SNR":  # there its ᾱ rises at the end
                yield schedule, "dpmsolver++", "trailing", steps


@pytest.mark.parametrize(("schedule", "name", "spacing", "steps"), [*where_diffusers_is_right()])
def test_sampler_where_diffusers_is_right_equals_its_scheduler(
    schedule: str, name: str, spacing: str, steps: int
) -> None:
    """Within 1e-5 with ᾱ in float64; DPM-Solver within 1e-4, since theirs computes in float32."""
    trained, options = SCHEDULES[schedule], with_sampler(name, spacing)
    network = forecast.ideal_network(trained, mean=0.2, variance=torch.tensor(0.3))
    timesteps = timesteps_of(trained, options, steps)
    saved, sources = trained.ddpm_scheduler().config, generators()
    choices: dict[str, tuple[Any, dict[str, Any]]] = {
        "ddpm": (DDPMScheduler.from_config(saved), {"generator": sources}),
        "ddim": (DDIMScheduler.from_config(saved), {"use_clipped_model_output": True}),
        "dpmsolver++": (  # whose thresholding at most at 1 is clipping
            DPMSolverMultistepScheduler.from_config(saved, use_lu_lambdas=True, thresholding=True),
            {},
        ),
    }
    scheduler, step_options = choices[name]
    scheduler.alphas_cumprod = trained.alpha_bar()
    scheduler.set_timesteps(steps)
    scheduler.timesteps = torch.tensor(timesteps)
    if name == "dpmsolver++":
        scheduler.set_begin_index(0)
    x = noise = samplers.noise_like(torch.empty(SMALL, dtype=torch.float64), sources)
    for t in timesteps:
        x = scheduler.step(network(x, torch.tensor([t, t])), t, x, **step_options).prev_sample
    sources = generators()
    samplers.noise_like(noise, sources)  # they have drawn the same as the others
    ours = samplers.denoise_all(network, trained, options, steps, noise, sources)
    assert float((ours - x).abs().max()) <= (1e-4 if name == "dpmsolver++" else 1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_noise_levels_of_dpm_solver_are_even_in_log_snr(
    schedule: NoiseSchedule,
) -> None:
    """And the network is told exactly where each level lies between two timesteps."""
    lambdas = schedule.snr().clamp(min=1e-9).log().numpy() / 2
    for steps in (2, 20, 300):
        levels = samplers.noise_levels(schedule, with_sampler("dpmsolver++"), steps)
        assert np.ptp(np.diff([level.lambda_ for level in levels])) < 1e-9
        for level in levels:
            there = np.interp(level.timestep, np.arange(schedule.timesteps), lambdas)
            assert level.lambda_ == pytest.approx(there, abs=1e-6)


@pytest.mark.parametrize("spacing", allowed("timestep_spacing"))
@pytest.mark.parametrize("total", [37, 1000])
def test_spacing_for_any_number_of_steps_is_diffusers_without_its_surplus(
    total: int, spacing: str
) -> None:
    """diffusers' trailing spacing ends with one too many for 62 of 1,000 numbers of steps."""
    schedule = replace(COSINE, timesteps=total)
    scheduler: Any = DDPMScheduler.from_config(
        schedule.ddpm_scheduler().config, timestep_spacing=spacing
    )
    for steps in range(1, total + 1):
        scheduler.set_timesteps(steps)
        timesteps = timesteps_of(schedule, with_sampler("ddpm", spacing), steps)
        assert timesteps == scheduler.timesteps[:steps].tolist()
        assert len(timesteps) == steps
        assert 0 <= timesteps[-1] <= timesteps[0] < total


def test_seed_preset_s_sampler_equals_the_pipeline_of_diffusers() -> None:
    """300 leading DDPM steps, untrained network: within 1 % of a gray level before rounding."""
    params = config.load("presets/seed.yaml")
    model = DiffusionModel(tiny.build().eval(), NoiseSchedule.from_params(params))
    scheduler = DDPMScheduler(num_train_timesteps=1000, rescale_betas_zero_snr=True)
    pipeline = DDPMPipeline(model.unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        batch_size=3, generator=generators(3), num_inference_steps=300, output_type="np"
    )
    ours = samplers.sample(model, params.generate, params.infer_steps, seed=1, indices=range(3))
    assert np.abs(ours - made.images * 255).max() <= 0.5 + 0.01
    assert made.images.std() > 0.1


# --- closed forms


@pytest.mark.parametrize(
    ("schedule", "name", "steps", "expected"),
    [
        (LINEAR, "ddpm", 300, (0.990, 0.972)),  # as the preset `seed` samples
        (COSINE, "ddpm", 300, (0.691, 0.280)),
        (COSINE, "ddpm", 1000, (0.994, 1.000)),
        (LINEAR, "ddim", 50, (0.963, 0.926)),
        (COSINE, "ddim", 50, (0.885, 0.738)),
    ],
)
def test_leading_spacing_when_it_skips_the_noisiest_levels_loses_contrast_and_mean(
    schedule: NoiseSchedule, name: str, steps: int, expected: tuple[float, float]
) -> None:
    found = moments(schedule, with_sampler(name, "leading"), steps)
    assert found == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("steps", [7, 61, 103, 300])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", allowed("sampler"))
def test_error_of_any_sampler_and_spacing_falls_with_the_number_of_steps(
    name: str, schedule: NoiseSchedule, spacing: str, steps: int
) -> None:
    """With it for ddpm and ddim; with its square for the solver, which is of second order.

    The mean is right at once, but for what a deterministic sampler misses at its start.
    """
    std, mean = moments(schedule, with_sampler(name, spacing), steps)
    bound = 5 / steps**2 + 0.005 if name == "dpmsolver++" else 7 / steps
    assert abs(std - 1) <= bound
    start = 0.936 if schedule is LINEAR and name in DETERMINISTIC else 1.0
    assert mean == pytest.approx(start, abs=0.02)


@pytest.mark.parametrize("steps", [1, 7, 61, 103, 300])
@pytest.mark.parametrize("spacing", allowed("timestep_spacing"))
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_ddim_with_strides_of_any_length_is_the_product_of_its_steps(
    schedule: NoiseSchedule, spacing: str, steps: int
) -> None:
    """A step multiplies the deviation by cov(x_s, x_t) / var(x_t), both with the same noise."""
    options, variance = with_sampler("ddim", spacing), 100.0
    shares = schedule.alpha_bar()[timesteps_of(schedule, options, steps)].tolist()
    std = 1.0
    for t, s in itertools.pairwise([*shares, 1.0]):
        covariance = math.sqrt(t * s) * variance + math.sqrt((1 - t) * (1 - s))
        std *= covariance / (t * variance + 1 - t)
    found, _ = moments(schedule, options, steps, variance)
    assert found == pytest.approx(std / math.sqrt(variance), rel=1e-6)


# --- where sampling starts


def test_start_warning_when_the_first_timestep_has_signal_names_the_remedy() -> None:
    leading = with_sampler("ddpm", "leading")
    for schedule, snr in ((LINEAR, 2.9e-4), (COSINE, 2.6e-2)):
        first = samplers.noise_levels(schedule, leading, 300)[0]
        assert first.snr == pytest.approx(snr, rel=0.02)
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
def test_start_warning_when_its_remedies_are_applied_is_none(
    name: str, timesteps: int, schedule: Any, prediction: Any
) -> None:
    trained = NoiseSchedule(schedule, timesteps, prediction, False)
    for spacing, steps in itertools.product(allowed("timestep_spacing"), (1, 2, 3, 30, 100)):
        options = with_sampler(name, spacing)
        if steps > timesteps:
            continue
        warning = samplers.start_warning(trained, options, steps)
        if warning is None:
            continue
        text = warning.split("washed out. ")[1]
        assert name != "dpmsolver++" or "timestep_spacing" not in text  # which ignores it
        if spacing == "linspace" and steps > 1:  # it starts where trailing does
            assert "timestep_spacing" not in text
        new_options = options
        if "timestep_spacing to trailing" in text:
            new_options = with_sampler(name, "trailing")
        changes: dict[str, Any] = {}
        if "zero_terminal_snr to true" in text:
            changes["zero_terminal_snr"] = True
        if found := re.search(r"train.timesteps to (\d+)", text):
            changes["timesteps"] = int(found[1])
        assert changes or new_options != options
        assert samplers.start_warning(replace(trained, **changes), new_options, steps) is None


def test_sample_with_more_steps_than_timesteps_raises_params_error() -> None:
    with pytest.raises(ParamsError, match="infer_steps is 51; expected 1 to 50, the timesteps"):
        samplers.sample(
            replace(tiny.model(), schedule=replace(COSINE, timesteps=50)),
            with_sampler("ddim"),
            steps=51,
            seed=0,
            indices=[0],
        )


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmsolver++"])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 25])
def test_denoise_all_when_the_network_overshoots_stays_in_range(
    name: str, zero: bool, steps: int
) -> None:
    schedule = NoiseSchedule("cosine", 50, "v_prediction", zero)
    options = with_sampler(name, "trailing")
    noise = torch.randn(2, 3, 8, 8)
    generators = [torch.Generator().manual_seed(i) for i in (1, 2)]
    wild = samplers.denoise_all(lambda x, t: 9 * x, schedule, options, steps, noise, generators)
    assert bool(torch.isfinite(wild).all())
    assert float(wild.abs().max()) <= 1.001


@pytest.mark.parametrize("name", ["ddpm", "dpmsolver++"])
def test_sample_in_batches_of_any_size_gives_the_same_images(name: str) -> None:
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
