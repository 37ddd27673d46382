"""Samples many images from a model into a folder of PNG files; resumes after a kill."""

import struct
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pttfaces import images, workdir
from pttfaces.config import Generate
from pttfaces.diffusion import devices, distributed, memory, model_folder, threads
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.progress import progress
from pttfaces.sampling import samplers

CACHE_VERSION = 3
"""Raise it with every code change after which finished images must not be kept."""

_WRITERS = 4


@dataclass(frozen=True)
class Generated:
    """paths: the images in order; images_per_s: of those that this run's processes sampled
    together, 0 if none."""

    paths: list[Path]
    images_per_s: float


def resume_key(options: Generate, steps: int, seed: int, model_digest: str) -> dict[str, Any]:
    """Everything that decides the images: finished ones belong to these values alone."""
    return {
        "cache_version": CACHE_VERSION,
        "model": model_digest,
        "generate": options.model_dump(),
        "infer_steps": steps,
        "seed": seed,
        "precision_used": devices.supported_precision(options.precision),
        **devices.environment(),
    }


def generate(
    model: DiffusionModel, options: Generate, steps: int, seed: int, folder: Path
) -> Generated:
    """Samples `num_images` of a seed into `folder`/000000.png …; keeps those that are there.

    A batch of which an image is missing is sampled as a whole, so that the rest of a killed run
    uses the same batches as an uninterrupted run, and gives the same images bit for bit. Several
    processes each sample every n-th missing batch. Returns when all images of all processes are
    there. ParamsError: memory runs out.
    """
    count, size = options.num_images, options.batch_size
    paths = [folder / f"{index:06d}.png" for index in range(count)]
    batches = [range(start, min(start + size, count)) for start in range(0, count, size)]
    missing = [batch for batch in batches if not all(_is_whole(paths[index]) for index in batch)]
    # All have looked before one writes: all share the same list.
    distributed.state().wait_for_everyone()
    own, sampled = distributed.share(missing), sum(len(batch) for batch in missing)
    initial = count - sum(len(batch) for batch in own)
    total = count if distributed.state().is_main_process else 0  # one bar for all
    started = time.monotonic()
    memory.keep_freed_memory()
    with (
        progress("generate", total, " images", initial) as bar,
        memory.explain_shortage(f"generate.batch_size {size}", "halve generate.batch_size"),
        threads.yield_to_others(),
        ThreadPoolExecutor(_WRITERS, "png") as writers,
    ):
        written: Iterator[None] = iter(())
        for batch in own:
            samples = samplers.sample(model, options, steps, seed, batch)
            list(written)  # waits for the batch before, and raises its error
            written = writers.map(_save, [paths[index] for index in batch], samples)
            bar.update(len(batch))
        list(written)
    distributed.state().wait_for_everyone()
    return Generated(paths, sampled / (time.monotonic() - started))


def generate_seeds(
    model_path: Path, options: Generate, steps: int, seeds: Iterable[int]
) -> Iterator[tuple[Path, str]]:
    """Samples the images of several seeds, for evaluate's repeats.

    Yields a folder of images, which lasts until the next one is asked for, and what to do if it is
    empty. Finished images survive a kill, as in `generate`.
    """
    precision = devices.prepare_precision(options.precision, "evaluate")
    model = model_folder.load_model(model_path, distributed.state().device, precision)
    digest = model_folder.digest(model_path)
    for seed in seeds:
        with workdir.resuming("evaluate", resume_key(options, steps, seed, digest)) as work:
            generate(model, options, steps, seed, work)
            yield work, "run the same command again"


def _is_whole(path: Path) -> bool:
    """Whether an image has all its bytes; each of a PNG's chunks has a checksum."""
    try:
        with Image.open(path) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, struct.error):
        return False
    return True


def _save(path: Path, pixels: np.ndarray) -> None:
    images.save_png(path, Image.fromarray(pixels))
