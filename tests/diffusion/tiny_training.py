"""Tiny networks and pictures for this room's tests; also a training that runs as its own process:
python tiny_training.py FOLDER trains into FOLDER/work, which a test kills at some moment."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pttfaces.diffusion.schedule import NoiseProcess
from pttfaces.diffusion.unet import Architecture
from pttfaces.training import data, loop

ARCHITECTURE = Architecture(16, (8, 16), 1, (False, True), 0.1)
COSINE = NoiseProcess("cosine", 1000, "v_prediction", False)
RECIPE = loop.Recipe(
    seed=3,
    epochs=3,
    batch_size=4,
    gradient_accumulation=1,
    learning_rate=1e-3,
    lr_schedule="cosine",
    warmup_steps=2,
    max_grad_norm=1.0,
    precision="fp32",
    compile=False,
    min_snr_gamma=5.0,
    ema=0.9,
    flip=True,
    select_by="val_loss",
    early_stop=None,
    sample_every=2,
    sample_images=4,
    checkpoint_every=2,
    keep_checkpoints=1,
    save_every_minutes=60,
)


def draw_pictures(folder: Path, count: int, size: int = 16) -> data.Pictures:
    """Writes `count` simple pictures (a bright disc on a plain ground) and loads them."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:size, :size]
    for index in range(count):
        rng = np.random.default_rng(index)
        ground, disc = rng.integers(0, 120, 3), rng.integers(130, 256, 3)
        cx, cy, radius = *rng.uniform(0.3 * size, 0.7 * size, 2), 0.25 * size
        inside = ((x - cx) ** 2 + (y - cy) ** 2 < radius**2)[..., None]
        Image.fromarray(np.where(inside, disc, ground).astype(np.uint8)).save(
            folder / f"{index:03d}.png"
        )
    return data.load(folder, size)


def task(
    folder: Path, count: int = 18, held_out: int = 5, no_dropout: bool = False, **changes: object
) -> loop.Task:
    """A small training; `changes` are fields of its recipe."""
    return loop.Task(
        replace(ARCHITECTURE, dropout=0.0) if no_dropout else ARCHITECTURE,
        COSINE,
        replace(RECIPE, **changes),
        draw_pictures(folder / "train", count),
        draw_pictures(folder / "holdout", held_out),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    # Saves after every step, so that a kill at any moment leaves a state in mid-epoch.
    patient = task(root, epochs=int(sys.argv[2]), save_every_minutes=1e-9)
    (root / "work").mkdir(exist_ok=True)
    loop.train(patient, root / "work", lambda report: print(report.epoch, flush=True))
