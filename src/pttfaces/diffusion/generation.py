"""Many samples from a model folder into a folder of PNG files that survives a kill.

Knows nothing of scores or of the folder's later use.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from PIL import Image

from pttfaces import pictures
from pttfaces.diffusion import memory, resume, sampling
from pttfaces.diffusion.models import Model
from pttfaces.diffusion.sampling import Sampler
from pttfaces.progress import progress


@dataclass(frozen=True)
class Order:
    """Pictures 0 … count−1 of a seed, sampled `batch_size` at once."""

    sampler: Sampler
    seed: int
    count: int
    batch_size: int


@dataclass(frozen=True)
class Generated:
    """paths: the pictures in order; images_per_s: of those that this run sampled, 0 if none."""

    paths: list[Path]
    images_per_s: float


def device() -> torch.device:
    """The device that accelerate picks: the machine's accelerator, else the CPU."""
    return PartialState().device


def determinants(order: Order, model_digest: str) -> dict[str, Any]:
    """Everything that decides the pictures: finished ones belong to these values alone."""
    return {"model": model_digest, **asdict(order), **resume.surroundings()}


def generate(model: Model, order: Order, folder: Path) -> Generated:
    """Samples an order's pictures into `folder`/000000.png …; keeps those that are there already.

    A batch of which a picture is missing is sampled whole, so that a killed run's second half is
    made of the same batches, and bit for bit the same, as an undisturbed run's.
    ParamsError: memory does not suffice for a batch.
    """
    paths = [folder / f"{index:06d}.png" for index in range(order.count)]
    starts = range(0, order.count, order.batch_size)
    batches = [range(start, min(start + order.batch_size, order.count)) for start in starts]
    missing = [batch for batch in batches if not all(paths[index].is_file() for index in batch)]
    sampled = sum(len(batch) for batch in missing)
    started = time.monotonic()
    batch_size = f"generate.batch_size {order.batch_size}"
    enough = memory.enough_for(batch_size, "halve generate.batch_size")
    with progress("generate", order.count, " pictures", order.count - sampled) as bar, enough:
        for batch in missing:
            images = sampling.sample(model.network, model.process, order.sampler, order.seed, batch)
            for index, pixels in zip(batch, images, strict=True):
                pictures.save_png(paths[index], Image.fromarray(pixels))
            bar.update(len(batch))
    return Generated(paths, sampled / (time.monotonic() - started))
