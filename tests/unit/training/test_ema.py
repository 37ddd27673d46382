"""The average of the weights."""

import tiny_training as tiny
import torch

from pttfaces.training.ema import Ema, decay_at


def test_ema_with_warm_up_follows_its_closed_form() -> None:
    assert [decay_at(n, 0.9) for n in (0, 8, 10**6)] == [0.1, 0.5, 0.9]
    unet = tiny.build()
    ema_model = Ema(unet, 0.9)
    weight = next(unet.parameters())
    expected = weight.detach().clone()
    for step in range(4):
        with torch.no_grad():
            weight.add_(1.0)
        ema_model.step(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach()
    assert torch.allclose(next(ema_model.unet.parameters()), expected, atol=1e-6)
