"""Stores originals in data/raw, each under the digest of its bytes, whole or not at all.

Bytes that come in are held in memory, those of a large image in a file under `.parts/` of the same
folder; every file is written there, and renamed when it is whole.
"""

import hashlib
import itertools
import mmap
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pttfaces import files, workdir
from pttfaces.download.image_type import identify
from pttfaces.download.result import FORMAT_EXTENSIONS, ImageInfo

_PARTS = ".parts"
_MAX_IN_MEMORY = 2**20  # bytes of one part
_MAX_ALL_IN_MEMORY = 64 * 2**20  # and of all parts together
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)  # Windows' has it
_ORIGINAL = re.compile(rf"[0-9a-f]{{2}}/[0-9a-f]{{64}}\.({'|'.join(FORMAT_EXTENSIONS.values())})")


class Part:
    """Bytes on their way into the store; a context manager that leaves nothing behind.

    `inspect` and `move` may be called in another thread; everything else belongs to one.
    """

    def __init__(self, store: "ImageStore", path: str) -> None:
        self.bytes = 0
        self._store, self._path = store, path
        self._chunks: list[bytes] = []
        self._counted = 0  # bytes of them in the store's `bytes_in_memory`
        self._on_disk = False  # there is a file at `path`
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
        self._chunks.append(chunk)
        self._counted += len(chunk)
        self._store.bytes_in_memory += len(chunk)
        if self.bytes > _MAX_IN_MEMORY or self._store.bytes_in_memory > _MAX_ALL_IN_MEMORY:
            self._write_to_disk()
            self._free_memory()

    def inspect(self) -> ImageInfo:
        """What the bytes are, when the last has come; NotAnImageError says why no image."""
        if self._file is None:
            content = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks = [content]
            return identify(content, hashlib.sha256(content).hexdigest())
        with mmap.mmap(self._file, 0, access=mmap.ACCESS_READ) as mapped:
            return identify(mapped, hashlib.sha256(mapped).hexdigest())

    def move(self, target: str) -> int:
        """Makes the bytes the file at `target`, whole or not at all; returns its mtime in ns."""
        if self._file is None:
            self._write_to_disk()
            self._chunks = []
        self._close()
        mtime = os.stat(self._path).st_mtime_ns  # noqa: PTH116 (see ImageStore.has)
        os.replace(self._path, target)  # noqa: PTH105
        self._on_disk = False
        return mtime

    def discard(self) -> None:
        """Drops the bytes; a file that was moved stays."""
        self._free_memory()
        self._close()
        if self._on_disk:
            Path(self._path).unlink(missing_ok=True)

    def _write_to_disk(self) -> None:
        self._file = os.open(self._path, _NEW_FILE, 0o666)
        self._on_disk = True
        for chunk in self._chunks:
            _write(self._file, chunk)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _free_memory(self) -> None:
        self._store.bytes_in_memory -= self._counted
        self._chunks, self._counted = [], 0


class ImageStore:
    """The originals in a folder, and those that left it, which wait in `.cache/originals`.

    What a killed run left half-written is removed at the start. A file's bytes are compared with
    its name once, and again when its mtime has changed; the mtimes are kept in `.cache/raw`.
    bytes_in_memory: of all parts. restored: how many originals `restore` brought back.
    """

    def __init__(self, root: str | Path) -> None:
        self.bytes_in_memory = self.restored = 0
        self._root = str(root)
        root_digest = files.digest_json(str(Path(root).resolve()))[:16]
        self._mtimes_file = workdir.cache_dir("raw") / f"{root_digest}.txt"
        self._mtimes = _read_mtimes(self._mtimes_file)
        self._originals = workdir.cache_dir("originals")
        # An experiment's own folder is temporary: it leaves the originals to the main folder, which
        # has its own of what the experiment sweeps away.
        self._in_clone = Path.cwd() != workdir.root().resolve()
        self._parts = str(files.clean_folder(Path(root) / _PARTS))
        self._numbers = itertools.count()
        self._names: dict[str, set[str]] = {}  # by folder that was written to

    def new_part(self) -> Part:
        """A new part to write to."""
        return Part(self, f"{self._parts}/{next(self._numbers)}")

    def has(self, image: ImageInfo) -> bool:
        """Whether the image is here. A file of its name with other bytes, left by a disk's fault or
        a person, is removed."""
        path = f"{self._root}/{image.path}"
        try:
            # Text and os.stat: a year's 50,000 paths as objects would take longer than the disk.
            state = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            return False
        if state.st_size == image.bytes:
            if self._mtimes.get(image.path) == state.st_mtime_ns:
                return True
            if files.digest_file(path) == image.sha256:
                self._mtimes[image.path] = state.st_mtime_ns
                return True
        files.remove_file(Path(path))
        return False

    def restore(self, image: ImageInfo) -> bool:
        """Brings an image back that `sweep` moved away; False if it is not there."""
        original, target = self._originals / image.path, Path(self._root, image.path)
        if not original.is_file():
            return False
        target.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # another run takes it at this moment
            (shutil.copyfile if self._in_clone else shutil.move)(original, target)
        restored = self.has(image)
        self.restored += restored
        return restored

    def read(self, image: ImageInfo) -> bytes:
        """The bytes of an image that is here."""
        return Path(self._root, image.path).read_bytes()

    def add(self, part: Part, image: ImageInfo) -> None:
        """Stores the bytes of a part; the same bytes are stored once."""
        folder, name = image.path.split("/")
        if folder not in self._names:
            parent = Path(self._root, folder)
            parent.mkdir(exist_ok=True)
            self._names[folder] = {path.name for path in parent.iterdir()}
        # A new name needs no look at the disk: each makes the threads wait for one another.
        if name not in self._names[folder] or not self.has(image):
            self._mtimes[image.path] = part.move(f"{self._root}/{image.path}")
            self._names[folder].add(name)

    def sweep(self, paths: set[str]) -> None:
        """Leaves only the files at `paths` (as in the ledger): other originals move to
        `.cache/originals`, anything else is removed."""
        cut = len(self._root) + 1
        for folder, _, names in os.walk(self._root, topdown=False):
            prefix = f"{folder}/"[cut:].replace(os.sep, "/")
            strays = [name for name in names if prefix + name not in paths]
            for name in strays:
                if _ORIGINAL.fullmatch(prefix + name) and not self._in_clone:
                    self._move_away(prefix + name)
                else:
                    files.remove_file(Path(folder, name))
            emptied = folder != self._root and len(strays) == len(names)
            if emptied and not any(Path(folder).iterdir()):
                Path(folder).rmdir()
        known = sorted(paths & self._mtimes.keys())
        lines = (f"{self._mtimes[path]} {path}\n" for path in known)
        files.write_text(self._mtimes_file, "".join(lines))

    def delete_originals(self, digests: Iterable[str]) -> None:
        """Deletes the images with these SHA-256 among what `sweep` moved away."""
        for digest in digests:
            for path in (self._originals / digest[:2]).glob(f"{digest}.*"):
                files.remove_file(path)

    def _move_away(self, path: str) -> None:
        target = self._originals / path
        target.parent.mkdir(exist_ok=True)
        files.remove_file(target)
        shutil.move(Path(self._root, path), target)


def _read_mtimes(path: Path) -> dict[str, int]:
    """Path below the folder → mtime in ns; damaged lines are left out."""
    try:
        lines = path.read_bytes().decode("ascii", "replace").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split(" ", 1) for line in lines)
    return {pair[1]: int(pair[0]) for pair in pairs if len(pair) == 2 and pair[0].isdecimal()}


def _write(file: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:  # the last bytes that fit on a disk are written without an error
        rest = rest[os.write(file, rest) :]
