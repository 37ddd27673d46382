"""Builds the network: a UNet2DModel in the shape of diffusers' unconditional tutorial, any size."""

import math
from collections.abc import Sequence

import torch
from diffusers import UNet2DModel
from diffusers.models.resnet import ResnetBlock2D

from pttfaces import config
from pttfaces.diffusion.rng import Stream, seed_for


def norm_groups(channels: Sequence[int]) -> int:
    """Groups of the group norms: at most 32, at least 4 channels each, dividing every level.

    Every layer's channel count is a sum of levels' counts, so a divisor of their greatest common
    divisor divides them all.
    """
    common, limit = math.gcd(*channels), max(1, min(32, min(channels) // 4))
    return max(count for count in range(1, limit + 1) if common % count == 0)


def build(model: config.Model, image_size: int, seed: int) -> UNet2DModel:
    """A new network whose weights are a function of `seed`; on the CPU, float32.

    It maps noisy images (B, 3, H, W) and timesteps (B,) to a prediction (B, 3, H, W). Each level
    halves the image's side; where any level has self-attention, so has the middle block.
    """
    attention = model.attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, Stream.WEIGHTS, 0))
        return UNet2DModel(
            sample_size=image_size,
            in_channels=3,
            out_channels=3,
            center_input_sample=False,
            time_embedding_type="positional",
            freq_shift=0,
            flip_sin_to_cos=True,
            block_out_channels=tuple(model.channels),
            layers_per_block=model.layers_per_block,
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
            up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]),
            add_attention=any(attention),
            attention_head_dim=8,
            norm_num_groups=norm_groups(model.channels),
            norm_eps=1e-5,
            act_fn="silu",
            dropout=model.dropout,
            resnet_time_scale_shift="default",
        )


def set_training(unet: UNet2DModel) -> None:
    """`unet.train()` without the copies that diffusers' residual blocks make in training mode.

    There a block turns the input of its shortcut to channels first, and a channels-last convolution
    turns it back, and again in the backward pass: a tenth of a step on a CPU. Nothing else reads a
    block's mode; its dropout is a separate module.
    """
    unet.train()
    for block in unet.modules():
        if isinstance(block, ResnetBlock2D):
            block.training = False
