"""data/raw: pictures under the digest of their bytes, whole or not at all.

Bytes that come in are held in memory, the many of a large picture in a file under `.parts/` of the
same folder; there every file is written, and renamed when it is whole. Knows nothing of URLs.
"""

import hashlib
import itertools
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from pttfaces import files
from pttfaces.download.image_type import NotAnImageError, recognise
from pttfaces.download.result import Picture

_PARTS = ".parts"
_LARGE = 2**20  # bytes of one part that are held in memory at most
_PIECE = 2**20
_MOST_HELD = 64 * 2**20  # and of all parts together
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)  # Windows' has it


class Part:
    """Bytes on their way into the store; a context manager that leaves nothing behind.

    `look` and `move` may be called in another thread; everything else belongs to one.
    """

    def __init__(self, store: "Store", path: str) -> None:
        self.bytes = 0
        self._store, self._path = store, path
        self._held: list[bytes] = []
        self._counted = 0  # bytes of them in the store's `held`
        self._spilled = False  # there is a file at `path`
        self._file: int | None = None  # a descriptor: to open a file object takes one call more

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    def write(self, chunk: bytes) -> None:
        """Appends bytes."""
        self.bytes += len(chunk)
        if self._file is not None:
            _write(self._file, chunk)
            return
        self._held.append(chunk)
        self._counted += len(chunk)
        self._store.held += len(chunk)
        if self.bytes > _LARGE or self._store.held > _MOST_HELD:
            self._spill()
            self._let_go()

    def look(self) -> Picture:
        """What the bytes are, when the last has come; NotAnImageError says why no picture."""
        if self._file is None:
            content = self._held[0] if len(self._held) == 1 else b"".join(self._held)
            self._held = [content]
            return recognise(content, hashlib.sha256(content).hexdigest())
        with mmap.mmap(self._file, 0, access=mmap.ACCESS_READ) as mapped:
            return recognise(mapped, hashlib.sha256(mapped).hexdigest())

    def move(self, target: str) -> int:
        """Makes the bytes the file at `target`, whole or not at all; its time of writing, in ns."""
        if self._file is None:
            self._spill()
            self._held = []
        self._close()
        written = os.stat(self._path).st_mtime_ns  # noqa: PTH116 (see Store.has)
        os.replace(self._path, target)  # noqa: PTH105
        self._spilled = False
        return written

    def discard(self) -> None:
        """Drops what has come; what was moved stays where it is."""
        self._let_go()
        self._close()
        if self._spilled:
            Path(self._path).unlink(missing_ok=True)

    def _spill(self) -> None:
        self._file = os.open(self._path, _NEW_FILE, 0o666)
        self._spilled = True
        for chunk in self._held:
            _write(self._file, chunk)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _let_go(self) -> None:
        self._store.held -= self._counted
        self._held, self._counted = [], 0


class Store:
    """The folder of pictures. Left-overs of a killed run are removed when it is opened.

    memory: a file that keeps the times of files that were stored, or whose bytes were checked
    against their names, so that they are read again only where something has written to them since.
    held: bytes of parts that are in memory.
    """

    def __init__(self, root: str | Path, memory: Path) -> None:
        self.held = 0
        self._memory, self._checked = memory, _times(memory)
        self._root = str(root)
        self._parts = str(files.clean_folder(Path(root) / _PARTS))
        self._numbers = itertools.count()
        self._names: dict[str, set[str]] = {}  # by folder that was written to

    def part(self) -> Part:
        """A new part to write to."""
        return Part(self, f"{self._parts}/{next(self._numbers)}")

    def has(self, picture: Picture) -> bool:
        """Whether the picture lies here. A file of its name with other bytes, which a disk's fault
        or a person has left, is removed."""
        path = f"{self._root}/{picture.path}"
        try:
            # Text and os.stat: a year's 50,000 paths as objects would take longer than the disk.
            state = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            return False
        if state.st_size == picture.bytes:
            if self._checked.get(picture.path) == state.st_mtime_ns:
                return True
            if files.digest_file(path) == picture.sha256:
                self._checked[picture.path] = state.st_mtime_ns
                return True
        files.remove_file(Path(path))
        return False

    def read(self, picture: Picture) -> bytes:
        """The bytes of a picture that lies here."""
        return Path(self._root, picture.path).read_bytes()

    def keep(self, part: Part, picture: Picture) -> None:
        """Gives a part its place; the same bytes are stored once."""
        folder, name = picture.path.split("/")
        if folder not in self._names:
            place = Path(self._root, folder)
            place.mkdir(exist_ok=True)
            self._names[folder] = {path.name for path in place.iterdir()}
        # A new name needs no look at the disk: each makes the threads wait for one another.
        if name not in self._names[folder] or not self.has(picture):
            self._checked[picture.path] = part.move(f"{self._root}/{picture.path}")
            self._names[folder].add(name)

    def copy(self, file: Path, picture: Picture) -> bool:
        """Stores a picture from a file elsewhere; False, and nothing is stored, where that does not
        hold its bytes, whatever the reason."""
        with self.part() as part:
            for piece in _pieces(file):
                part.write(piece)
            try:
                same = part.look().sha256 == picture.sha256
            except NotAnImageError:
                return False
            if same:
                self.keep(part, picture)
            return same

    def remember(self, named: set[str]) -> None:
        """Writes down which of the files in `named` were checked, or stored, and when written."""
        known = sorted(named & self._checked.keys())
        lines = (f"{self._checked[path]} {path}\n" for path in known)
        files.write_text(self._memory, "".join(lines))

    def sweep(self, named: set[str]) -> int:
        """Removes all files that are not in `named` (paths as in the ledger); returns how many."""
        removed = 0
        cut = len(self._root) + 1
        for folder, _, names in os.walk(self._root, topdown=False):
            prefix = f"{folder}/"[cut:].replace(os.sep, "/")
            strays = [name for name in names if prefix + name not in named]
            for name in strays:
                files.remove_file(Path(folder, name))
            removed += len(strays)
            place = Path(folder)
            if folder != self._root and len(strays) == len(names) and not any(place.iterdir()):
                place.rmdir()
        return removed


def _times(memory: Path) -> dict[str, int]:
    """Path → time of writing in nanoseconds, from a file of `Store.remember`; damaged lines are
    left out."""
    try:
        lines = memory.read_bytes().decode("ascii", "replace").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split(" ", 1) for line in lines)
    return {pair[1]: int(pair[0]) for pair in pairs if len(pair) == 2 and pair[0].isdecimal()}


def _pieces(file: Path) -> Iterator[bytes]:
    """A file's bytes, as far as they can be read."""
    try:
        with file.open("rb") as source:
            while piece := source.read(_PIECE):
                yield piece
    except OSError:  # not there any more, a bad sector; troubles with writing are the caller's
        return


def _write(file: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:  # the last bytes that a disk has room for are written without an error
        rest = rest[os.write(file, rest) :]
