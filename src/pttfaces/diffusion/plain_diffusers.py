"""Samples from a model folder with numpy, torch and diffusers alone, nothing of this project.

A model's card shows `sample`; its MLflow model, which has this file in its code, runs it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel

_BATCH = 32


@torch.no_grad()
def sample(
    folder: str,
    unet: UNet2DModel,
    sampler: str,
    spacing: str,
    steps: int,
    seed: int,
    indices: Sequence[int],
) -> np.ndarray:
    """Images number `indices` of `seed`, as (B, H, W, 3) uint8."""
    ddpm = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    fast = DPMSolverMultistepScheduler.from_pretrained(folder, subfolder="fast_scheduler")
    noise_to_signal = (1 - fast.alphas_cumprod) / fast.alphas_cumprod  # of the usable timesteps
    if sampler == "dpmsolver++":  # even in log-SNR, whatever the spacing
        scheduler: Any = fast
        scheduler.set_timesteps(steps)
        known, levels = noise_to_signal.sqrt().log(), scheduler.sigmas[:-1].log()
        times = np.interp(levels, known, np.arange(len(known)))  # with fractions, for the network
    else:
        last = ddpm.config.num_train_timesteps
        times = {
            "leading": np.arange(steps)[::-1] * (last // steps),
            "trailing": np.arange(last, 0, -last / steps)[:steps].round() - 1,
            "linspace": np.linspace(0, last - 1, steps).round()[::-1],
        }[spacing]
        times = np.unique(times.clip(max=len(noise_to_signal) - 1))[::-1]
        # DDIM is DPM-Solver++ of first order; diffusers' own DDIM errs at some numbers of steps.
        first_order = {"solver_order": 1, "use_lu_lambdas": False}
        ddim = fast.from_config(fast.config, **first_order)
        scheduler = {"ddpm": ddpm, "ddim": ddim}[sampler]
        scheduler.set_timesteps(timesteps=times.astype(int).tolist())
    if scheduler is not ddpm:
        scheduler.set_begin_index(0)

    streams = [np.random.SeedSequence((seed, 7, index)) for index in indices]
    seeds = [int(stream.generate_state(1, np.uint64)[0]) >> 1 for stream in streams]
    generators = [torch.Generator().manual_seed(number) for number in seeds]
    shape = (1, 3, unet.config.sample_size, unet.config.sample_size)
    draws = [
        torch.cat([torch.randn(shape, generator=each) for each in generators])
        for _ in range(1 + steps - len(times))  # the last ones are of steps that go nowhere
    ]
    x = draws[0].to(unet.device)
    for t, time in zip(scheduler.timesteps, times, strict=True):
        prediction = unet(x, torch.tensor(float(time), dtype=torch.float32)).sample
        x = scheduler.step(prediction, t, x, generator=generators).prev_sample
    pixels = x.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


class MlflowModel:
    """What `mlflow.pyfunc.load_model` calls; folder: with this project's model in it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._unet = UNet2DModel.from_pretrained(folder, subfolder="unet").eval()

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """The first n images of a seed for each row (n, seed, steps), as (N, H, W, 3) uint8.

        params: sampler and spacing; by default those of the fast sampler.
        """
        options = {"sampler": "dpmsolver++", "spacing": "trailing", **(params or {})}
        images = [
            sample(
                self._folder,
                self._unet,
                options["sampler"],
                options["spacing"],
                int(row.steps),
                int(row.seed),
                range(start, min(start + _BATCH, int(row.n))),
            )
            for row in model_input.itertuples()
            for start in range(0, int(row.n), _BATCH)
        ]
        return np.concatenate(images)


def _load_pyfunc(folder: str) -> MlflowModel:
    return MlflowModel(folder)
