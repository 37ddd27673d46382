"""The noising process: x_t = α_t·x_0 + σ_t·ε with α_t² = ᾱ_t, and what the network predicts of it.

Symbols as in DDPM (arXiv 2006.11239), v-prediction (2202.00512) and min-SNR weighting (2303.09556).
Knows nothing of networks, loops or samplers.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import DDPMScheduler

from pttfaces.errors import DataError, ParamsError

_BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


@dataclass(frozen=True)
class NoiseProcess:
    """schedule: linear (β from 1e-4 to 0.02) or cosine; timesteps: T; prediction: the network's
    target; zero_terminal_snr: rescale so that ᾱ ends at 0 (v_prediction only, arXiv 2305.08891)."""

    schedule: Literal["linear", "cosine"]
    timesteps: int
    prediction: Literal["epsilon", "v_prediction"]
    zero_terminal_snr: bool

    def __post_init__(self) -> None:
        if self.zero_terminal_snr and self.prediction != "v_prediction":
            raise ParamsError(
                "train.zero_terminal_snr is true with train.prediction epsilon, which says nothing "
                "of a picture of pure noise; set train.prediction to v_prediction."
            )

    def beta_options(self) -> dict[str, Any]:
        """What every diffusers scheduler of this process has to be told."""
        return {
            "num_train_timesteps": self.timesteps,
            "beta_start": 1e-4,
            "beta_end": 0.02,
            "beta_schedule": _BETAS[self.schedule],
            "trained_betas": None,
            "prediction_type": self.prediction,
            "rescale_betas_zero_snr": self.zero_terminal_snr,
            "steps_offset": 0,
        }


def process_of(config: Any, name: str) -> NoiseProcess:
    """The process that a saved scheduler's config describes; DataError where it is another kind."""
    cosine = config.get("beta_schedule") == _BETAS["cosine"]
    process = NoiseProcess(
        schedule="cosine" if cosine else "linear",
        timesteps=config.get("num_train_timesteps", 1000),
        prediction=config.get("prediction_type", "epsilon"),
        zero_terminal_snr=config.get("rescale_betas_zero_snr", False),
    )
    for key, value in process.beta_options().items():
        if config.get(key, value) != value:
            raise DataError(
                f"{name} was trained with {key} {config.get(key)!r}, which is none of this "
                "project's noise schedules; train a model with `dvc repro train`."
            )
    return process


def ddpm_scheduler(
    process: NoiseProcess, spacing: str = "trailing", clip: float = 1.0
) -> DDPMScheduler:
    """diffusers' DDPM scheduler with every option said, so that a reloaded one is the same.

    clip: predicted pictures are clipped to [-clip, clip] at every step.
    """
    return DDPMScheduler(
        **process.beta_options(),
        variance_type="fixed_small",
        clip_sample=True,
        clip_sample_range=clip,
        thresholding=False,
        dynamic_thresholding_ratio=0.995,
        sample_max_value=1.0,
        timestep_spacing=spacing,
    )


def alpha_bar(process: NoiseProcess) -> torch.Tensor:
    """ᾱ, the share of the picture's power left at each timestep: (T,) float64, falling."""
    betas = ddpm_scheduler(process).betas.double()
    return torch.cumprod(1 - betas, 0)


def snr(process: NoiseProcess) -> torch.Tensor:
    """Signal-to-noise ratio ᾱ / (1 − ᾱ) of each timestep: (T,) float64."""
    signal = alpha_bar(process)
    return signal / (1 - signal)


def loss_weights(process: NoiseProcess, gamma: float | None) -> torch.Tensor:
    """Weight of each timestep's squared error: (T,) float64; min-SNR-γ, or 1 where γ is None.

    min(SNR, γ) / SNR for epsilon, min(SNR, γ) / (SNR + 1) for v. Where the SNR is 0 the weight is
    1, since sampling starts there and a weight of 0 would never train it.
    """
    ratio = snr(process)
    if gamma is None:
        return torch.ones_like(ratio)
    scale = ratio if process.prediction == "epsilon" else ratio + 1
    return torch.where(ratio > 0, ratio.clamp(max=gamma) / scale, 1.0)


def target(
    process: NoiseProcess,
    images: torch.Tensor,
    noise: torch.Tensor,
    alpha: torch.Tensor,
    sigma: torch.Tensor,
) -> torch.Tensor:
    """What the network should say: ε, or v = α·ε − σ·x_0. alpha, sigma: (B, 1, 1, 1)."""
    return noise if process.prediction == "epsilon" else alpha * noise - sigma * images


def denoised(
    process: NoiseProcess,
    prediction: torch.Tensor,
    noisy: torch.Tensor,
    alpha: torch.Tensor,
    sigma: torch.Tensor,
) -> torch.Tensor:
    """The picture x_0 that a prediction amounts to, the inverse of `target`."""
    if process.prediction == "epsilon":
        return (noisy - sigma * prediction) / alpha
    return alpha * noisy - sigma * prediction
