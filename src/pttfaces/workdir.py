"""Where work lives besides DVC's outs: `.cache/` for what lasts, `.resume/` for half-done work."""

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

DONE = "done.json"  # in a folder of `resuming`: its work is done, and dvc has not noted it yet


def root() -> Path:
    """The main repository's folder, where state that outlives a stage lies.

    DVC sets DVC_ROOT to it even where a queued experiment runs in a temporary clone; a stage that
    is run by hand runs in the repository itself.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())


def find_file(path: str | Path) -> Path:
    """The file that a person's parameter names: in the working folder, else below `root`.

    A queued experiment's working folder is a clone without what git does not know.
    """
    path, there = Path(path), root() / path
    return there if there.exists() and not path.exists() else path


def cache_dir(name: str) -> Path:
    """`.cache/<name>`: results that hold whatever the parameters are, keyed by content. Lasts."""
    folder = root() / ".cache" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def resuming(name: str, determinants: Any, until_recorded: bool = False) -> Iterator[Path]:
    """`.resume/<name>-<digest>`: half-done work of one result, for the run after a kill.

    determinants: everything that decides the result (JSON types); other determinants, another
    folder. It is removed when the block ends without an error. A second process with the same
    determinants waits until the first has ended.

    until_recorded: name is a stage's, whose work is dear: under dvc it stays until dvc.lock has the
    stage's new outs, since a kill before that has the stage run again. `remove_recorded_work` then
    removes it.
    """
    key = f"{name}-{digest_json(determinants)[:16]}"
    folder = root() / ".resume" / key
    with exclusive(name, key):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DONE).unlink(missing_ok=True)
        yield folder
        if until_recorded and "DVC_ROOT" in os.environ:
            lock = Path("dvc.lock").absolute()
            mark = {"lock": str(lock), "stage": name, "noted": _recorded(lock, name)}
            write_json(folder / DONE, mark)
        else:
            shutil.rmtree(folder)


def remove_recorded_work() -> None:
    """Removes what `resuming` left of stages that dvc has noted since, or whose clone is gone."""
    for mark in sorted((root() / ".resume").glob(f"*/{DONE}")):
        # Of a damaged one, or one that is in use on Windows, the next stage's start may know more.
        with contextlib.suppress(DataError, Timeout, KeyError, TypeError, OSError):
            done = read_json(mark)
            lock = Path(done["lock"])
            if lock.parent.exists() and _recorded(lock, done["stage"]) == done["noted"]:
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

    name: what to call it to a person. The system lets go of the lock however a process ends.
    """
    lock = FileLock(cache_dir("locks") / f"{key}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"{name}: another run is at work on the same; waiting for it.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
