"""Saves and restores the state of an unfinished training, and explains why one starts over.

A state file is written atomically, so a kill at any moment leaves the one before it.
"""

import errno
import pickle
import shutil
import sys
import time
import zipfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from pttfaces import files, workdir
from pttfaces.archive import NO_ZIP
from pttfaces.config import Params, Train
from pttfaces.diffusion import devices, distributed, memory
from pttfaces.errors import DataError
from pttfaces.tables import Epoch
from pttfaces.training.data import ImageSet

CACHE_VERSION = 2
"""Raise it with every code change after which an unfinished training must not be resumed."""

_STATE, _KEY = "state.pt", "belongs_to.json"
_DAMAGE = (errno.EINVAL, errno.EIO)  # a damaged offset to seek, a bad sector


@dataclass
class TrainingState:
    """The progress of a training run.

    step: weight updates done; loss_sum, norm_sum, seconds: sums over the current epoch's updates so
    far; epochs: the finished ones; best_weights: the best epoch's state_dict, or empty.
    """

    step: int = 0
    loss_sum: torch.Tensor | float = 0.0  # on the device, which is asked for it when it is saved
    norm_sum: torch.Tensor | float = 0.0
    seconds: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def finish_epoch(self, row: Epoch) -> None:
        """Adds the epoch's row; its sums start again."""
        self.epochs.append(row)
        self.loss_sum = self.norm_sum = self.seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The fields, with sums as numbers."""
        sums = {"loss_sum": float(self.loss_sum), "norm_sum": float(self.norm_sum)}
        return {**vars(self), **sums}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restores the fields."""
        vars(self).update(saved)


class Checkpoint:
    """The state file in a training's work folder: the state, and the `state_dict()` of each part.

    The main process writes it, in a thread while the training continues. every_minutes: after how
    long within an epoch; the loop also saves at the end of each. A part has `state_dict()` and
    `load_state_dict()`, or is None. Used as a context manager: when the block ends, with or without
    an error, the last state that was saved is on disk.
    """

    def __init__(
        self, work: Path, every_minutes: float, state: TrainingState, **parts: Any
    ) -> None:
        self._path, self._every_s, self._state = work / _STATE, 60 * every_minutes, state
        given = {name: part for name, part in parts.items() if part is not None}
        self._parts = {"state": state, **given}
        self._saved_at = time.monotonic()
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        if kind is None:
            self._finish()

    def load(self) -> None:
        """Restores the parts in place; leaves them unchanged if nothing was saved or it is damaged.

        Several processes call it together. DataError: they do not all see the same file.
        """
        saved = _read(self._path) if self._path.is_file() else None
        if saved:
            for name, part in self._parts.items():
                part.load_state_dict(saved[name])
        elif distributed.is_main_process():  # left by a training whose state was damaged
            for name in ("checkpoints", "grids"):
                shutil.rmtree(self._path.with_name(name), ignore_errors=True)
        if distributed.broadcast(self._state.step) != self._state.step:
            raise DataError(
                f"process {distributed.process_index()} does not see the first one's {self._path}; "
                "put the project on a disk that all machines share, under the same path."
            )
        distributed.wait_for_everyone()  # until all have read what the first one will overwrite

    def is_due(self) -> bool:
        """Whether this process is to save, and last did so `every_minutes` ago."""
        waited_s = time.monotonic() - self._saved_at
        return distributed.is_main_process() and waited_s > self._every_s

    def save(self) -> None:
        """Copies the parts' state, and starts to write the copy.

        Waits for the write before, and raises its error. Only the main process saves.
        """
        if distributed.is_main_process():
            self._finish()
            saved = cpu_copy({name: part.state_dict() for name, part in self._parts.items()})
            self._pending = self._pool.submit(_write, self._path, saved)
            self._saved_at = time.monotonic()

    def _finish(self) -> None:
        if self._pending:
            self._pending.result()


def cpu_copy(value: Any) -> Any:
    """A deep copy of dictionaries, lists and tensors, on the CPU; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: cpu_copy(item) for key, item in value.items()}
    return [cpu_copy(item) for item in value] if isinstance(value, list) else value


def _write(path: Path, saved: dict[str, Any]) -> None:
    with files.disk_errors(), files.atomic(path) as handle:
        torch.save(saved, handle)


def _read(path: Path) -> dict[str, Any] | None:
    """The content of a state file; None where it is damaged: each part of a zip has a checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            intact = archive.testzip() is None
        with (
            memory.explain_shortage("the saved training state", "close other programs and retry"),
            torch.serialization.safe_globals([Epoch]),
        ):
            if intact:
                return torch.load(path, map_location="cpu", weights_only=True)
    except (*NO_ZIP, pickle.UnpicklingError):
        pass
    except OSError as error:
        if error.errno not in _DAMAGE:  # another error of the system may pass: the file may be good
            raise
    if distributed.is_main_process():
        print(f"{path} is damaged; starting over.", file=sys.stderr)
    return None


def resume_key(params: Params, train_set: ImageSet, holdout: ImageSet) -> dict[str, Any]:
    """Everything that decides what a training leaves: a state belongs to these values alone."""
    return {
        "cache_version": CACHE_VERSION,
        "seed": params.seed,
        "image_size": params.image_size,
        "noise_schedule": params.noise_schedule,
        "model": params.model.model_dump(),
        "train": decisive_options(params.train),
        "training_images": train_set.digest,
        "held_out_images": holdout.digest,
        "processes": distributed.num_processes(),
        "precision_used": devices.supported_precision(params.train.precision),
        **devices.environment(),
    }


def decisive_options(options: Train) -> dict[str, Any]:
    """The keys of `train` that decide what a training leaves: weights, checkpoints and grids."""
    return options.model_dump(exclude={"save_every_minutes", "register_model"})


def explain_restart(work: Path, key: Mapping[str, Any]) -> str | None:
    """Why the training in `work` starts over although there is an unfinished one, or None.

    key: its `resume_key`, which is noted in `work` and compared with that of the newest unfinished
    training.
    """
    files.write_json(work / _KEY, files.flatten(key))
    unfinished = [
        path
        for path in work.parent.glob(f"train-*/{_STATE}")
        if not path.with_name(workdir.DONE).exists()
    ]
    unfinished.sort(key=lambda path: path.stat().st_mtime)
    if (work / _STATE).exists() or not unfinished:
        return None
    try:
        own, other = (files.read_json(folder / _KEY) for folder in (work, unfinished[-1].parent))
    except DataError:  # damaged, or a version that wrote none
        return None
    if "cache_version" not in other:
        return "starting over: the unfinished training is of version 0.1, and cannot be resumed."
    changed = [
        f"{name} {_short(other.get(name))}, now {_short(own.get(name))}"
        for name in {**other, **own}
        if other.get(name) != own.get(name)
    ]
    return (
        "starting over: the unfinished training used another configuration "
        f"({'; '.join(changed)}). Restore it to resume."
    )


def _short(value: Any) -> str:
    """A value for a message: of a digest, its first digits."""
    return value[:8] if isinstance(value, str) and len(value) == 64 else str(value)
