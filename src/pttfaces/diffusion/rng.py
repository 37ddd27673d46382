"""Randomness as a function of its place: (seed, purpose, number) names a generator.

Nothing here has a history, so a run that is resumed, or a picture that is sampled in another batch,
draws the same numbers. Must not know what the numbers are for.
"""

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What is drawn; each value is a stream of its own. Changing one changes every model."""

    WEIGHTS = 0
    ORDER = 1
    TIMESTEPS = 2
    NOISE = 3
    FLIPS = 4
    DROPOUT = 5
    VALIDATION = 6
    SAMPLE = 7


def number(seed: int, purpose: Purpose, index: int) -> int:
    """A 63-bit seed for the `index`-th draw of a purpose, by numpy's SeedSequence hash."""
    words = np.random.SeedSequence((seed, int(purpose), index)).generate_state(1, np.uint64)
    return int(words[0]) >> 1


def generator(
    seed: int, purpose: Purpose, index: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A fresh generator for that draw. A CPU and a GPU draw different numbers from one seed."""
    return torch.Generator(device).manual_seed(number(seed, purpose, index))
