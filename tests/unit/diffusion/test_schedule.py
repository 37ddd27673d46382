"""Closed forms of noise schedules, loss weights and targets."""

import math
from typing import Any

import pytest
import settings
import tiny_training as tiny
import torch
from diffusers import DDPMScheduler

from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.errors import DataError
from pttfaces.sampling import forecast

LINEAR_EPSILON = NoiseSchedule("linear", 1000, "epsilon", False)


def test_linear_schedule_multiplies_up_one_minus_beta() -> None:
    expected, product = [], 1.0
    for t in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        expected.append(product)
    found = LINEAR_EPSILON.alpha_bar()
    assert found.numpy() == pytest.approx(expected, rel=1e-4)
    assert float(found[-1]) ** 0.5 == pytest.approx(0.0064, abs=1e-4)


def test_cosine_schedule_is_a_squared_cosine_until_its_cap() -> None:
    found = tiny.COSINE.alpha_bar()

    def cosine(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (0, 100, 500, 900, 990):
        assert float(found[t]) == pytest.approx(cosine((t + 1) / 1000) / cosine(0), rel=2e-3)
    assert float(found[-1]) ** 0.5 == pytest.approx(4.9e-5, rel=0.05)


def test_zero_terminal_snr_ends_in_pure_noise() -> None:
    schedule = NoiseSchedule("linear", 1000, "v_prediction", True)
    assert float(schedule.snr()[-1]) == pytest.approx(0, abs=1e-12)


def test_min_snr_weights_have_their_closed_forms() -> None:
    snr = LINEAR_EPSILON.snr()
    epsilon = LINEAR_EPSILON.loss_weights(5.0)
    assert torch.allclose(epsilon, torch.minimum(snr, torch.full_like(snr, 5)) / snr)
    assert float(epsilon[-1]) == 1.0
    assert float(epsilon[0]) == pytest.approx(5 / float(snr[0]))
    linear_v = NoiseSchedule("linear", 1000, "v_prediction", False)
    v = linear_v.loss_weights(5.0)
    assert torch.allclose(v, torch.minimum(snr, torch.full_like(snr, 5)) / (snr + 1))
    assert torch.equal(linear_v.loss_weights(None), torch.ones_like(snr))


def test_min_snr_still_trains_the_timestep_of_pure_noise() -> None:
    schedule = NoiseSchedule("cosine", 1000, "v_prediction", True)
    snr, weights = schedule.snr(), schedule.loss_weights(5.0)
    assert all(weights[snr <= 0] == 1.0)
    assert bool(torch.isfinite(weights).all())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_denoised_of_a_perfect_prediction_gives_the_image_back(prediction: Any) -> None:
    schedule = NoiseSchedule("cosine", 1000, prediction, False)
    x0, noise = torch.rand(2, 3, 4, 4) * 2 - 1, torch.randn(2, 3, 4, 4)
    alpha = torch.tensor([0.8, 0.1]).sqrt()[:, None, None, None]
    sigma = (1 - alpha**2).sqrt()
    noisy_images = alpha * x0 + sigma * noise
    target = schedule.target(x0, noise, alpha, sigma)
    restored = schedule.denoised(target, noisy_images, alpha, sigma)
    assert torch.allclose(restored, x0, atol=1e-5)


def test_from_config_of_a_saved_scheduler_gives_the_schedule_back() -> None:
    for schedule in (
        LINEAR_EPSILON,
        NoiseSchedule("cosine", 50, "v_prediction", True),
        NoiseSchedule("linear", 1000, "epsilon", True),  # the original's
    ):
        config = schedule.ddpm_scheduler().config
        assert NoiseSchedule.from_config(config, "a model") == schedule


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("zero", [False, True])
def test_saved_schedulers_in_plain_diffusers_sample_what_an_ideal_network_knows(
    name: Any, prediction: Any, zero: bool
) -> None:
    """Of Gaussian pixels. In pure noise such a network's ε is x itself, to the last bit."""
    schedule = NoiseSchedule(name, 1000, prediction, zero)
    network = forecast.ideal_network(schedule, 0.2, torch.tensor(0.09))
    for scheduler in (schedule.ddpm_scheduler(), schedule.fast_scheduler()):
        scheduler.set_timesteps(61)
        draws = torch.Generator().manual_seed(0)
        x = torch.randn((1, 3, 32, 32), generator=draws)
        for t in scheduler.timesteps:
            prediction_of_x = network(x.double(), t[None].double()).float()
            x = scheduler.step(prediction_of_x, t, x, generator=draws).prev_sample
        assert float(x.mean()) == pytest.approx(0.2, abs=0.02)
        assert float(x.std()) == pytest.approx(0.3, rel=0.2)


@pytest.mark.parametrize(
    "foreign",
    [
        {"trained_betas": [0.1, 0.2], "num_train_timesteps": 2},
        {"beta_schedule": "scaled_linear"},
        {"beta_end": 0.03},
        {"prediction_type": "sample"},
    ],
    ids=str,
)
def test_from_config_of_a_scheduler_of_another_kind_raises_data_error(
    foreign: dict[str, Any],
) -> None:
    config = DDPMScheduler(**foreign).config
    with pytest.raises(DataError, match=f"a model was trained with .*{next(iter(foreign))[-5:]}"):
        NoiseSchedule.from_config(config, "a model")


def test_from_params_gives_the_configured_schedule() -> None:
    train = settings.group("train", timesteps=50, prediction="v_prediction", zero_terminal_snr=True)
    params = settings.params(noise_schedule="linear", train=train)
    expected = NoiseSchedule("linear", 50, "v_prediction", True)
    assert NoiseSchedule.from_params(params) == expected
