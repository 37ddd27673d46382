"""Stores originals in data/raw, each under the digest of its bytes, whole or not at all.

A file is written under `.parts/` of the same folder, and renamed when it is whole.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from pttfaces import files, workdir
from pttfaces.config import Download
from pttfaces.denylist import DenyList
from pttfaces.download.image_type import identify
from pttfaces.download.result import FORMAT_EXTENSIONS, ImageInfo, RejectedError, apply_limits

_PIECE_BYTES = 2**20
_MAX_IN_MEMORY = 2**20  # bytes of one file that comes in
_MAX_ALL_IN_MEMORY = 64 * 2**20  # and of all that come in
_ORIGINAL = re.compile(rf"[0-9a-f]{{2}}/[0-9a-f]{{64}}\.({'|'.join(FORMAT_EXTENSIONS.values())})")


class ImageStore:
    """The originals in a folder, and those that left it, which wait in `.cache/originals`.

    One process at a time may have a folder's store: what a killed one left half-written is removed
    at the start. A file's bytes are compared with
    its name once, and again when its mtime has changed; the mtimes are kept in `.cache/raw`.
    options, deny: they say which images to store. restored: how many originals `restore` brought
    back.
    """

    def __init__(self, root: str | Path, options: Download, deny: DenyList) -> None:
        self.restored = 0
        self._root, self._options, self._deny = str(root), options, deny
        root_digest = files.digest_json(str(Path(root).resolve()))[:16]
        self._mtimes_file = workdir.cache_dir("raw") / f"{root_digest}.json"
        known = self._mtimes_file.read_bytes() if self._mtimes_file.exists() else b""
        # Path below the folder → mtime in ns.
        self._mtimes = files.parse_object(known.decode("utf-8", "replace")) or {}
        self._originals = workdir.cache_dir("originals")
        # An experiment's own folder is temporary: it leaves the originals to the main folder, which
        # has its own of what the experiment sweeps away.
        self._in_clone = Path.cwd() != workdir.root().resolve()
        self._parts = str(files.clean_folder(Path(root) / ".parts"))
        self._folders: set[str] = set()  # that are there

    def new_file(self) -> tempfile.SpooledTemporaryFile[bytes]:
        """A temporary file for bytes that come in, in memory while it is small."""
        in_memory = min(_MAX_IN_MEMORY, _MAX_ALL_IN_MEMORY // self._options.concurrency)
        return tempfile.SpooledTemporaryFile(in_memory, dir=self._parts)

    def save(self, file: IO[bytes]) -> ImageInfo:
        """Identifies an image file and stores a copy if it is wanted; the same bytes once.

        RejectedError: it is no image.
        """
        image = identify(file)
        if self.wants(image) and not self.has(image):
            part, target = f"{self._parts}/{image.sha256}", f"{self._root}/{image.path}"
            file.seek(0)
            with open(part, "wb") as copy:  # noqa: PTH123
                shutil.copyfileobj(file, copy, _PIECE_BYTES)
            if image.path[:2] not in self._folders:
                Path(target).parent.mkdir(exist_ok=True)
                self._folders.add(image.path[:2])
            os.replace(part, target)  # noqa: PTH105
            self._mtimes[image.path] = os.stat(target).st_mtime_ns  # noqa: PTH116
        return image

    def wants(self, image: ImageInfo) -> bool:
        """Whether the image is within the limits and not denied."""
        return apply_limits(image, self._options).keep and not self._deny.denies(
            sha256=image.sha256
        )

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

    def find(self, path: str) -> ImageInfo | None:
        """The image at a path of a ledger; None where its bytes are not here."""
        if not _ORIGINAL.fullmatch(path):
            return None
        with suppress(OSError, RejectedError), Path(self._root, path).open("rb") as file:
            image = identify(file)
            if image.path == path:
                self._mtimes[path] = os.fstat(file.fileno()).st_mtime_ns
                return image
        return None

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
        known = {path: self._mtimes[path] for path in sorted(paths & self._mtimes.keys())}
        files.write_json(self._mtimes_file, known)

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
