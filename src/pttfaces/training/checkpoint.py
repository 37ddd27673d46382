"""State of half-done work: what decides a result, and saving and restoring a training.

A training's folder also says what its state belongs to, so that the next one, if it is another's,
can say why it begins anew. A state file appears whole or not at all, so a kill at any moment leaves
the one before it.
"""

import errno
import pickle
import platform
import sys
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch

from pttfaces import files, workdir
from pttfaces.archive import NO_ZIP
from pttfaces.diffusion import distributed, memory
from pttfaces.errors import DataError

_BELONGS = "belongs_to.json"
_DAMAGE = (errno.EINVAL, errno.EIO)  # a damaged place to seek, a bad sector


def surroundings() -> dict[str, Any]:
    """What decides a result besides data and settings: this room's code, libraries and machine.

    The number of threads is among it: another one sums in another order and changes last bits.
    """
    return {
        "code": files.code_digest(Path(__file__).parent),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "device": distributed.device().type,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


@dataclass
class Progress:
    """How far a training is. step: weight updates done; loss_sum, norm_sum: of the epoch's steps so
    far; reports: one dictionary for each finished epoch; best_weights: a state_dict, or empty."""

    step: int = 0
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    reports: list[dict[str, Any]] = field(default_factory=list)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)


class Saver:
    """Writes a training's state while the training goes on; holds one at a time."""

    def __init__(self, pool: ThreadPoolExecutor, path: Path, parts: Mapping[str, Any]) -> None:
        self._pool, self._path, self._parts = pool, path, parts
        self._pending: Future[None] | None = None

    def save(self, progress: Progress) -> None:
        """Takes a copy of the progress and of each part's `state_dict()`, and begins to write it.

        The best weights are taken as they are: nobody moves them. Waits for the state before, and
        raises what befell it.
        """
        self.finish()
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        known = {**vars(progress), "reports": copied(progress.reports)}
        whole = {"progress": known, "parts": copied(parts)}
        self._pending = self._pool.submit(_write, self._path, whole)

    def finish(self) -> None:
        """Waits until the last state is on disk; raises what befell it."""
        if self._pending:
            self._pending.result()


@contextmanager
def saving(path: Path, parts: Mapping[str, Any]) -> Iterator[Saver]:
    """A `Saver` to `path`; however the block ends, what was handed to it is on disk then."""
    with ThreadPoolExecutor(1, "state") as pool:
        saver = Saver(pool, path, parts)
        yield saver
        saver.finish()


def restore(path: Path, parts: Mapping[str, Any]) -> Progress:
    """Loads each part in place and returns the progress; a new one where nothing was saved, or
    where what was saved is damaged.

    Several processes call it together. DataError: they do not all see the same file.
    """
    progress = Progress()
    whole = _read(path) if path.is_file() else None
    if whole:
        for name, part in parts.items():
            part.load_state_dict(whole["parts"][name])
        progress = Progress(**whole["progress"])
    if distributed.from_first(progress.step) != progress.step:
        raise DataError(
            f"process {distributed.index()} does not see the first one's {path}; put the project on "
            "a disk that all machines share, under the same path."
        )
    distributed.wait()  # until all have read what the first one will soon write anew
    return progress


def copied(value: Any) -> Any:
    """Dictionaries, lists and tensors anew, tensors in the host's memory; all else as it is."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(one) for key, one in value.items()}
    return [copied(one) for one in value] if isinstance(value, list) else value


def _write(path: Path, whole: dict[str, Any]) -> None:
    with files.disk_errors(), files.atomic(path) as handle:
        torch.save(whole, handle)


def _read(path: Path) -> dict[str, Any] | None:
    """What a state file holds; None where it is damaged: each of the zip's parts has a checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None
        with memory.enough_for("the training's saved state", "end other programs and try again"):
            if whole:
                return torch.load(path, map_location="cpu", weights_only=True)
    except (*NO_ZIP, pickle.UnpicklingError):
        pass
    except OSError as error:
        if error.errno not in _DAMAGE:  # what ails the system passes, and the file may be whole
            raise
    if distributed.is_first():
        print(f"{path} is damaged; the work begins anew.", file=sys.stderr)
    return None


def why_anew(work: Path, determinants: Mapping[str, Any]) -> str | None:
    """Why the training in `work` begins anew though there is a half-done one beside it, or None.

    Leaves in `work` what its state will belong to. Beside it: the newest folder with a state.
    """
    files.write_json(work / _BELONGS, files.flatten(determinants))
    states = [
        path
        for path in work.parent.glob("train-*/state.pt")
        if not path.with_name(workdir.DONE).exists()
    ]
    states.sort(key=lambda path: path.stat().st_mtime)
    if (work / "state.pt").exists() or not states:
        return None
    try:
        own, other = (files.read_json(folder / _BELONGS) for folder in (work, states[-1].parent))
    except DataError:  # half-written or of a version that left none
        return None
    changed = [
        f"{key} was {_short(other.get(key))} and is {_short(own.get(key))}"
        for key in {**other, **own}
        if other.get(key) != own.get(key)
    ]
    return (
        f"training begins anew: {states[-1].parent.name}, half-done, belongs to another "
        f"configuration ({'; '.join(changed)}). It is gone on with where that comes back."
    )


def _short(value: Any) -> str:
    """A value for a person: of a digest, its beginning."""
    return value[:8] if isinstance(value, str) and len(value) == 64 else str(value)
