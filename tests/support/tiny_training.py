"""Tiny networks and images for tests; also a training that runs as its own process:
python tiny_training.py FOLDER EPOCHS trains into FOLDER/work, which a test kills at some moment."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import settings
import torch
from diffusers import UNet2DModel
from PIL import Image

from pttfaces.config import Params
from pttfaces.diffusion import unet
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.training import data, loop

SIZE = 16
MODEL = settings.group(
    "model", channels=[8, 16], layers_per_block=1, attention=[False, True], dropout=0.1
)
COSINE = NoiseSchedule("cosine", 1000, "v_prediction", False)
TRAIN: dict[str, Any] = {
    "timesteps": COSINE.timesteps,
    "prediction": COSINE.prediction,
    "zero_terminal_snr": COSINE.zero_terminal_snr,
    "epochs": 3,
    "batch_size": 4,
    "gradient_accumulation": 1,
    "learning_rate": 1e-3,
    "lr_schedule": "cosine",
    "warmup_steps": 2,
    "max_grad_norm": 1.0,
    "precision": "fp32",
    "compile": False,
    "min_snr_gamma": 5.0,
    "ema": 0.9,
    "flip": True,
    "select_by": "val_loss",
    "early_stop": None,
    "sample_every": 2,
    "sample_images": 4,
    "checkpoint_every": 2,
    "keep_checkpoints": 1,
    "save_every_minutes": 60,
    "resume": "same",
}


def params(seed: int = 3, no_dropout: bool = False, **changes: Any) -> Params:
    """The parameters of a small training; `changes` are keys of its group `train`."""
    return settings.params(
        seed=seed,
        image_size=SIZE,
        noise_schedule=COSINE.name,
        model=MODEL.model_copy(update={"dropout": 0.0}) if no_dropout else MODEL,
        train=settings.group("train", **{**TRAIN, **changes}),
    )


def build(seed: int = 0) -> UNet2DModel:
    """An untrained network."""
    return unet.build(MODEL, SIZE, seed)


def model(seed: int = 0) -> DiffusionModel:
    """An untrained model."""
    return DiffusionModel(build(seed).eval(), COSINE)


def draw_images(folder: Path, count: int, size: int = SIZE) -> data.ImageSet:
    """Writes `count` simple images (a bright disc on a plain ground) and loads them."""
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
    return data.load_images(folder, size)


def draw_sets(
    folder: Path, count: int = 18, held_out: int = 5
) -> tuple[data.ImageSet, data.ImageSet]:
    """Training images and held-out ones."""
    return draw_images(folder / "train", count), draw_images(folder / "holdout", held_out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    # Saves after every step, so that a kill at any moment leaves a state in mid-epoch.
    patient = params(epochs=int(sys.argv[2]), save_every_minutes=1e-9)
    (root / "work").mkdir(exist_ok=True)
    loop.train(
        patient, *draw_sets(root), root / "work", lambda row, *_: print(row.epoch, flush=True)
    )
