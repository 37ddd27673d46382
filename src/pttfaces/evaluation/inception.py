"""Loads an Inception network, pytorch-fid's or torchvision's, with weights whose digest is checked.

Importing it takes seconds (torchvision).
"""

import pickle
from pathlib import Path

import torch
from pytorch_fid.inception import (
    FID_WEIGHTS_URL,
    FIDInceptionA,
    FIDInceptionC,
    FIDInceptionE_1,
    FIDInceptionE_2,
)
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import Inception3, Inception_V3_Weights
from torchvision.models.inception import BasicConv2d

from pttfaces import weights
from pttfaces.errors import WeightsError

# Change it with any change of the features, also in how images are decoded or in fid.py. As long as
# it is version 0.1's, that version's cache is used.
CACHE_VERSION = "e6cbe0a79eb20129f16cf33fed7e7671ee0ae972f82bc399a208bb9fe92d83c0"
URLS = {"inception": FID_WEIGHTS_URL, "torchvision": Inception_V3_Weights.IMAGENET1K_V1.url}
# The first digits of a file's SHA-256, from its name; its authors published no more of it.
SHA256_PREFIXES = {"inception": "6726825d", "torchvision": "0cc3c7bd"}
_NETWORK_SIDE = 299
# The network's layers up to 64, 192, 768 and 2,048 channels.
_BLOCKS = {
    64: ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"],
    192: ["Conv2d_3b_1x1", "Conv2d_4a_3x3"],
    768: [f"Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e")],
    2048: ["Mixed_7a", "Mixed_7b", "Mixed_7c"],
}
_POOLED = (64, 192)  # max-pooling follows
# What torch's unpickler raises on other bytes, and load_state_dict on other weights.
_NO_WEIGHTS = (
    *(pickle.UnpicklingError, RuntimeError, EOFError),
    *(AttributeError, TypeError, LookupError, ValueError),
)


class FIDInception(nn.Module):
    """(B, 3, H, W) in 0..1 → (B, dims): pytorch-fid's features of that many dimensions.

    dims: 64, 192, 768 or 2048. As there, images are resized to 299×299 (bilinear, not
    antialiased), and feature maps are averaged over their positions. inception: the network on the
    meta device, pytorch-fid's or torchvision's, whose layers differ a little.
    """

    def __init__(self, dims: int, state: dict[str, torch.Tensor], inception: Inception3) -> None:
        super().__init__()
        inception.load_state_dict(state, assign=True)
        inception.eval()
        for layer in inception.modules():
            if isinstance(layer, BasicConv2d):  # one pass over the features instead of two
                layer.conv = fuse_conv_bn_eval(layer.conv, layer.bn)
                layer.bn = nn.Identity()
        layers: list[nn.Module] = []
        for channels, names in _BLOCKS.items():
            layers += [getattr(inception, name) for name in names]
            if channels in _POOLED:
                layers.append(nn.MaxPool2d(kernel_size=3, stride=2))
            if channels == dims:
                break
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size = (_NETWORK_SIDE, _NETWORK_SIDE)
        x = functional.interpolate(images, size, mode="bilinear", align_corners=False)
        x = (2 * x - 1).contiguous(memory_format=torch.channels_last)
        return self.layers(x).mean(dim=(2, 3))


def find_weights(features: str, given: str | None, sha256: str | None = None) -> Path:
    """The weights file: the given one, torch.hub's, or downloaded to where torch.hub has it.

    features: inception or torchvision; sha256: the digest (or its first digits) of other weights,
    in the file `given`.
    WeightsError: as `weights.find`; the message also says how to evaluate without these weights.
    """
    url, expected = URLS[features], (sha256 if given else None) or SHA256_PREFIXES[features]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    name = "Inception (for FID)" if features == "inception" else "torchvision's Inception"
    try:
        return weights.find(name, given, [cached], url, expected, "evaluate.weights")
    except WeightsError as error:
        raise WeightsError(
            f"{error} Without these weights: `dvc exp run -S evaluate.features=random`, whose "
            "distance is not an FID, but can be used to compare runs."
        ) from None


def load_inception(path: Path, dims: int, features: str = "inception") -> FIDInception:
    """The network with the weights of a file, from which only tensors are unpickled.

    features: as in `find_weights`. WeightsError: the file holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return FIDInception(dims, state, _NETWORKS[features]())
    except _NO_WEIGHTS as error:
        reason = str(error).split("\n", 1)[0]
        whose = "pytorch-fid" if features == "inception" else features
        raise WeightsError(
            f"{path} does not hold the weights of {whose}'s Inception ({reason}); delete it to "
            "download it again, or correct evaluate.weights."
        ) from None


def _torchvision_inception() -> Inception3:
    """torchvision's network without values."""
    with torch.device("meta"):
        return Inception3(init_weights=False)


def _fid_inception() -> Inception3:
    """The network without values, patched as in pytorch-fid's fid_inception_v3."""
    with torch.device("meta"):
        network = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
        network.Mixed_5b = FIDInceptionA(192, pool_features=32)
        network.Mixed_5c = FIDInceptionA(256, pool_features=64)
        network.Mixed_5d = FIDInceptionA(288, pool_features=64)
        network.Mixed_6b = FIDInceptionC(768, channels_7x7=128)
        network.Mixed_6c = FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6d = FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6e = FIDInceptionC(768, channels_7x7=192)
        network.Mixed_7b = FIDInceptionE_1(1280)
        network.Mixed_7c = FIDInceptionE_2(2048)
    return network


_NETWORKS = {"inception": _fid_inception, "torchvision": _torchvision_inception}
