"""Derives random generators from counters: (seed, stream, index) names one.

No generator outlives one update or one image, so a resumed training, or an image that is
sampled in another batch, draws the same numbers.
"""

from collections.abc import Iterable
from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What is drawn. Changing a value changes every model."""

    WEIGHTS = 0
    ORDER = 1
    TIMESTEPS = 2
    NOISE = 3
    FLIPS = 4
    DROPOUT = 5
    VALIDATION = 6
    SAMPLE = 7


def seed_for(seed: int, stream: Stream, index: int) -> int:
    """A 63-bit seed for the `index`-th draw of a stream, by numpy's SeedSequence hash."""
    words = np.random.SeedSequence((seed, int(stream), index)).generate_state(1, np.uint64)
    return int(words[0]) >> 1


def generator_for(
    seed: int, stream: Stream, index: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A fresh generator for that draw. A CPU and a GPU draw different numbers from one seed."""
    return torch.Generator(device).manual_seed(seed_for(seed, stream, index))


def noise_like(x: torch.Tensor, generators: Iterable[torch.Generator]) -> torch.Tensor:
    """Standard normal noise in the shape of `x` (B, C, H, W), from one generator per image."""
    draws = [torch.randn(x.shape[1:], generator=one, dtype=x.dtype) for one in generators]
    return torch.stack(draws).to(x.device)
