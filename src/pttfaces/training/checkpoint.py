"""Saves and restores the state of an unfinished training, and explains why one starts over.

A state file is written atomically, so a kill at any moment leaves the one before it.
"""

import errno
import pickle
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from pttfaces import files, workdir
from pttfaces.archive import NO_ZIP
from pttfaces.diffusion import distributed, memory
from pttfaces.errors import DataError
from pttfaces.tables import Epoch

_STATE, _KEY = "state.pt", "belongs_to.json"
_DAMAGE = (errno.EINVAL, errno.EIO)  # a damaged offset to seek, a bad sector


@dataclass
class TrainingState:
    """How far a training is. step: weight updates done; loss_sum, norm_sum: of the current epoch's
    steps so far; epochs: the finished ones; best_weights: a state_dict, or empty."""

    step: int = 0
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)


class Checkpoint:
    """The state file in a training's work folder; writes in a thread while the training continues.

    parts: objects with `state_dict()` and `load_state_dict()`. Used as a context manager: when the
    block ends, with or without an error, the last state that was saved is on disk.
    """

    def __init__(self, work: Path, parts: Mapping[str, Any]) -> None:
        self._path, self._parts = work / _STATE, parts
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        if kind is None:
            self._finish()

    def restore(self) -> TrainingState:
        """Loads each part in place and returns the state; a new one where nothing was saved, or
        where what was saved is damaged.

        Several processes call it together. DataError: they do not all see the same file.
        """
        state = TrainingState()
        saved = _read(self._path) if self._path.is_file() else None
        if saved:
            for name, part in self._parts.items():
                part.load_state_dict(saved["parts"][name])
            state = TrainingState(**saved["state"])
            state.epochs = [Epoch(**row) for row in saved["epochs"]]
        if distributed.broadcast(state.step) != state.step:
            raise DataError(
                f"process {distributed.process_index()} does not see the first one's {self._path}; "
                "put the project on a disk that all machines share, under the same path."
            )
        distributed.wait_for_everyone()  # until all have read what the first one will overwrite
        return state

    def save(self, state: TrainingState) -> None:
        """Copies the state and each part's `state_dict()`, and starts to write the copy.

        The best weights are not copied: nothing changes them. Waits for the write before, and
        raises its error.
        """
        self._finish()
        saved = {
            "state": {key: value for key, value in vars(state).items() if key != "epochs"},
            "epochs": [asdict(row) for row in state.epochs],
            "parts": cpu_copy({name: part.state_dict() for name, part in self._parts.items()}),
        }
        self._pending = self._pool.submit(_write, self._path, saved)

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
        with memory.explain_shortage("the training's saved state", "end other programs, try again"):
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


def explain_restart(work: Path, key: Mapping[str, Any]) -> str | None:
    """Why the training in `work` starts over although there is an unfinished one, or None.

    Notes in `work` what its state will belong to. Compares it with the newest unfinished training.
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
        return "starting over: the unfinished training is version 0.1's."
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
