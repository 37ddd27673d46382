"""Reads a person's own photographs from data/inbox, under the same checks as downloaded images.

Symbolic links and devices are not followed.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pttfaces.config import Download
from pttfaces.download.image_type import NotAnImageError
from pttfaces.download.result import ImageInfo, Result
from pttfaces.download.store import ImageStore

_PIECE_BYTES = 2**20
_IGNORED = "README.txt"


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of the folder, as `inbox:<relative name>`, and what it is."""

    url: str
    result: Result


def list_files(folder: str | Path) -> list[Path]:
    """The files below a folder, sorted by name; hidden ones and README.txt are left out."""
    folder = Path(folder)
    paths = _walk(folder) if folder.is_dir() else iter(())
    return sorted(paths, key=lambda path: path.relative_to(folder).as_posix())


def read_file(
    path: Path,
    folder: str | Path,
    store: ImageStore,
    options: Download,
    should_store: Callable[[ImageInfo], bool],
) -> LocalFile:
    """Inspects a file of `list_files` and copies it into the store when it is wanted."""
    name = path.relative_to(folder).as_posix()
    # The ledger is UTF-8, and a line break would split its row.
    text = name.encode("utf-8", "backslashreplace").decode()
    url = "inbox:" + text.replace("\n", "\\n").replace("\r", "\\r")
    state = path.lstat()
    if stat.S_ISLNK(state.st_mode):
        return LocalFile(url, Result("not_an_image", "a link; put the file itself there"))
    if not stat.S_ISREG(state.st_mode):
        return LocalFile(url, Result("not_an_image", "not a file"))
    if state.st_size > options.max_bytes:
        message = f"larger than {options.max_mib:g} MiB"
        return LocalFile(url, Result("too_large", message, min_bytes=state.st_size))
    with path.open("rb") as source, store.new_part() as part:
        while piece := source.read(_PIECE_BYTES):
            part.write(piece)
        try:
            image = part.inspect()
        except NotAnImageError as error:
            return LocalFile(url, Result("not_an_image", str(error)))
        if should_store(image):
            store.add(part, image)
    return LocalFile(url, Result("ok", image=image))


def _walk(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == _IGNORED:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            else:
                yield Path(entry.path)
