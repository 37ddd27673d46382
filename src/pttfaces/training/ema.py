"""The exponential moving average of a network's weights, with a warm-up for short trainings."""

import copy

from diffusers import UNet2DModel
from torch.optim.swa_utils import get_ema_multi_avg_fn


def decay_at(update: int, decay: float) -> float:
    """Share of the old average kept at the `update`-th update (from 0): min(decay, (1+n)/(10+n)).

    The warm-up forgets the first, random weights within tens of updates, where a constant 0.9999
    would need tens of thousands.
    """
    return min(decay, (1 + update) / (10 + update))


class Ema:
    """`network` holds the averaged weights of another, in evaluation mode, ready to sample from."""

    def __init__(self, network: UNet2DModel, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        # Listed once: to find them walks through all modules.
        self._averages, self._weights = list(self.network.parameters()), list(network.parameters())

    def update(self, update: int) -> None:
        """average ← d·average + (1−d)·weights with d = decay_at(update), without a device sync."""
        average = get_ema_multi_avg_fn(decay_at(update, self.decay))
        average(self._averages, self._weights, update)
