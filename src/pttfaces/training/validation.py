"""Measures how well a network restores held-out images, in the same units for all networks.

The error of the predicted image, not of ε or v, at fixed log-SNR levels and fixed noise: so it
compares across noise schedules, prediction types, loss weights, seeds and epochs.
"""

import numpy as np
import torch

from pttfaces.diffusion import distributed
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.diffusion.rng import Stream, generator_for, noise_like
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.training import data
from pttfaces.training.data import ImageSet

LOG_SNR_LEVELS = (-5.0, -3.0, -1.0, 1.0, 3.0)
"""Natural logarithms of the SNR, from nearly pure noise to a nearly clean image."""


@torch.no_grad()
def x0_error(model: DiffusionModel, holdout: ImageSet, batch_size: int) -> float | None:
    """Mean squared error of the restored images, clipped to [-1, 1]; None for no images.

    Image i is noised to level i modulo the number of levels, always with its own noise. The network
    gets the level's exact position between timesteps. Several processes share the images, and each
    gets the error over all.
    """
    if not len(holdout):
        return None
    device, errors = model.unet.device, []
    levels = torch.tensor(LOG_SNR_LEVELS)
    level_timesteps = timestep_at(model.schedule, levels)
    for start in distributed.share(range(0, len(holdout), batch_size)):
        rows = torch.arange(start, min(start + batch_size, len(holdout)))
        clean_images = data.batch(holdout.pixels, rows, device)  # (B, 3, H, W)
        level = rows % len(levels)
        log_snr, timesteps = levels[level], level_timesteps[level].to(device)  # (B,) each
        alpha = log_snr.sigmoid().sqrt().to(device)[:, None, None, None]  # ᾱ = SNR / (1 + SNR)
        sigma = (-log_snr).sigmoid().sqrt().to(device)[:, None, None, None]
        draws = (generator_for(0, Stream.VALIDATION, row) for row in rows.tolist())
        noise = noise_like(clean_images, draws)
        noisy_images = alpha * clean_images + sigma * noise
        prediction = model.unet(noisy_images, timesteps).sample
        restored = model.schedule.denoised(prediction, noisy_images, alpha, sigma)
        errors.append((restored.clamp(-1, 1) - clean_images).square().mean((1, 2, 3)))  # (B,)
    error_sum = sum(float(batch.cpu().double().sum()) for batch in errors)
    return distributed.total(error_sum) / len(holdout)


def timestep_at(schedule: NoiseSchedule, log_snr: torch.Tensor) -> torch.Tensor:
    """The timestep, with its fraction, where the schedule has that log-SNR: (B,) float32.

    Beyond the schedule's ends it is the first or the last timestep.
    """
    falling = schedule.snr().log().numpy()
    finite = np.flatnonzero(np.isfinite(falling))[::-1]  # np.interp wants rising values
    return torch.from_numpy(np.interp(log_snr.numpy(), falling[finite], finite)).float()
