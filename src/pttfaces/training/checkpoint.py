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
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
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

CACHE_VERSION = 3
"""Raise it with every code change after which an unfinished training must not be resumed."""

_STATE, _KEY = "state.pt", "belongs_to.json"
_DAMAGE = (errno.EINVAL, errno.EIO)  # a damaged offset to seek, a bad sector


@dataclass
class TrainingState:
    """step: weight updates done; loss_sum, norm_sum, seconds: sums over the current epoch's updates
    so far; epochs: the finished ones; best_weights: the best epoch's state_dict, or empty;
    environments: those that made these updates, each with the step it began at."""

    step: int = 0
    loss_sum: torch.Tensor | float = 0.0  # on the device, which is asked for it when it is saved
    norm_sum: torch.Tensor | float = 0.0
    seconds: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    environments: list[dict[str, Any]] = field(default_factory=list)

    @property
    def changes(self) -> list[str]:
        """A line for each time that the training went on in another environment."""
        return [
            f"at step {after['step']}: {_differences(before, after)}"
            for before, after in pairwise(self.environments)
        ]

    def finish_epoch(self, row: Epoch) -> None:
        """Adds the epoch's row; the sums start again."""
        self.epochs.append(row)
        self.loss_sum = self.norm_sum = self.seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        sums = {"loss_sum": float(self.loss_sum), "norm_sum": float(self.norm_sum)}
        return {**vars(self), **sums}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
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

    def load(self, environment: Mapping[str, Any], resume: str = "same") -> None:
        """Restores the parts in place; leaves them unchanged if nothing was saved or it is damaged.

        environment: this process's, which the state notes where it is new. resume: with "same", a
        state that another environment worked on is not restored, either; with "any" it is, and what
        it has no state for (fp16's scaler) begins as new.
        Several processes call it together. DataError: they do not all see the same file.
        """
        saved = _read(self._path) if self._path.is_file() else None
        others = saved["state"]["environments"] if saved and resume == "same" else []
        if changes := [text for other in others if (text := _differences(other, environment))]:
            saved = None
            _say(f"starting over: the unfinished training also ran elsewhere ({changes[0]}).")
        if saved:
            for name, part in self._parts.items():
                if name in saved:
                    part.load_state_dict(saved[name])
        elif distributed.state().is_main_process:  # left by a training whose state is not restored
            for name in ("checkpoints", "grids"):
                shutil.rmtree(self._path.with_name(name), ignore_errors=True)
        if distributed.broadcast(self._state.step) != self._state.step:
            raise DataError(
                f"process {distributed.state().process_index} does not see the first one's "
                f"{self._path}; put the project on a disk that all machines share, under the same "
                "path."
            )
        known = self._state.environments
        if not known or _differences(known[-1], environment):
            known.append({"step": self._state.step, **environment})
            if len(known) > 1:
                _say(f"resuming in another environment, {self._state.changes[-1]}.")
        distributed.state().wait_for_everyone()  # all have read what the first will overwrite

    def is_due(self) -> bool:
        """Whether this process is to save, and last did so `every_minutes` ago."""
        waited_s = time.monotonic() - self._saved_at
        return distributed.state().is_main_process and waited_s > self._every_s

    def save(self) -> None:
        """Copies the parts' state, and starts to write the copy.

        Waits for the write before, and raises its error. Only the main process saves.
        """
        if distributed.state().is_main_process:
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
    _say(f"{path} is damaged; starting over.")
    return None


def environment(options: Train) -> dict[str, Any]:
    """What is used for a training: precision, processes, libraries, and what they run on."""
    return {
        "precision": devices.supported_precision(options.precision),
        "processes": distributed.state().num_processes,
        **devices.environment(),
    }


def resume_key(params: Params, train_set: ImageSet, holdout: ImageSet) -> dict[str, Any]:
    """Everything that decides what a training leaves: a state belongs to these values alone.

    With `train.resume: any` the environment is that of the newest unfinished training for which
    everything else is equal, if there is one.
    """
    key = {
        "cache_version": CACHE_VERSION,
        "seed": params.seed,
        "image_size": params.image_size,
        "noise_schedule": params.noise_schedule,
        "model": params.model.model_dump(),
        "train": decisive_options(params.train),
        "training_images": train_set.digest,
        "held_out_images": holdout.digest,
        "environment": environment(params.train),
    }
    if params.train.resume == "any":
        for folder in _unfinished(workdir.root() / ".resume"):
            other = _read_key(folder)
            if {**other, "environment": None} == {**key, "environment": None}:
                return other
    return key


def decisive_options(options: Train) -> dict[str, Any]:
    """The keys of `train` that decide what a training leaves: weights, checkpoints and grids."""
    return options.model_dump(exclude={"resume", "save_every_minutes", "register_model"})


def explain_restart(work: Path, key: Mapping[str, Any]) -> str | None:
    """Why the training in `work` starts over although there is an unfinished one, or None.

    key: its `resume_key`, which is noted in `work` and compared with that of the newest unfinished
    training.
    """
    files.write_json(work / _KEY, key)
    unfinished = _unfinished(work.parent)
    if (work / _STATE).exists() or not unfinished or not (other := _read_key(unfinished[0])):
        return None
    begin = "starting over: the unfinished training"
    if other.get("cache_version") != key["cache_version"]:
        return f"{begin} is of another version of this program, and cannot be resumed."
    changes = _differences(files.flatten(other), files.flatten(key))
    if {**other, "environment": None} == {**key, "environment": None}:
        return (
            f"{begin} ran in another environment ({changes}). Restore it to resume, or set "
            "train.resume to any."
        )
    return f"{begin} used another configuration ({changes}). Restore it to resume."


def _unfinished(folder: Path) -> list[Path]:
    """The work folders of trainings that have a state and are not finished, newest first."""
    states = [
        path
        for path in folder.glob(f"train-*/{_STATE}")
        if not path.with_name(workdir.DONE).exists()
    ]
    return [path.parent for path in sorted(states, key=lambda path: -path.stat().st_mtime)]


def _read_key(folder: Path) -> dict[str, Any]:
    """The `resume_key` noted in a work folder; {} where it is damaged or missing."""
    with suppress(DataError):
        found = files.read_json(folder / _KEY)
        return found if isinstance(found, dict) else {}
    return {}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What differs between two mappings, but for the step of an environment; "" for equal ones."""

    def short(value: Any) -> str:
        return value[:8] if isinstance(value, str) and len(value) == 64 else str(value)

    return "; ".join(
        f"{name.removeprefix('environment.')} {short(before.get(name))}, now "
        f"{short(after.get(name))}"
        for name in {**before, **after}
        if name != "step" and before.get(name) != after.get(name)
    )


def _say(sentence: str) -> None:
    if distributed.state().is_main_process:
        print(f"train: {sentence}", file=sys.stderr)
