"""Samplers: from noise to pictures by diffusers' schedulers, with every option said.

Picture i is a function of (network, settings, seed, i), whatever batch it is sampled in. Knows
nothing of files, training or where the network came from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UNet2DModel

from pttfaces.diffusion.rng import Purpose, generator
from pttfaces.diffusion.schedule import NoiseProcess, ddpm_scheduler, snr
from pttfaces.errors import ParamsError

PURE_NOISE_SNR = 1e-4
"""Sampling starts from N(0, 1): above this SNR the network expects to see a picture in it."""

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(noisy (B, C, H, W), timestep (B,)) → prediction (B, C, H, W)."""


@dataclass(frozen=True)
class Sampler:
    """name: the algorithm; steps: network calls a picture; spacing: which timesteps are visited.

    dpmsolver++ visits steps that are even in log-SNR (`use_lu_lambdas`), whatever the spacing.
    """

    name: Literal["ddpm", "ddim", "dpmsolver++"]
    steps: int
    spacing: Literal["leading", "trailing", "linspace"]

    @property
    def visits(self) -> str:
        """The spacing that is really used."""
        return "even in log-SNR" if self.name == "dpmsolver++" else self.spacing


class _DpmSolver(DPMSolverMultistepScheduler):
    """DPM-Solver++ that clips; the parent's quantile fails above 16 million values and is slow."""

    def _threshold_sample(self, sample: torch.Tensor) -> torch.Tensor:
        return sample.clamp(-self.config.sample_max_value, self.config.sample_max_value)


def scheduler(process: NoiseProcess, sampler: Sampler, clip: float = 1.0) -> Any:
    """diffusers' scheduler, its timesteps set; predicted pictures are clipped to [-clip, clip].

    ParamsError: combinations that diffusers gets wrong, and more steps than were trained.
    """
    _refuse(process, sampler)
    if sampler.name == "ddpm":
        result = ddpm_scheduler(process, sampler.spacing, clip)
    elif sampler.name == "ddim":
        result = DDIMScheduler(
            **process.beta_options(),
            clip_sample=True,
            clip_sample_range=clip,
            set_alpha_to_one=True,
            thresholding=False,
            dynamic_thresholding_ratio=0.995,
            sample_max_value=1.0,
            timestep_spacing=sampler.spacing,
        )
    else:
        result = _DpmSolver(
            **process.beta_options(),
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
            timestep_spacing=sampler.spacing,
            use_dynamic_shifting=False,
            time_shift_type="exponential",
        )
    if sampler.name == "ddpm" and sampler.spacing == "trailing":
        # diffusers' own rounding gives one step too many, at timestep -1, for 62 of 1,000 counts.
        stride = process.timesteps / sampler.steps
        result.set_timesteps(
            timesteps=[round(process.timesteps - i * stride) - 1 for i in range(sampler.steps)]
        )
    else:
        result.set_timesteps(sampler.steps)
    if sampler.name == "dpmsolver++":
        # Else the first index is searched by timestep, and a doubled one starts at the second.
        result.set_begin_index(0)
    return result


def _refuse(process: NoiseProcess, sampler: Sampler) -> None:
    if sampler.steps > process.timesteps:
        raise ParamsError(
            f"infer_steps is {sampler.steps}; the model was trained with {process.timesteps} "
            f"timesteps: set infer_steps to at most {process.timesteps}."
        )
    uneven = process.timesteps % sampler.steps != 0
    if sampler.name == "ddim" and sampler.spacing == "trailing" and uneven:
        raise ParamsError(
            f"infer_steps is {sampler.steps}, which does not divide {process.timesteps} timesteps: "
            "ddim with trailing spacing would aim at steps that it does not visit; set "
            f"infer_steps to {_even_steps(process, sampler)}, or generate.sampler to dpmsolver++."
        )
    if sampler.name == "ddim" and sampler.spacing == "linspace":
        raise ParamsError(
            "generate.timestep_spacing is linspace with generate.sampler ddim, whose steps are all "
            "of one length and do not fit it; set generate.timestep_spacing to trailing."
        )


def _even_steps(process: NoiseProcess, sampler: Sampler) -> int:
    """The number of steps nearest to the sampler's that divides the process' timesteps."""
    divisors = [n for n in range(1, process.timesteps + 1) if process.timesteps % n == 0]
    return min(divisors, key=lambda n: abs(n - sampler.steps))


def first_snr(process: NoiseProcess, sampler: Sampler) -> float:
    """The signal-to-noise ratio that the network is told of at the first step."""
    plan = scheduler(process, sampler)
    if sampler.name == "dpmsolver++":
        return float(plan.sigmas[0]) ** -2
    signal = float(plan.alphas_cumprod[plan.timesteps[0]])
    return signal / (1 - signal)


def start_warning(process: NoiseProcess, sampler: Sampler) -> str | None:
    """One sentence where sampling does not start from pure noise, with its cause and its cure."""
    ratio = first_snr(process, sampler)
    if ratio <= PURE_NOISE_SNR:
        return None
    first = int(scheduler(process, sampler).timesteps[0])
    share = (ratio / (1 + ratio)) ** 0.5
    return (
        f"{sampler.name} with {sampler.steps} {sampler.spacing} steps starts at timestep {first} "
        f"of {process.timesteps}, where the {process.schedule} schedule still holds {share:.1%} "
        f"of the picture (SNR {ratio:.1e}), but is given pure noise: colours and contrast come out "
        f"washed out. Set {', and '.join(_cures(process, sampler))}."
    )


def _cures(process: NoiseProcess, sampler: Sampler) -> list[str]:
    """Parameters to set, each with its value, so that sampling starts from pure noise."""
    cures = []
    if sampler.spacing == "leading" and sampler.name != "dpmsolver++":  # which spaces its own way
        cures.append("generate.timestep_spacing to trailing")
        even = _even_steps(process, sampler)
        if sampler.name == "ddim" and even != sampler.steps:
            cures.append(f"infer_steps to {even}")
    if float(snr(process)[-1]) > PURE_NOISE_SNR:  # then even the last timestep is too early
        if process.prediction == "v_prediction":
            cures.append("train.zero_terminal_snr to true (this trains again)")
        else:  # which cannot be told of pure noise; 1,000 steps end near it in either schedule
            cures.append("train.timesteps to 1000 (this trains again)")
    return cures


@torch.no_grad()
def denoise_all(
    denoise: Denoise,
    process: NoiseProcess,
    sampler: Sampler,
    start: torch.Tensor,
    generators: Sequence[torch.Generator],
    clip: float = 1.0,
) -> torch.Tensor:
    """Runs the sampler from noise `start` (B, C, H, W), one generator a picture for its steps."""
    plan = scheduler(process, sampler, clip)
    options: dict[str, dict[str, Any]] = {
        "ddpm": {"generator": list(generators)},
        "ddim": {"eta": 0.0, "use_clipped_model_output": True},
        "dpmsolver++": {},
    }
    x = start
    for t in plan.timesteps:
        prediction = denoise(x, t.to(x.device).expand(len(x)))
        x = plan.step(prediction, t, x, **options[sampler.name]).prev_sample
    return x


def sample(
    network: UNet2DModel,
    process: NoiseProcess,
    sampler: Sampler,
    seed: int,
    indices: Sequence[int],
) -> np.ndarray:
    """Pictures number `indices` of `seed`: (B, H, W, 3) uint8. The network is in eval mode."""
    generators = [generator(seed, Purpose.SAMPLE, index) for index in indices]
    shape = (3, network.config.sample_size, network.config.sample_size)
    start = torch.stack([torch.randn(shape, generator=one) for one in generators])
    start = start.to(network.device)
    images = denoise_all(lambda x, t: network(x, t).sample, process, sampler, start, generators)
    levels = images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
