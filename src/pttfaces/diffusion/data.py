"""Training pictures: a folder of PNG files, decoded once into memory, cut into batches.

Knows nothing of where the pictures came from or what is learnt from them.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pttfaces.pictures import read_rgb


@dataclass(frozen=True)
class Pictures:
    """pixels: (N, 3, H, W) uint8, by file name; digest: SHA-256 over names and pixels.

    The digest is of the decoded pixels: it is the same wherever PNG encoders differ.
    """

    pixels: torch.Tensor
    digest: str

    def __len__(self) -> int:
        return len(self.pixels)


def load(folder: Path, size: int) -> Pictures:
    """Decodes every PNG of `folder`, which may be empty or missing; all are size × size, RGB.

    DataError: a file that is no picture, or a picture of another size.
    """
    paths = sorted(folder.glob("*.png"))
    remedy = "curate the pictures again, or set image_size to their size"
    pixels = read_rgb(paths, (size, size), remedy)
    digest = hashlib.sha256()
    for row, path in zip(pixels, paths, strict=True):
        digest.update(f"{path.name}\0{row.shape}\0".encode())
        digest.update(row.tobytes())
    chw = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return Pictures(chw, digest.hexdigest())


def batch(pixels: torch.Tensor, rows: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The pictures at `rows` (B,) as (B, 3, H, W) float32 in [-1, 1], channels last on `device`."""
    chosen = pixels[rows].to(device, non_blocking=True)
    return chosen.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)


def mirrored(images: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W), those where flips (B,) is true with left and right exchanged."""
    return torch.where(flips[:, None, None, None], images.flip(3), images)
