"""Reads a person's own photographs from data/inbox, under the same checks as downloaded images.

Symbolic links and devices are not followed.
"""

import stat
from collections.abc import Iterator
from pathlib import Path

from pttfaces.config import Download
from pttfaces.download.result import RejectedError, Result
from pttfaces.download.store import ImageStore

_IGNORED = "README.txt"


def read_local_files(
    folder: Path, store: ImageStore, options: Download
) -> list[tuple[str, Result]]:
    """Stores the images below a folder; the result of each file, sorted by name.

    A file's URL is `inbox:<relative name>`. Hidden files and README.txt are left out.
    """
    found = _walk(folder) if folder.is_dir() else ()
    paths = {path.relative_to(folder).as_posix(): path for path in found}
    return [(_url(name), _read(path, store, options)) for name, path in sorted(paths.items())]


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == _IGNORED:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path


def _read(path: Path, store: ImageStore, options: Download) -> Result:
    state = path.lstat()
    if stat.S_ISLNK(state.st_mode):
        return Result("not_an_image", "a link; put the file itself there")
    if not stat.S_ISREG(state.st_mode):
        return Result("not_an_image", "not a file")
    if state.st_size > options.max_bytes:
        return Result("too_large", f"larger than {options.max_mib:g} MiB", min_bytes=state.st_size)
    with path.open("rb") as file:
        try:
            return Result("ok", image=store.save(file))
        except RejectedError as error:
            return Result(error.status, str(error))


def _url(name: str) -> str:
    # The ledger is UTF-8, and a line break would split its row.
    text = name.encode("utf-8", "backslashreplace").decode()
    return "inbox:" + text.replace("\n", "\\n").replace("\r", "\\r")
