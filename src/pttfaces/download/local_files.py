"""data/inbox: a person's own photographs, copied into the store under the same checks as links'.

Links and devices are not followed: what joins is what lies there. Knows nothing of networks.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pttfaces.download.image_type import NotAnImageError
from pttfaces.download.result import Limits, Outcome, Picture
from pttfaces.download.store import Store

_PIECE = 2**20
_IGNORED = "README.txt"


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the inbox: `inbox:<relative name>` and what it turned out to be."""

    url: str
    outcome: Outcome


def list_inbox(folder: str | Path) -> list[Path]:
    """The files below a folder, sorted by name; hidden ones and README.txt are left out."""
    folder = Path(folder)
    paths = _below(folder) if folder.is_dir() else iter(())
    return sorted(paths, key=lambda path: path.relative_to(folder).as_posix())


def take(
    path: Path,
    folder: str | Path,
    store: Store,
    limits: Limits,
    wanted: Callable[[Picture], bool],
) -> Found:
    """Looks at one file of `list_inbox` and copies it into the store when it is wanted."""
    name = path.relative_to(folder).as_posix()
    # A name that is not UTF-8 could not be written to the ledger; one with a line break would be
    # two lines of it.
    whole = name.encode("utf-8", "backslashreplace").decode()
    url = "inbox:" + whole.replace("\n", "\\n").replace("\r", "\\r")
    state = path.lstat()
    if stat.S_ISLNK(state.st_mode):
        return Found(url, Outcome("not_an_image", "a link; put the file itself there"))
    if not stat.S_ISREG(state.st_mode):
        return Found(url, Outcome("not_an_image", "not a file"))
    if state.st_size > limits.max_bytes:
        sentence = f"larger than {limits.max_mib:g} MiB"
        return Found(url, Outcome("too_large", sentence, at_least=state.st_size))
    with path.open("rb") as source, store.part() as part:
        while piece := source.read(_PIECE):
            part.write(piece)
        try:
            picture = part.look()
        except NotAnImageError as error:
            return Found(url, Outcome("not_an_image", str(error)))
        if wanted(picture):
            store.keep(part, picture)
    return Found(url, Outcome("ok", picture=picture))


def _below(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == _IGNORED:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path))
            else:
                yield Path(entry.path)
