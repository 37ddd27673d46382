"""The validation loss: how well a network restores held-out pictures, in the same units for all.

The error of the predicted picture, not of ε or v, at fixed log-SNR levels and fixed noise: so it
compares across noise schedules, prediction types, loss weights, seeds and epochs.
"""

import numpy as np
import torch
from diffusers import UNet2DModel

from pttfaces.diffusion import distributed
from pttfaces.diffusion.rng import Purpose, generator
from pttfaces.diffusion.schedule import NoiseProcess, denoised, snr
from pttfaces.training import data
from pttfaces.training.data import Pictures

LOG_SNR_LEVELS = (-5.0, -3.0, -1.0, 1.0, 3.0)
"""Natural logarithms of the SNR, from nearly pure noise to a nearly clean picture."""


@torch.no_grad()
def x0_error(
    network: UNet2DModel, process: NoiseProcess, holdout: Pictures, batch_size: int
) -> float | None:
    """Mean squared error of the restored pictures, clipped to [-1, 1]; None for no pictures.

    Picture i is noised to level i modulo the number of levels,
    always with its own noise. The network is asked at the level's exact place between timesteps.
    Several processes share the pictures, and each gets the whole's error.
    """
    if not len(holdout):
        return None
    device, errors = network.device, []
    levels = torch.tensor(LOG_SNR_LEVELS)
    places = timestep_at(process, levels)
    for first in distributed.share(range(0, len(holdout), batch_size)):
        rows = torch.arange(first, min(first + batch_size, len(holdout)))
        images = data.batch(holdout.pixels, rows, device)  # (B, 3, H, W)
        kind = rows % len(levels)
        level, timesteps = levels[kind], places[kind].to(device)  # (B,) each
        alpha = level.sigmoid().sqrt().to(device)[:, None, None, None]  # ᾱ = SNR / (1 + SNR)
        sigma = (-level).sigmoid().sqrt().to(device)[:, None, None, None]
        noise = torch.stack([_noise(i, images.shape[1:]) for i in rows.tolist()]).to(images)
        noisy = alpha * images + sigma * noise
        restored = denoised(process, network(noisy, timesteps).sample, noisy, alpha, sigma)
        errors.append((restored.clamp(-1, 1) - images).square().mean((1, 2, 3)))  # (B,)
    ours = sum(float(batch.cpu().double().sum()) for batch in errors)
    return distributed.total(ours) / len(holdout)


def timestep_at(process: NoiseProcess, log_snr: torch.Tensor) -> torch.Tensor:
    """The timestep, with its fraction, where the process has that log-SNR: (B,) float32."""
    falling = snr(process).log().numpy()
    inside = np.flatnonzero(np.isfinite(falling))[::-1]  # np.interp wants rising values
    return torch.from_numpy(np.interp(log_snr.numpy(), falling[inside], inside)).float()


def _noise(index: int, shape: torch.Size) -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, Purpose.VALIDATION, index))
