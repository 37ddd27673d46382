"""The network."""

import tiny_training as tiny
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from pttfaces.diffusion import unet


def test_build_uses_torch_s_own_attention() -> None:
    kinds = {type(part.processor) for part in tiny.build().modules() if isinstance(part, Attention)}
    assert kinds == {AttnProcessor2_0}


def test_norm_groups_divide_every_level() -> None:
    assert unet.norm_groups((128, 128, 256, 256, 512, 512)) == 32
    assert unet.norm_groups((24, 32, 64, 64)) == 4
    assert unet.norm_groups((9, 16)) == 1
