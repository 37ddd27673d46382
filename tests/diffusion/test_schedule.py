"""Closed forms: noise schedules, loss weights, targets, averages, learning rates."""

import math

import pytest
import tiny_training as tiny
import torch
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler

from pttfaces.diffusion import schedule
from pttfaces.diffusion import unet as network
from pttfaces.diffusion.schedule import NoiseProcess
from pttfaces.errors import DataError, ParamsError
from pttfaces.training import ema, loop

LINEAR_EPSILON = NoiseProcess("linear", 1000, "epsilon", False)


def test_linear_schedule_multiplies_up_one_minus_beta() -> None:
    expected, product = [], 1.0
    for t in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        expected.append(product)
    found = schedule.alpha_bar(LINEAR_EPSILON)
    assert found.numpy() == pytest.approx(expected, rel=1e-4)
    assert float(found[-1]) ** 0.5 == pytest.approx(0.0064, abs=1e-4)


def test_cosine_schedule_is_a_squared_cosine_until_its_cap() -> None:
    found = schedule.alpha_bar(tiny.COSINE)

    def cosine(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (0, 100, 500, 900, 990):
        assert float(found[t]) == pytest.approx(cosine((t + 1) / 1000) / cosine(0), rel=2e-3)
    assert float(found[-1]) ** 0.5 == pytest.approx(4.9e-5, rel=0.05)


def test_zero_terminal_snr_ends_in_pure_noise_and_needs_v_prediction() -> None:
    process = NoiseProcess("linear", 1000, "v_prediction", True)
    assert float(schedule.snr(process)[-1]) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ParamsError, match="v_prediction"):
        NoiseProcess("linear", 1000, "epsilon", True)


def test_min_snr_weights_have_their_closed_forms() -> None:
    snr = schedule.snr(LINEAR_EPSILON)
    epsilon = schedule.loss_weights(LINEAR_EPSILON, 5.0)
    assert torch.allclose(epsilon, torch.minimum(snr, torch.full_like(snr, 5)) / snr)
    assert float(epsilon[-1]) == 1.0
    assert float(epsilon[0]) == pytest.approx(5 / float(snr[0]))
    v_process = NoiseProcess("linear", 1000, "v_prediction", False)
    v = schedule.loss_weights(v_process, 5.0)
    assert torch.allclose(v, torch.minimum(snr, torch.full_like(snr, 5)) / (snr + 1))
    assert torch.equal(schedule.loss_weights(v_process, None), torch.ones_like(snr))


def test_min_snr_still_trains_the_timestep_of_pure_noise() -> None:
    process = NoiseProcess("cosine", 1000, "v_prediction", True)
    snr, weights = schedule.snr(process), schedule.loss_weights(process, 5.0)
    assert all(weights[snr <= 0] == 1.0)
    assert bool(torch.isfinite(weights).all())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_gives_the_picture_back(prediction: str) -> None:
    process = NoiseProcess("cosine", 1000, prediction, False)  # type: ignore[arg-type]
    x0, noise = torch.rand(2, 3, 4, 4) * 2 - 1, torch.randn(2, 3, 4, 4)
    alpha = torch.tensor([0.8, 0.1]).sqrt()[:, None, None, None]
    sigma = (1 - alpha**2).sqrt()
    noisy = alpha * x0 + sigma * noise
    target = schedule.target(process, x0, noise, alpha, sigma)
    restored = schedule.denoised(process, target, noisy, alpha, sigma)
    assert torch.allclose(restored, x0, atol=1e-5)


def test_a_saved_scheduler_tells_its_process_again() -> None:
    for process in (LINEAR_EPSILON, NoiseProcess("cosine", 50, "v_prediction", True)):
        config = schedule.ddpm_scheduler(process).config
        assert schedule.process_of(config, "a model") == process
    foreign = DDPMScheduler(beta_schedule="scaled_linear").config
    with pytest.raises(DataError, match="scaled_linear"):
        schedule.process_of(foreign, "a model")


def test_average_follows_its_closed_form_with_warm_up() -> None:
    assert [ema.decay_at(n, 0.9) for n in (0, 8, 10**6)] == [0.1, 0.5, 0.9]
    unet = network.build(tiny.ARCHITECTURE, seed=0)
    average = ema.Ema(unet, 0.9)
    weight = next(unet.parameters())
    expected = weight.detach().clone()
    for update in range(4):
        with torch.no_grad():
            weight.add_(1.0)
        average.update(update)
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * weight.detach()
    assert torch.allclose(next(average.network.parameters()), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_learning_rate_is_that_of_diffusers(kind: str) -> None:
    recipe = tiny.replace(tiny.RECIPE, lr_schedule=kind, warmup_steps=5, learning_rate=1e-3)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    name = "constant_with_warmup" if kind == "constant" else kind
    theirs = get_scheduler(name, optimizer, num_warmup_steps=5, num_training_steps=40)
    for step in range(40):
        ours = loop.learning_rate(recipe, step, 40)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_groups_divide_every_level() -> None:
    assert network.groups((128, 128, 256, 256, 512, 512)) == 32
    assert network.groups((24, 32, 64, 64)) == 4
    assert network.groups((9, 16)) == 1
