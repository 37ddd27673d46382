"""Loads training images from a folder of PNG files and cuts them into batches."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pttfaces import workdir
from pttfaces.images import read_rgb

MAX_IN_MEMORY = 2**30
"""Bytes of pixels that are held in memory; more are mapped from a file, which the system keeps in
memory as far as it can. 87,000 images of 64×64."""
_CHUNK = 256


@dataclass(frozen=True)
class ImageSet:
    """pixels: (N, 3, H, W) uint8, by file name; digest: SHA-256 over names and pixels.

    The digest is of the decoded pixels: it is the same wherever PNG encoders differ.
    """

    pixels: torch.Tensor
    digest: str

    def __len__(self) -> int:
        return len(self.pixels)


def load_images(folder: Path, size: int) -> ImageSet:
    """Decodes every PNG of `folder`, which may be empty or missing; all are size × size, RGB.

    DataError: a file that is not an image, or an image of another size.
    """
    paths = sorted(folder.glob("*.png"))
    remedy = "curate the images again, or set image_size to their size"
    pixels, digest = _allocate((len(paths), 3, size, size)), hashlib.sha256()
    for start in range(0, len(paths), _CHUNK):
        chunk = paths[start : start + _CHUNK]
        images = read_rgb(chunk, (size, size), remedy)  # (B, H, W, 3)
        for image, path in zip(images, chunk, strict=True):
            digest.update(f"{path.name}\0{image.shape}\0".encode())
            digest.update(image.tobytes())
        pixels[start : start + len(chunk)] = images.transpose(0, 3, 1, 2)
    return ImageSet(torch.from_numpy(pixels), digest.hexdigest())


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
    """An array of bytes: in memory, or mapped from a file that vanishes with the process."""
    if np.prod(shape) <= MAX_IN_MEMORY:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(dir=workdir.cache_dir("pixels")) as file:  # the map keeps it open
        return np.memmap(file, np.uint8, "w+", shape=shape)


def batch(
    pixels: torch.Tensor,
    rows: torch.Tensor,
    device: torch.device | str,
    flips: torch.Tensor | None = None,
) -> torch.Tensor:
    """The images at `rows` (B,) as (B, 3, H, W) float32 in [-1, 1], on `device`.

    flips: (B,) bool, on `device`: which images are mirrored.
    """
    images = pixels[rows]
    if torch.device(device).type == "cuda":
        images = images.pin_memory()  # from other memory the copy would wait for the device
    images = images.to(device, non_blocking=True)
    if flips is not None:
        images = torch.where(flips[:, None, None, None], images.flip(3), images)
    return images.to(torch.float32).div_(127.5).sub_(1)
