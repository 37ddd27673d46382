"""Manages the folders `.cache/`, for lasting results, and `.resume/`, for half-done work."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pttfaces.errors import DataError
from pttfaces.files import digest_json, read_json, write_json
from pttfaces.repository import lock_entries

DONE = "done.json"  # in a folder of `resuming`: finished, but not yet recorded by DVC


def root() -> Path:
    """The main repository's folder, which keeps state that outlives a stage.

    DVC sets DVC_ROOT to it even where a queued experiment runs in a temporary clone; a stage that
    is run by hand runs in the repository itself.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())


def find_file(path: str | Path) -> Path:
    """The file that a parameter names: in the working folder, else below `root`.

    A queued experiment's working folder is a clone without the files that git ignores.
    """
    path, in_root = Path(path), root() / path
    return in_root if in_root.exists() and not path.exists() else path


def cache_dir(name: str) -> Path:
    """`.cache/<name>`: results that are valid under any parameters, keyed by content."""
    folder = root() / ".cache" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def resuming(name: str, determinants: Any, until_recorded: bool = False) -> Iterator[Path]:
    """`.resume/<name>-<digest>`: half-done work of one result, for the run after a kill.

    determinants: everything that decides the result (JSON types); the folder is named after their
    digest and removed when the block ends without an error. A second process with the same
    determinants waits for the first.

    until_recorded: name is a stage's, whose work is expensive: under DVC the folder stays until
    dvc.lock has the stage's new outs, since a kill before that makes the stage run again.
    `remove_recorded_work` then removes it.
    """
    key = f"{name}-{digest_json(determinants)[:16]}"
    folder = root() / ".resume" / key
    with exclusive(name, key):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DONE).unlink(missing_ok=True)
        yield folder
        if until_recorded and "DVC_ROOT" in os.environ:
            lock = Path("dvc.lock").absolute()
            mark = {"lock": str(lock), "stage": name, "entry": _recorded(lock, name)}
            write_json(folder / DONE, mark)
        else:
            shutil.rmtree(folder)


def remove_recorded_work() -> None:
    """Removes what `resuming` kept of stages that DVC has recorded, or whose clone is gone."""
    for mark in sorted((root() / ".resume").glob(f"*/{DONE}")):
        # A damaged one, or one in use on Windows, is left to the next stage.
        with contextlib.suppress(DataError, Timeout, KeyError, TypeError, OSError):
            done = read_json(mark)
            lock = Path(done["lock"])
            if lock.parent.exists() and _recorded(lock, done["stage"]) == done["entry"]:
                continue
            with FileLock(cache_dir("locks") / f"{mark.parent.name}.lock", timeout=0):
                if mark.exists():
                    shutil.rmtree(mark.parent)


def _recorded(lock: Path, stage: str) -> str:
    """The digest of a stage's entry in a dvc.lock, or of its absence."""
    text = lock.read_text(encoding="utf-8") if lock.exists() else ""
    return digest_json(lock_entries(text).get(stage))


@contextmanager
def exclusive(name: str, key: str) -> Iterator[None]:
    """Only one process at a time is in this block with this key; a second one waits, and says so.

    name: the stage, for the message. The system releases the lock however a process ends.
    """
    lock = FileLock(cache_dir("locks") / f"{key}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(
            f"{name}: waiting for another process that uses the same site or files.",
            file=sys.stderr,
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
