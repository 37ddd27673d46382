"""Writes what a training leaves: models with their cards, checkpoints, sample grids, metrics."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pttfaces import images, provenance
from pttfaces.config import Generate, Params
from pttfaces.diffusion import distributed, model_folder
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.provenance import Provenance
from pttfaces.sampling import samplers
from pttfaces.tables import Epoch
from pttfaces.training.checkpoint import TrainingState, decisive_options
from pttfaces.training.data import ImageSet

_GRID_STEPS = 20


@dataclass(frozen=True)
class Outputs:
    """What the main process writes below `folder`; model: the one that is validated and kept;
    state: of the training; provenance: of the process that finishes it."""

    folder: Path
    params: Params
    train_set: ImageSet
    model: DiffusionModel
    state: TrainingState
    provenance: Provenance = field(default_factory=provenance.collect)

    def save_grid(self, epoch: int) -> Path:
        """grids/epoch-0010.png: samples from the same noise every time, to show progress."""
        count = self.params.train.sample_images
        options = Generate(
            num_images=count,
            batch_size=count,
            sampler="dpmsolver++",
            timestep_spacing="trailing",
            precision="fp32",
        )
        steps = min(_GRID_STEPS, self.params.train.timesteps)
        samples = samplers.sample(self.model, options, steps, self.params.seed, range(count))
        path = self.folder / "grids" / f"epoch-{epoch:04d}.png"
        images.save_png(path, images.grid(samples, scale=2 if samples.shape[1] <= 128 else 1))
        return path

    def save_checkpoint(self, row: Epoch) -> None:
        """checkpoints/epoch-0010/, a model folder; only the newest `keep_checkpoints` are kept."""
        folder = self.folder / "checkpoints"
        folder.mkdir(exist_ok=True)
        if keep := self.params.train.keep_checkpoints:
            self.save_model(f"checkpoints/epoch-{row.epoch:04d}", row)
            for old in sorted(folder.glob("epoch-*"))[:-keep]:
                shutil.rmtree(old)

    def save_model(self, name: str, row: Epoch) -> None:
        """A model folder, with what the model was trained on in its card; row: its epoch's."""
        facts = {
            "training images": len(self.train_set),
            "digest of the training images": self.train_set.digest,
            "network": _join_items(self.params.model.model_dump()),
            "noise schedule": self.params.noise_schedule,
            "training": _join_items(decisive_options(self.params.train)),
            "seed": self.params.seed,
            "weights": self.model.unet.num_parameters(),
            "epoch": row.epoch,
            "training loss": f"{row.train_loss:.6f}",
        }
        if row.val_loss is not None:
            facts["validation loss"] = f"{row.val_loss:.6f}"
        facts |= self.provenance.facts
        if self.state.changes:
            facts["resumed in another environment"] = ", and ".join(self.state.changes)
        model_folder.save_model(self.folder / name, self.model, facts)

    def metrics(
        self, epochs: list[Epoch], best: Epoch, holdout: ImageSet, precision: str
    ) -> dict[str, Any]:
        """What is worth comparing between training runs."""
        last, speeds = epochs[-1], [row.images_per_s for row in epochs]
        return {
            "epochs": last.epoch,
            "best_epoch": best.epoch,
            "train_loss": best.train_loss,
            "val_loss": best.val_loss,
            "last_train_loss": last.train_loss,
            "last_val_loss": last.val_loss,
            "images_per_s": round(len(speeds) / sum(1 / speed for speed in speeds), 2),
            "pictures": len(self.train_set),
            "held_out": len(holdout),
            "parameters": self.model.unet.num_parameters(),
            "device": distributed.state().device.type,
            "processes": distributed.state().num_processes,
            "precision": precision,
            "select_by": self.params.train.select_by,
            "data_digest": self.train_set.digest,
        }


def _join_items(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
