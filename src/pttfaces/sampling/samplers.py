"""Turns noise into images by diffusers' schedulers, with every option explicit.

Image i is a function of (model, options, steps, seed, i), whatever batch it is sampled in.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from pttfaces.config import Generate
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.diffusion.rng import Stream, generator_for
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.errors import ParamsError

PURE_NOISE_SNR = 1e-4
"""Sampling starts from N(0, 1): above this SNR the network expects part of an image in it."""

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(noisy (B, C, H, W), timestep (B,)) → prediction (B, C, H, W)."""


class _DpmSolver(DPMSolverMultistepScheduler):
    """DPM-Solver++ that clips; the parent's quantile fails above 16 million values and is slow."""

    def _threshold_sample(self, sample: torch.Tensor) -> torch.Tensor:
        return sample.clamp(-self.config.sample_max_value, self.config.sample_max_value)


def effective_spacing(options: Generate) -> str:
    """The spacing that the sampler uses: dpmsolver++ has its own (`use_lu_lambdas`)."""
    return "even in log-SNR" if options.sampler == "dpmsolver++" else options.timestep_spacing


def make_scheduler(
    schedule: NoiseSchedule, options: Generate, steps: int, clip: float = 1.0
) -> Any:
    """diffusers' scheduler, its timesteps set; predicted images are clipped to [-clip, clip].

    steps: network calls an image. ParamsError: combinations that diffusers gets wrong, or more
    steps than the schedule has.
    """
    _check(schedule, options, steps)
    spacing = options.timestep_spacing
    if options.sampler == "ddpm":
        scheduler = schedule.ddpm_scheduler(spacing, clip)
    elif options.sampler == "ddim":
        scheduler = DDIMScheduler(
            **schedule.scheduler_options(),
            clip_sample=True,
            clip_sample_range=clip,
            set_alpha_to_one=True,
            thresholding=False,
            dynamic_thresholding_ratio=0.995,
            sample_max_value=1.0,
            timestep_spacing=spacing,
        )
    else:
        scheduler = _DpmSolver(
            **schedule.scheduler_options(),
            solver_order=2,
            algorithm_type="dpmsolver++",
            solver_type="midpoint",
            lower_order_final=True,
            euler_at_final=False,
            use_karras_sigmas=False,
            use_exponential_sigmas=False,
            use_beta_sigmas=False,
            use_lu_lambdas=True,
            use_flow_sigmas=False,
            flow_shift=1.0,
            final_sigmas_type="zero",
            lambda_min_clipped=-float("inf"),  # with lu_lambdas even cosine's end is harmless
            variance_type=None,
            thresholding=True,
            dynamic_thresholding_ratio=0.995,
            sample_max_value=clip,
            timestep_spacing=spacing,
            use_dynamic_shifting=False,
            time_shift_type="exponential",
        )
    if options.sampler == "ddpm" and spacing == "trailing":
        # diffusers' own rounding gives one step too many, at timestep -1, for 62 of 1,000 counts.
        stride = schedule.timesteps / steps
        scheduler.set_timesteps(
            timesteps=[round(schedule.timesteps - i * stride) - 1 for i in range(steps)]
        )
    else:
        scheduler.set_timesteps(steps)
    if options.sampler == "dpmsolver++":
        # Else it looks the first index up by timestep, and a doubled one starts at the second.
        scheduler.set_begin_index(0)
    return scheduler


def _check(schedule: NoiseSchedule, options: Generate, steps: int) -> None:
    if steps > schedule.timesteps:
        raise ParamsError(
            f"infer_steps is {steps}; the model was trained with {schedule.timesteps} timesteps: "
            f"set infer_steps to at most {schedule.timesteps}."
        )
    if options.sampler != "ddim":
        return
    if options.timestep_spacing == "trailing" and schedule.timesteps % steps:
        raise ParamsError(
            f"infer_steps is {steps}, which does not divide {schedule.timesteps} timesteps: ddim "
            "with trailing spacing would aim at steps that it does not visit; set infer_steps to "
            f"{_nearest_divisor(schedule, steps)}, or generate.sampler to dpmsolver++."
        )
    if options.timestep_spacing == "linspace":
        raise ParamsError(
            "generate.timestep_spacing is linspace with generate.sampler ddim, whose steps are all "
            "of one length and do not fit it; set generate.timestep_spacing to trailing."
        )


def _nearest_divisor(schedule: NoiseSchedule, steps: int) -> int:
    """The number nearest to `steps` that divides the schedule's timesteps."""
    divisors = [n for n in range(1, schedule.timesteps + 1) if schedule.timesteps % n == 0]
    return min(divisors, key=lambda n: abs(n - steps))


def first_snr(schedule: NoiseSchedule, options: Generate, steps: int) -> float:
    """The signal-to-noise ratio at the first timestep that the network gets."""
    scheduler = make_scheduler(schedule, options, steps)
    if options.sampler == "dpmsolver++":
        return float(scheduler.sigmas[0]) ** -2
    alpha_bar = float(scheduler.alphas_cumprod[scheduler.timesteps[0]])
    return alpha_bar / (1 - alpha_bar)


def start_warning(schedule: NoiseSchedule, options: Generate, steps: int) -> str | None:
    """One sentence where sampling does not start from pure noise, with its cause and its remedy."""
    snr = first_snr(schedule, options, steps)
    if snr <= PURE_NOISE_SNR:
        return None
    first = int(make_scheduler(schedule, options, steps).timesteps[0])
    share = (snr / (1 + snr)) ** 0.5
    return (
        f"{options.sampler} with {steps} {options.timestep_spacing} steps starts at timestep "
        f"{first} of {schedule.timesteps}, where the {schedule.name} schedule still holds "
        f"{share:.1%} of the image (SNR {snr:.1e}), but gets pure noise: colors and contrast come "
        f"out washed out. Set {', and '.join(_remedies(schedule, options, steps))}."
    )


def _remedies(schedule: NoiseSchedule, options: Generate, steps: int) -> list[str]:
    """Parameters to set, each with its value, so that sampling starts from pure noise."""
    remedies = []
    if options.timestep_spacing == "leading" and options.sampler != "dpmsolver++":
        remedies.append("generate.timestep_spacing to trailing")
        divisor = _nearest_divisor(schedule, steps)
        if options.sampler == "ddim" and divisor != steps:
            remedies.append(f"infer_steps to {divisor}")
    if float(schedule.snr()[-1]) > PURE_NOISE_SNR:  # then even the last timestep is too early
        if schedule.prediction == "v_prediction":
            remedies.append("train.zero_terminal_snr to true (this trains again)")
        else:  # epsilon is undefined in pure noise; 1,000 steps end near it in either schedule
            remedies.append("train.timesteps to 1000 (this trains again)")
    return remedies


@torch.no_grad()
def denoise_all(
    denoise: Denoise,
    schedule: NoiseSchedule,
    options: Generate,
    steps: int,
    noise: torch.Tensor,
    generators: Sequence[torch.Generator],
    clip: float = 1.0,
) -> torch.Tensor:
    """Runs the sampler from `noise` (B, C, H, W), with one generator an image for its steps."""
    scheduler = make_scheduler(schedule, options, steps, clip)
    step_options: dict[str, dict[str, Any]] = {
        "ddpm": {"generator": list(generators)},
        "ddim": {"eta": 0.0, "use_clipped_model_output": True},
        "dpmsolver++": {},
    }
    x = noise
    for t in scheduler.timesteps:
        prediction = denoise(x, t.to(x.device).expand(len(x)))
        x = scheduler.step(prediction, t, x, **step_options[options.sampler]).prev_sample
    return x


def sample(
    model: DiffusionModel, options: Generate, steps: int, seed: int, indices: Sequence[int]
) -> np.ndarray:
    """Images number `indices` of `seed`: (B, H, W, 3) uint8."""
    unet = model.unet
    generators = [generator_for(seed, Stream.SAMPLE, index) for index in indices]
    shape = (3, unet.config.sample_size, unet.config.sample_size)
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    images = denoise_all(
        lambda x, t: unet(x, t).sample,
        model.schedule,
        options,
        steps,
        noise.to(unet.device),
        generators,
    )
    levels = images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
