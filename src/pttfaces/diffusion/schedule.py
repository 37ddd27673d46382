"""Defines the noise schedule, x_t = α_t·x_0 + σ_t·ε with α_t² = ᾱ_t, and the network's target.

Symbols as in DDPM (arXiv 2006.11239), v-prediction (2202.00512) and min-SNR weighting (2303.09556).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, get_args

import torch

from pttfaces.config import NoiseScheduleName, Params, Prediction
from pttfaces.errors import DataError

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

EPSILON_MIN_LAMBDA = -5.1
"""Where λ is below this (α < 0.0061), a prediction of ε says nothing of the image, and no sampler
goes there: x_0 = (x − σ·ε) / α is then the network's error times more than 160. The linear schedule
ends about here, and diffusers advises the same (lambda_min_clipped of its DPM-Solver)."""

_BETAS: dict[NoiseScheduleName, str] = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
_FIXED = {"beta_start": 1e-4, "beta_end": 0.02, "steps_offset": 0}
_NEARLY_ONE = 1 - 1e-6


@dataclass(frozen=True)
class NoiseSchedule:
    """name: linear (β from 1e-4 to 0.02) or cosine; timesteps: T; prediction: the network's
    target; zero_terminal_snr: rescale so that ᾱ ends at 0 (arXiv 2305.08891). With epsilon the last
    timestep then tells nothing of the image; samplers leave it out."""

    name: NoiseScheduleName
    timesteps: int
    prediction: Prediction
    zero_terminal_snr: bool

    @classmethod
    def from_params(cls, params: Params) -> Self:
        """The schedule that params.yaml asks for."""
        train = params.train
        return cls(
            params.noise_schedule, train.timesteps, train.prediction, train.zero_terminal_snr
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], source: str) -> Self:
        """The schedule of a saved scheduler's config.

        source: the config's folder, for messages. DataError: not a schedule of this project.
        """
        names = {value: name for name, value in _BETAS.items()}
        allowed = {
            "beta_schedule": tuple(names),
            "prediction_type": get_args(Prediction),
            "rescale_betas_zero_snr": (False, True),
            **{key: (value,) for key, value in _FIXED.items()},
        }
        for key, values in allowed.items():
            if config.get(key, values[0]) not in values:
                raise DataError(
                    f"{source} was trained with {key} {config[key]!r}, which this project "
                    "does not support; train a model with `dvc repro train`."
                )
        betas = config.get("trained_betas")
        schedule = cls(
            name=names[config.get("beta_schedule", "linear")],
            timesteps=config.get("num_train_timesteps", 1000),
            prediction=config.get("prediction_type", "epsilon"),
            zero_terminal_snr=config.get("rescale_betas_zero_snr", False) or betas is not None,
        )
        if betas not in (None, schedule.ddpm_scheduler().config.trained_betas):
            raise DataError(f"{source} was trained with other betas than this project's.")
        return schedule

    def ddpm_scheduler(self) -> "DDPMScheduler":
        """diffusers' DDPM scheduler with every option explicit, so that a reloaded one is the same.

        It is saved with a model. It samples like our `ddpm` with linspace spacing, the one that
        diffusers computes right at any number of steps: of 1,000 with trailing spacing, 62 end at a
        timestep −1. A single step is at 0, which is of no use. With epsilon, (x − σ·ε) / α has to
        be a number where ᾱ ends at 0, too: the last β is then a little below 1.
        """
        from diffusers import DDPMScheduler

        options = self._options
        if self.zero_terminal_snr and self.prediction == "epsilon":
            betas = [*self._betas()[:-1].tolist(), _NEARLY_ONE]
            options |= {"trained_betas": betas, "rescale_betas_zero_snr": False}
        return DDPMScheduler(
            **options,
            variance_type="fixed_small",
            clip_sample=True,
            clip_sample_range=1.0,
            timestep_spacing="linspace",
        )

    def fast_scheduler(self) -> "DPMSolverMultistepScheduler":
        """diffusers' scheduler that samples like our `dpmsolver++`; saved with a model, too.

        It has the usable timesteps only.
        """
        from diffusers import DPMSolverMultistepScheduler

        options = self._options | {"thresholding": True}  # at most at 1: it clips
        usable = len(self.usable_alpha_bar())
        if usable < self.timesteps:
            betas = self._betas()[:usable].tolist()
            options |= {"trained_betas": betas, "num_train_timesteps": usable}
            options["rescale_betas_zero_snr"] = False  # these betas are rescaled
        return DPMSolverMultistepScheduler(
            **options,
            algorithm_type="dpmsolver++",
            solver_order=2,
            solver_type="midpoint",
            use_lu_lambdas=True,
            final_sigmas_type="zero",
            timestep_spacing="linspace",  # unused
        )

    @property
    def _options(self) -> dict[str, Any]:
        """The options that diffusers' schedulers share."""
        return {
            **_FIXED,
            "trained_betas": None,
            "num_train_timesteps": self.timesteps,
            "beta_schedule": _BETAS[self.name],
            "prediction_type": self.prediction,
            "rescale_betas_zero_snr": self.zero_terminal_snr,
            "thresholding": False,
            "dynamic_thresholding_ratio": 0.995,
            "sample_max_value": 1.0,
        }

    def _betas(self) -> torch.Tensor:
        from diffusers import DDPMScheduler

        return DDPMScheduler(**self._options).betas

    def alpha_bar(self) -> torch.Tensor:
        """ᾱ, the share of the image's power left at each timestep: (T,) float64, falling."""
        return torch.cumprod(1 - self._betas().double(), 0)

    def usable_alpha_bar(self) -> torch.Tensor:
        """ᾱ of the timesteps, from 0 on, whose prediction says something of the image: float64."""
        alpha_bar = self.alpha_bar()
        if self.prediction == "v_prediction":
            return alpha_bar
        return alpha_bar[alpha_bar > math.exp(2 * EPSILON_MIN_LAMBDA) * (1 - alpha_bar)]

    def snr(self) -> torch.Tensor:
        """Signal-to-noise ratio ᾱ / (1 − ᾱ) of each timestep: (T,) float64."""
        alpha_bar = self.alpha_bar()
        return alpha_bar / (1 - alpha_bar)

    def loss_weights(self, gamma: float | None) -> torch.Tensor:
        """Weight of each timestep's squared error: (T,) float64; min-SNR-γ, or 1 where γ is None.

        min(SNR, γ) / SNR for epsilon, min(SNR, γ) / (SNR + 1) for v. Where the SNR is 0 the weight
        is 1, since sampling starts there and a weight of 0 would never train it.
        """
        snr = self.snr()
        if gamma is None:
            return torch.ones_like(snr)
        scale = snr if self.prediction == "epsilon" else snr + 1
        return torch.where(snr > 0, snr.clamp(max=gamma) / scale, 1.0)

    def target(
        self, images: torch.Tensor, noise: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """What the network learns to predict: ε, or v = α·ε − σ·x_0. alpha, sigma: (B, 1, 1, 1)."""
        return noise if self.prediction == "epsilon" else alpha * noise - sigma * images

    def denoised(
        self,
        prediction: torch.Tensor,
        noisy_images: torch.Tensor,
        alpha: torch.Tensor | float,
        sigma: torch.Tensor | float,
    ) -> torch.Tensor:
        """The image x_0 that a prediction amounts to, the inverse of `target`."""
        if self.prediction == "epsilon":
            return (noisy_images - sigma * prediction) / alpha
        return alpha * noisy_images - sigma * prediction
