"""Many samples from a model folder into a folder of PNG files that survives a kill.

Knows nothing of scores or of the folder's later use.
"""

import struct
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pttfaces import files, workdir
from pttfaces import images as pictures
from pttfaces.config import Params
from pttfaces.diffusion import distributed, memory
from pttfaces.diffusion.model_folder import Model, load
from pttfaces.progress import progress
from pttfaces.sampling import samplers
from pttfaces.sampling.samplers import Sampler
from pttfaces.training import checkpoint

_WRITERS = 4


@dataclass(frozen=True)
class Order:
    """Pictures 0 … count−1 of a seed, sampled `batch_size` at once."""

    sampler: Sampler
    seed: int
    count: int
    batch_size: int


@dataclass(frozen=True)
class Generated:
    """paths: the pictures in order; images_per_s: of those that this run's
    processes sampled together, 0 if none."""

    paths: list[Path]
    images_per_s: float


def order_of(params: Params) -> Order:
    """What params.yaml asks for."""
    options = params.generate
    sampler = Sampler(options.sampler, params.infer_steps, options.timestep_spacing)
    return Order(sampler, params.seed, options.num_images, options.batch_size)


def determinants(order: Order, model_digest: str) -> dict[str, Any]:
    """Everything that decides the pictures: finished ones belong to these values alone."""
    return {"model": model_digest, **asdict(order), **checkpoint.surroundings()}


def generate(model: Model, order: Order, folder: Path) -> Generated:
    """Samples an order's pictures into `folder`/000000.png …; keeps those that are there already.

    A batch of which a picture is missing is sampled whole, so that a killed run's second half is
    made of the same batches, and bit for bit the same, as an undisturbed run's. Several processes
    each sample every n-th missing batch. Returns when all pictures of all processes are there.
    ParamsError: memory does not suffice for a batch.
    """
    paths = [folder / f"{index:06d}.png" for index in range(order.count)]
    starts = range(0, order.count, order.batch_size)
    batches = [range(start, min(start + order.batch_size, order.count)) for start in starts]
    missing = [batch for batch in batches if not all(_is_whole(paths[index]) for index in batch)]
    distributed.wait()  # all have looked before one writes, so that all share the same list
    mine, sampled = distributed.share(missing), sum(len(batch) for batch in missing)
    others = sum(len(batch) for batch in batches) - sum(len(batch) for batch in mine)
    started = time.monotonic()
    memory.keep_freed()
    batch_size = f"generate.batch_size {order.batch_size}"
    enough = memory.enough_for(batch_size, "halve generate.batch_size")
    with (
        progress("generate", order.count, " pictures", others) as bar,
        enough,
        _writing() as writer,
    ):
        for batch in mine:
            images = samplers.sample(model.network, model.process, order.sampler, order.seed, batch)
            writer.write([paths[index] for index in batch], images)
            bar.update(len(batch))
    distributed.wait()
    return Generated(paths, sampled / (time.monotonic() - started))


def other_seeds(model: Path, order: Order, count: int) -> Iterator[tuple[Path, str]]:
    """Samples an order for the seeds after its own, up to `count` seeds in all.

    Yields a folder of pictures, which lasts until the next one is asked for, and what to do should
    there be none. What is finished survives a kill, as in `generate`.
    """
    loaded, digest = load(model, distributed.device()), files.digest_tree(model)
    for seed in range(order.seed + 1, order.seed + count):
        other = replace(order, seed=seed)
        with workdir.resuming("evaluate", determinants(other, digest)) as work:
            generate(loaded, other, work)
            yield work, "run the same command again"


def _is_whole(path: Path) -> bool:
    """Whether a picture lies there with all its bytes; each of a PNG's chunks has a checksum."""
    try:
        with Image.open(path) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, struct.error):
        return False
    return True


class _Writer:
    """Writes a batch while the next one is sampled; holds no more than one batch."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._pending: list[Future[None]] = []

    def write(self, paths: list[Path], images: np.ndarray) -> None:
        """images: (B, H, W, 3) uint8. Waits for the batch before, and raises what befell it."""
        self.finish()
        pairs = zip(paths, images, strict=True)
        self._pending = [self._pool.submit(_save, path, pixels) for path, pixels in pairs]

    def finish(self) -> None:
        for future in self._pending:
            future.result()


@contextmanager
def _writing() -> Iterator[_Writer]:
    with ThreadPoolExecutor(_WRITERS, "png") as pool:
        writer = _Writer(pool)
        yield writer
        writer.finish()


def _save(path: Path, pixels: np.ndarray) -> None:
    pictures.save_png(path, Image.fromarray(pixels))
