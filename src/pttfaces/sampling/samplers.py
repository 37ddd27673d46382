"""Samplers: functions that turn noise into images, in the symbols of their papers.

x_t = α_t·x_0 + σ_t·ε, with α_t² + σ_t² = 1 and λ_t = log(α_t / σ_t). A sampler visits noise levels,
the noisiest first: at each it predicts the image x_0 and moves from level t to the next one, s. Its
result is the x_0 predicted at the last level.

Image i is a function of (model, options, steps, seed, i), whatever batch it is sampled in.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from pttfaces.config import Generate, SamplerName
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.diffusion.rng import Stream, generator_for, noise_like
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.errors import ParamsError

PURE_NOISE_SNR = 1e-4
"""Sampling starts from N(0, 1): above this SNR the network expects part of an image in it."""


class NoiseLevel(NamedTuple):
    """α and σ of a noise level, and its timestep, with a fraction where it lies between two."""

    timestep: float
    alpha: float
    sigma: float

    @property
    def snr(self) -> float:
        """The signal-to-noise ratio."""
        return (self.alpha / self.sigma) ** 2

    @property
    def lambda_(self) -> float:
        """λ, half the logarithm of the signal-to-noise ratio."""
        return math.log(self.alpha / self.sigma)


Levels = Sequence[NoiseLevel]
Generators = Sequence[Generator]
"""One per image, for the samplers that add noise."""
Network = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, C, H, W), timestep (B,) float32) → the schedule's prediction (B, C, H, W)."""
Denoiser = Callable[[Tensor, NoiseLevel], Tensor]
"""(x_t (B, C, H, W), its noise level) → the predicted image x_0 (B, C, H, W)."""


def ddpm(denoise: Denoiser, x: Tensor, levels: Levels, generators: Generators) -> Tensor:
    """DDPM: draws x_s from q(x_s | x_t, x_0), equations 6 and 7 of arXiv 2006.11239."""
    for t, s in pairwise(levels):
        x_0 = denoise(x, t)
        alpha = t.alpha / s.alpha  # of the step: x_t = alpha·x_s + √beta·ε
        beta = 1 - alpha**2
        mean = s.alpha * beta / t.sigma**2 * x_0 + alpha * s.sigma**2 / t.sigma**2 * x
        std = s.sigma / t.sigma * math.sqrt(beta)
        x = mean + std * noise_like(x, generators)
    return denoise(x, levels[-1])


def ddim(denoise: Denoiser, x: Tensor, levels: Levels, generators: Generators) -> Tensor:
    """DDIM without noise (η = 0): equation 12 of arXiv 2010.02502."""
    for t, s in pairwise(levels):
        x_0 = denoise(x, t)
        epsilon = (x - t.alpha * x_0) / t.sigma  # of the clipped x_0
        x = s.alpha * x_0 + s.sigma * epsilon
    return denoise(x, levels[-1])


def dpmpp_2m(denoise: Denoiser, x: Tensor, levels: Levels, generators: Generators) -> Tensor:
    """DPM-Solver++(2M), without noise: algorithm 2 of arXiv 2211.01095."""
    x_0_last, h_last = x, math.inf  # h / h_last = 0: the first step is of first order
    for t, s in pairwise(levels):
        x_0, h = denoise(x, t), s.lambda_ - t.lambda_
        d = x_0 + h / (2 * h_last) * (x_0 - x_0_last)
        x = s.sigma / t.sigma * x - s.alpha * math.expm1(-h) * d
        x_0_last, h_last = x_0, h
    return denoise(x, levels[-1])


def leading(schedule: NoiseSchedule, steps: int) -> Levels:
    """Multiples of T // steps from 0 on, diffusers' default: may start far below T − 1."""
    return _levels_at(schedule, np.arange(steps)[::-1] * (schedule.timesteps // steps))


def trailing(schedule: NoiseSchedule, steps: int) -> Levels:
    """From T − 1 down in strides of T / steps, rounded (arXiv 2305.08891, table 2)."""
    ends = np.arange(schedule.timesteps, 0, -schedule.timesteps / steps)
    return _levels_at(schedule, ends[:steps].round() - 1)  # arange may end with one too many


def linspace(schedule: NoiseSchedule, steps: int) -> Levels:
    """From T − 1 to 0 inclusive, rounded; a single step is at 0."""
    return _levels_at(schedule, np.linspace(0, schedule.timesteps - 1, steps).round()[::-1])


def even_in_log_snr(schedule: NoiseSchedule, steps: int) -> Levels:
    """Even in λ from T − 1 to 0 inclusive, the uniform λ of DPM-Solver (arXiv 2206.00927).

    Most levels lie between two timesteps.
    """
    alpha_bar = schedule.usable_alpha_bar().numpy().clip(1e-9)  # λ has to be finite
    log_snr = np.log(alpha_bar / (1 - alpha_bar))
    even = np.linspace(log_snr[-1], log_snr[0], steps)
    timesteps = np.interp(-even, -log_snr, np.arange(len(alpha_bar)))
    return _levels(timesteps, 1 / (1 + np.exp(-even)))


def _levels_at(schedule: NoiseSchedule, timesteps: np.ndarray) -> Levels:
    alpha_bar = schedule.usable_alpha_bar().numpy()
    timesteps = np.minimum(timesteps.astype(int), len(alpha_bar) - 1)
    return _levels(timesteps, alpha_bar[timesteps])


def _levels(timesteps: np.ndarray, alpha_bar: np.ndarray) -> Levels:
    pairs = zip(timesteps, alpha_bar, strict=True)
    return [NoiseLevel(float(t), math.sqrt(share), math.sqrt(1 - share)) for t, share in pairs]


@dataclass(frozen=True)
class Sampler:
    """run: the function; spacing: of its levels, None where generate.timestep_spacing decides."""

    run: Callable[[Denoiser, Tensor, Levels, Generators], Tensor]
    spacing: str | None = None


SAMPLERS: dict[SamplerName, Sampler] = {
    "ddpm": Sampler(ddpm),
    "ddim": Sampler(ddim),
    "dpmsolver++": Sampler(dpmpp_2m, "even in log-SNR"),
}
SPACINGS: dict[str, Callable[[NoiseSchedule, int], Levels]] = {
    "leading": leading,
    "trailing": trailing,
    "linspace": linspace,
    "even in log-SNR": even_in_log_snr,
}


def effective_spacing(options: Generate) -> str:
    """The spacing that the sampler uses: its own, or that of the options."""
    return SAMPLERS[options.sampler].spacing or options.timestep_spacing


def noise_levels(schedule: NoiseSchedule, options: Generate, steps: int) -> Levels:
    """The levels that the sampler visits, one for each call of the network.

    ParamsError: more steps than the model has timesteps.
    """
    if steps > schedule.timesteps:
        raise ParamsError(
            f"infer_steps is {steps}; expected 1 to {schedule.timesteps}, the timesteps that the "
            "model was trained with."
        )
    return SPACINGS[effective_spacing(options)](schedule, steps)


def start_warning(schedule: NoiseSchedule, options: Generate, steps: int) -> str | None:
    """One sentence where sampling does not start from pure noise, with its cause and its remedy."""
    first = noise_levels(schedule, options, steps)[0]
    if first.snr <= PURE_NOISE_SNR:
        return None
    remedies = []
    if effective_spacing(options) == "leading" or first.timestep == 0:
        remedies.append("generate.timestep_spacing to trailing")
    if trailing(schedule, 1)[0].snr > PURE_NOISE_SNR:  # then even the last timestep is too early
        if schedule.prediction == "v_prediction":
            remedies.append("train.zero_terminal_snr to true (this trains again)")
        else:  # epsilon is undefined in pure noise; 1,000 steps end near it in either schedule
            remedies.append("train.timesteps to 1000 (this trains again)")
    return (
        f"{options.sampler} with {steps} steps ({effective_spacing(options)}) starts at timestep "
        f"{first.timestep:g} of {schedule.timesteps}, where the {schedule.name} schedule still "
        f"holds {first.alpha:.1%} of the image (SNR {first.snr:.1e}), but sampling starts from "
        f"pure noise: the images look washed out. Set {', and '.join(remedies)}."
    )


@torch.no_grad()
def denoise_all(
    network: Network,
    schedule: NoiseSchedule,
    options: Generate,
    steps: int,
    noise: Tensor,
    generators: Generators,
    clip: float = 1.0,
) -> Tensor:
    """Runs the sampler from `noise` (B, C, H, W), with one generator per image for its steps.

    Predicted images are clipped to [-clip, clip]. ParamsError: see `noise_levels`.
    """

    def denoise(x: Tensor, level: NoiseLevel) -> Tensor:
        prediction = network(x, torch.full((len(x),), level.timestep, device=x.device))
        return schedule.denoised(prediction, x, level.alpha, level.sigma).clamp(-clip, clip)

    levels = noise_levels(schedule, options, steps)
    return SAMPLERS[options.sampler].run(denoise, noise, levels, generators)


def sample(
    model: DiffusionModel, options: Generate, steps: int, seed: int, indices: Sequence[int]
) -> np.ndarray:
    """Images number `indices` of `seed`: (B, H, W, 3) uint8."""
    unet = model.unet
    size = unet.config.sample_size
    generators = [generator_for(seed, Stream.SAMPLE, index) for index in indices]
    noise = noise_like(torch.empty(len(indices), 3, size, size, device=unet.device), generators)

    def network(
        x: Tensor, timestep: Tensor
    ) -> Tensor:  # the sampler's own arithmetic is in float32
        return unet(x.to(unet.dtype), timestep).sample.float()

    images = denoise_all(network, model.schedule, options, steps, noise, generators)
    pixels = images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
