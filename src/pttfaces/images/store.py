"""data/raw: pictures under the digest of their bytes, whole or not at all.

A file is written under `.parts/` of the same folder, hashed on the way, and renamed when its last
byte is there. Knows nothing of URLs.
"""

import hashlib
import itertools
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from pttfaces import files
from pttfaces.images.outcome import Picture

_PARTS = ".parts"


class Part:
    """A file that is being written; a context manager that leaves nothing behind."""

    def __init__(self, path: Path) -> None:
        self.path, self.bytes = path, 0
        self._sha256 = hashlib.sha256()
        self._handle = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle.close()
        self.path.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        """Appends bytes."""
        self._handle.write(chunk)
        self._sha256.update(chunk)
        self.bytes += len(chunk)

    def finish(self) -> str:
        """Closes the file and gives its SHA-256 in hex."""
        self._handle.close()
        return self._sha256.hexdigest()


class Store:
    """The folder of pictures. Left-overs of a killed run are removed when it is opened."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self._parts = files.clean_folder(self._root / _PARTS)
        self._numbers = itertools.count()

    def part(self) -> Part:
        """A new file to write to."""
        return Part(self._parts / str(next(self._numbers)))

    def has(self, picture: Picture) -> bool:
        """Whether the picture lies here, by name and size."""
        try:
            # Text and os.stat: a year's 50,000 paths as objects would take longer than the disk.
            return os.stat(f"{self._root}/{picture.path}").st_size == picture.bytes  # noqa: PTH116
        except FileNotFoundError:
            return False

    def keep(self, part: Part, picture: Picture) -> None:
        """Gives a finished part its place; the same bytes are stored once."""
        if not self.has(picture):
            target = self._root / picture.path
            try:
                part.path.replace(target)
            except FileNotFoundError:  # the first of its 256 folders' files
                target.parent.mkdir(exist_ok=True)
                part.path.replace(target)

    def sweep(self, named: set[str]) -> int:
        """Removes all files that are not in `named` (paths as in the ledger); returns how many."""
        removed = 0
        for folder, _, names in os.walk(self._root, topdown=False):
            place = Path(folder)
            for name in names:
                path = place / name
                if path.relative_to(self._root).as_posix() not in named:
                    _remove(path)
                    removed += 1
            if place != self._root and not any(place.iterdir()):
                place.rmdir()
        return removed


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except PermissionError:  # Windows keeps a read-only file, which DVC's hard links are
        path.chmod(0o644)
        path.unlink()
