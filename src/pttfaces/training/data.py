"""Training pictures: a folder of PNG files, decoded once, cut into batches.

Knows nothing of where the pictures came from or what is learnt from them.
"""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pttfaces import workdir
from pttfaces.images import read_rgb

IN_MEMORY = 2**30
"""Bytes of pixels that are held in memory; more are mapped from a file, which the system keeps in
memory as far as there is room. 87,000 pictures of 64×64."""
_AT_ONCE = 256


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
    pixels, digest = _room_for((len(paths), 3, size, size)), hashlib.sha256()
    for first in range(0, len(paths), _AT_ONCE):
        some = paths[first : first + _AT_ONCE]
        rows = read_rgb(some, (size, size), remedy)  # (B, H, W, 3)
        for row, path in zip(rows, some, strict=True):
            digest.update(f"{path.name}\0{row.shape}\0".encode())
            digest.update(row.tobytes())
        pixels[first : first + len(some)] = rows.transpose(0, 3, 1, 2)
    return Pictures(torch.from_numpy(pixels), digest.hexdigest())


def _room_for(shape: tuple[int, ...]) -> np.ndarray:
    """An array of bytes: in memory, or mapped from a file that vanishes with the process."""
    if np.prod(shape) <= IN_MEMORY:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(dir=workdir.cache_dir("pixels")) as file:  # the map keeps it open
        return np.memmap(file, np.uint8, "w+", shape=shape)


def batch(
    pixels: torch.Tensor,
    rows: torch.Tensor,
    device: torch.device | str,
    flips: torch.Tensor | None = None,
) -> torch.Tensor:
    """The pictures at `rows` (B,) as (B, 3, H, W) float32 in [-1, 1], on `device`; those where
    flips (B,), there, is true have left and right exchanged."""
    chosen = pixels[rows]
    if torch.device(device).type == "cuda":
        chosen = chosen.pin_memory()  # from other memory the copy would wait for the device
    chosen = chosen.to(device, non_blocking=True)
    if flips is not None:
        chosen = torch.where(flips[:, None, None, None], chosen.flip(3), chosen)
    return chosen.to(torch.float32).div_(127.5).sub_(1)
