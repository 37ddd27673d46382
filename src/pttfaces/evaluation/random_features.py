"""Computes features with a randomly initialized VGG, to compare runs without Inception's weights.

As in Naeem et al. 2020 ("Reliable fidelity and diversity metrics for generative models"). The
resulting distances grow with noise, blur and missing variety, but they are not FIDs and cannot be
compared with one.
"""

import hashlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional

# Change it with any change of the features, also in how images are decoded or in fid.py. As long as
# it is version 0.1's, that version's cache is used.
CACHE_VERSION = "c8ddce40ec8aac32a58ff18e7347e48f8e2b829a509b82d6771ba7be6820be7d"
_SIDE = 64
_CHANNELS = (32, 64, 128, 256, 512)
_CALIBRATION_IMAGES = 128


class RandomVGG(nn.Module):
    """(B, 3, H, W) in 0..1 → (B, dims) features; images are resized to 64×64 first.

    Five 3×3 convolutions, each with ReLU and 2×2 max-pooling, then a linear layer. The weights are
    He uniform, then scaled and shifted so that on noise images every channel of every layer has
    mean 0 and variance 1: otherwise the signal dies out on the way and all distances are 0.

    digest: SHA-256 of what was drawn (weights before scaling, noise images). The scales follow
    from it up to rounding, so that the digest is the same on every machine.
    """

    def __init__(self, dims: int, seed: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *_CHANNELS), _CHANNELS, strict=False):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        flat = _CHANNELS[-1] * (_SIDE >> len(_CHANNELS)) ** 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, dims))
        self.digest = _draw(self.layers, seed)
        self.eval().requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[2:] != (_SIDE, _SIDE):
            images = functional.interpolate(images, (_SIDE, _SIDE), mode="bilinear", antialias=True)
        return self.layers(4 * images - 2)


@torch.no_grad()
def _draw(layers: nn.Sequential, seed: int) -> str:
    """Draws the weights layer by layer, each scaled to the output of those before it."""
    digest = hashlib.sha256()
    images = _noise_images(np.random.default_rng(seed))
    digest.update(images.tobytes())
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255 * 4 - 2
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weight = _he_uniform(layer.weight.shape, np.random.default_rng([seed, index]))
            digest.update(weight.tobytes())
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias = nn.Parameter(torch.zeros(len(weight)))
            out = layer(x).transpose(0, 1).flatten(1)  # (channels, images × positions)
            deviation, mean = torch.std_mean(out, dim=1)
            layer.weight.div_(deviation.view(-1, *[1] * (weight.ndim - 1)))
            layer.bias.copy_(-mean / deviation)
        x = layer(x)
    return digest.hexdigest()


def _he_uniform(shape: torch.Size, rng: np.random.Generator) -> np.ndarray:
    """Weights of variance 2 / inputs; uniform ones are the same bits on every machine."""
    bound = np.float32(np.sqrt(6 / np.prod(shape[1:])))
    return (2 * rng.random(tuple(shape), np.float32) - 1) * bound


def _noise_images(rng: np.random.Generator) -> np.ndarray:
    """(N, 64, 64, 3) uint8: noise on every scale, larger ones stronger, as in photographs."""
    total = np.zeros((_CALIBRATION_IMAGES, _SIDE, _SIDE, 3), np.uint8)
    for side in (1, 2, 4, 8, 16, 32, 64):
        noise = rng.integers(0, 128 // side, (len(total), side, side, 3), np.uint8)
        total += noise.repeat(_SIDE // side, axis=1).repeat(_SIDE // side, axis=2)
    return total
