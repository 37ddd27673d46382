"""The network: a diffusers UNet2DModel in the shape of the unconditional tutorial, any size.

Knows nothing of noise schedules, training or sampling.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DModel
from diffusers.models.resnet import ResnetBlock2D

from pttfaces.diffusion.rng import Purpose, number


@dataclass(frozen=True)
class Architecture:
    """image_size: side in pixels; channels: of each level, from full size down, each half as wide;
    attention: self-attention at that level (where any is true, also in the middle block)."""

    image_size: int
    channels: Sequence[int]
    layers_per_block: int
    attention: Sequence[bool]
    dropout: float


def groups(channels: Sequence[int]) -> int:
    """Groups of the group norms: at most 32, at least 4 channels each, dividing every level.

    Every layer's width is a sum of levels' widths, so what divides their greatest common divisor
    divides them all.
    """
    common, most = math.gcd(*channels), max(1, min(32, min(channels) // 4))
    return max(count for count in range(1, most + 1) if common % count == 0)


def build(architecture: Architecture, seed: int) -> UNet2DModel:
    """A new network whose weights are a function of `seed`; on the CPU, float32.

    It maps noisy images (B, 3, H, W) and timesteps (B,) to a prediction (B, 3, H, W).
    """
    attention = list(architecture.attention)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number(seed, Purpose.WEIGHTS, 0))
        return UNet2DModel(
            sample_size=architecture.image_size,
            in_channels=3,
            out_channels=3,
            center_input_sample=False,
            time_embedding_type="positional",
            freq_shift=0,
            flip_sin_to_cos=True,
            block_out_channels=tuple(architecture.channels),
            layers_per_block=architecture.layers_per_block,
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
            up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]),
            add_attention=any(attention),
            attention_head_dim=8,
            norm_num_groups=groups(architecture.channels),
            norm_eps=1e-5,
            act_fn="silu",
            dropout=architecture.dropout,
            resnet_time_scale_shift="default",
        )


def set_training(network: UNet2DModel) -> None:
    """`network.train()` without the copies that diffusers' residual blocks make then.

    In training mode a block turns the input of its shortcut to channels first, and a channels-last
    convolution turns it back, likewise on the way backward: a tenth of a step on a CPU. Nothing
    else asks a block; its dropout is a module of its own.
    """
    network.train()
    for block in network.modules():
        if isinstance(block, ResnetBlock2D):
            block.training = False
