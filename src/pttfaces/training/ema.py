"""Averages a network's weights exponentially, with a warm-up for short training runs."""

import copy

from diffusers import UNet2DModel
from torch.optim.swa_utils import get_ema_multi_avg_fn


def decay_at(step: int, decay: float) -> float:
    """Share of the old average kept at update `step`: min(decay, (1 + step) / (10 + step)).

    The warm-up forgets the first, random weights within tens of updates, where a constant 0.9999
    would need tens of thousands.
    """
    return min(decay, (1 + step) / (10 + step))


class Ema:
    """`unet` holds the averaged weights of another network, in evaluation mode.

    decay: of the average in the long run; with 0 it is a copy of the newest weights.
    """

    def __init__(self, unet: UNet2DModel, decay: float) -> None:
        self.decay = decay
        self.unet = copy.deepcopy(unet).eval().requires_grad_(False)
        # Without buffers: the network has none. Listed once: to find them walks all modules.
        self._averages, self._weights = list(self.unet.parameters()), list(unet.parameters())

    def step(self, step: int) -> None:
        """average ← d·average + (1−d)·weights with d = decay_at(step), without a device sync."""
        average = get_ema_multi_avg_fn(decay_at(step, self.decay))
        average(self._averages, self._weights, step)
