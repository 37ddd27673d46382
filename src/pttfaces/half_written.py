"""dvc.lock and dvc's notes of its own work, half written.

dvc writes both in place, so a kill or a full disk in that moment leaves half of one, with which no
dvc command starts any more. Knows where dvc keeps them and what it takes for whole.
"""

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pttfaces import files, params
from pttfaces.errors import DataError, ParamsError

LOCK = Path("dvc.lock")
_AT_WORK = Path(".dvc/tmp/rwlock")  # which dvc commands are reading and writing what
_RUNS = Path(".dvc/cache/runs")
_WRITTEN_BY_NOW_S = 1.0


def mend_lock() -> None:
    """Gives a half-written dvc.lock up for the last commit's, or for none: what was made since then
    dvc's run cache brings back.

    DataError: it is none that dvc has written, but git, in a merge.
    """
    content = _half_of(LOCK, _is_whole)
    if content is None:
        return
    if b"\n<<<<<<< " in content or content.startswith(b"<<<<<<< "):
        raise DataError(
            f"{LOCK} holds both sides of a merge; take one of them, such as by "
            f"`git checkout --ours {LOCK}`: `dvc repro` then brings it up to date."
        )
    LOCK.replace(f"{LOCK}.damaged")
    committed = _last_committed()
    if _is_whole(committed):
        files.write_bytes(LOCK, committed)
    print(
        f"{LOCK} was half written, as a kill of dvc can leave it, and is {LOCK}.damaged now; "
        f"{'that of the last commit takes its place' if LOCK.exists() else 'a new one begins'}. "
        "What was made since, dvc repro brings back from its cache."
    )


def mend_notes_of_work() -> None:
    """Gives half-written notes up; dvc begins them anew."""
    if _half_of(_AT_WORK, _is_json) is not None:
        _AT_WORK.unlink()


def mend_run_cache() -> None:
    """Takes folders without an entry out of dvc's run cache; at one of them any dvc repro fails."""
    for folder in _RUNS.glob("*/*"):
        with suppress(OSError):  # those with an entry stay
            folder.rmdir()


def _half_of(path: Path, is_whole: Callable[[bytes], bool]) -> bytes | None:
    """A file's bytes where they are not whole; None where they are, or there is no file."""
    for last in (False, True):
        if not path.exists() or is_whole(content := path.read_bytes()):
            return None
        if not last:
            time.sleep(_WRITTEN_BY_NOW_S)  # a dvc that is at work may be writing it
    return content


def _is_json(content: bytes) -> bool:
    """Whether these bytes are a JSON text."""
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def _last_committed() -> bytes:
    """The dvc.lock of git's last commit; empty without one."""
    try:
        return subprocess.run(["git", "show", f"HEAD:./{LOCK}"], capture_output=True).stdout
    except OSError:  # no git here
        return b""


def _is_whole(content: bytes) -> bool:
    """Whether these bytes are a dvc.lock as some version of dvc reads it."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # takes most of a second
    from voluptuous import Invalid

    try:
        values = params.parse(content.decode())
        if isinstance(values, dict) and values.get("schema", "2.0") != "2.0":
            return True  # of another dvc than this one, which will say so
        COMPILED_LOCKFILE_SCHEMA(values)
    except (ParamsError, UnicodeDecodeError, Invalid):
        return False
    return True
