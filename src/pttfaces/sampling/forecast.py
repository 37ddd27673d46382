"""Forecasts what a sampler loses even with an ideal network, and warns where that is too much.

For Gaussian pixels the ideal network is known in closed form, so every error is the sampler's.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from pttfaces.config import Generate
from pttfaces.diffusion.rng import Stream, generator_for, noise_like
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.sampling import samplers
from pttfaces.sampling.samplers import Network

CONTRAST = (0.8, 1.25)
"""Sampled over true standard deviation, within which no warning is given."""
MIN_MEAN = 0.9
"""Share of the mean that has to be kept. The linear schedule ends before pure noise, by which a
deterministic sampler loses 6 %."""
_MEAN, _VARIANCES = 30.0, (0.1, 100.0)  # fine details of an image, and its large shapes
_SHAPE = (3, 64, 64)
_STEPS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


@dataclass(frozen=True)
class Forecast:
    """contrast: sampled over true standard deviation, of the variance where it is farthest from 1;
    mean: sampled over true mean."""

    contrast: float
    mean: float

    @property
    def is_good(self) -> bool:
        return CONTRAST[0] <= self.contrast <= CONTRAST[1] and self.mean >= MIN_MEAN


def forecast(schedule: NoiseSchedule, options: Generate, steps: int) -> Forecast:
    """What an ideal network would give with this sampler."""
    contrasts, means = moments(schedule, options, steps, _MEAN, _VARIANCES)
    contrast = max(contrasts, key=lambda ratio: abs(math.log(max(ratio, 1e-6))))
    return Forecast(contrast, min(means))


def moments(
    schedule: NoiseSchedule,
    options: Generate,
    steps: int,
    mean: float,
    variances: Sequence[float],
) -> tuple[list[float], list[float]]:
    """Sampled over true standard deviation, and sampled over true mean, of Gaussian pixels.

    Of each variance, and within about 1 %: each is of an image of 64×64, with the same noise.
    """
    generators = [generator_for(0, Stream.SAMPLE, 0) for _ in variances]
    shape = (len(variances), *_SHAPE)
    noise = noise_like(torch.empty(shape, dtype=torch.float64), generators)
    noise = (noise - noise.mean()) / noise.std()  # so that no error is that of the draw
    network = ideal_network(schedule, mean, torch.tensor(variances, dtype=torch.float64))
    x = samplers.denoise_all(network, schedule, options, steps, noise, generators, clip=math.inf)
    stds, means = x.std((1, 2, 3)), x.mean((1, 2, 3))
    return (stds / torch.tensor(variances).sqrt()).tolist(), (means / mean).tolist()


def ideal_network(schedule: NoiseSchedule, mean: float, variance: torch.Tensor) -> Network:
    """The best possible network for images of independent Gaussian pixels, at any timestep.

    variance: of each image's pixels, (B,) float64, or () for the same in all.
    """
    log_snr = schedule.snr().clamp(min=1e-60).log()
    variance = variance.reshape(-1, 1, 1, 1)

    def predict(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        before = timestep.long()
        after, share = (before + 1).clamp(max=len(log_snr) - 1), timestep - before
        exact = torch.lerp(log_snr[before], log_snr[after], share.double())[:, None, None, None]
        alpha, sigma = exact.sigmoid().sqrt(), (-exact).sigmoid().sqrt()
        gain = variance * alpha / (alpha**2 * variance + sigma**2)
        x_0 = mean + gain * (x - alpha * mean)  # the posterior mean
        return schedule.target(x_0, (x - alpha * x_0) / sigma, alpha, sigma)

    return predict


def warnings(schedule: NoiseSchedule, options: Generate, steps: int) -> Iterator[str]:
    """Sentences on what makes the samples worse than the network, with a remedy.

    ParamsError: more steps than the model has timesteps.
    """
    if start := samplers.start_warning(schedule, options, steps):
        yield start
        return
    found = forecast(schedule, options, steps)
    if found.is_good:
        return
    remedies = []
    for more in _STEPS:
        if steps < more <= schedule.timesteps and forecast(schedule, options, more).is_good:
            remedies.append(f"infer_steps to {more}")
            break
    solver = options.model_copy(update={"sampler": "dpmsolver++"})
    if options.sampler != "dpmsolver++" and forecast(schedule, solver, steps).is_good:
        remedies.append("generate.sampler to dpmsolver++")
    advice = f" Set {', or '.join(remedies)}." if remedies else ""
    yield (
        f"{options.sampler} with infer_steps {steps} ({samplers.effective_spacing(options)}) of "
        f"the {schedule.name} schedule would give {found.contrast:.0%} of the contrast and "
        f"{found.mean:.0%} of the mean even with an ideal network.{advice}"
    )
