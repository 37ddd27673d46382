"""Reads and deletes what DVC keeps: every version of the stages' outs, in cache and remotes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from pttfaces import files, repository
from pttfaces.erasure.provenance import JOINED, Provenance
from pttfaces.erasure.working_files import TABLES
from pttfaces.errors import DataError, first_line
from pttfaces.repository import digests, git, lock_entries, object_id


@dataclass(frozen=True)
class ObjectStore:
    """DVC's cache or one of its remotes.

    name: as messages call it; ids: the MD5 of every object when it was opened, a folder's ends in
    .dir; database: the objects themselves, in DVC's class for them.
    """

    name: str
    ids: set[str]
    database: Any

    def read(self, oid: str) -> bytes:
        """An object's bytes."""
        return self.database.fs.cat_file(self.database.oid_to_path(oid))

    def add(self, content: bytes, ending: str = "") -> str:
        """Stores an object and returns its id: its MD5 and `ending`, .dir for a folder's list."""
        oid = object_id(content) + ending
        if not self.database.exists(oid):
            self.database.add_bytes(oid, content)
        return oid

    def replace(self, replacements: Mapping[str, bytes], tables: Mapping[str, str]) -> int:
        """Deletes those of the objects that are stored here, in the order given, once what stays of
        each is stored; returns how many. PermissionError: the store does not let them be deleted.

        What stays of a table is listed with its path, as `tables` has it: no stage run names it.
        """
        stored = [oid for oid in replacements if oid in self.ids]
        for oid in stored:
            if rest := replacements[oid]:
                new = self.add(rest, Path(oid).suffix)
                if oid in tables:
                    self.add(repository.folder_list([(new, tables[oid])]), ".dir")
        for oid in stored:
            try:
                self.database.delete(oid)
            except PermissionError:  # Windows, for what DVC has made read-only
                if self.database.fs.protocol != "local":
                    raise
                files.remove_file(Path(self.database.oid_to_path(oid)))
        if left := sum(map(self.database.exists, stored)):  # a cloud may refuse without an error
            raise PermissionError(f"{left} objects are still there")
        return len(stored)


@dataclass
class DvcStore:
    """A repository's cache and its remotes, and what DVC has recorded.

    stores: the cache, and the remotes that can be read; unreachable: name → reason of the others.
    """

    root: Path
    stores: list[ObjectStore]
    unreachable: dict[str, str]
    _run_cache: Path

    def read(self, oid: str) -> bytes:
        """An object's bytes, from the cache or else a remote; b"" if no store has it."""
        return next((store.read(oid) for store in self.stores if oid in store.ids), b"")

    @cached_property
    def folders(self) -> dict[str, list[tuple[str, str]]]:
        """MD5 of every stored folder → (MD5, relative path) of each of its files."""
        lists = {oid for store in self.stores for oid in store.ids if oid.endswith(".dir")}
        found = {oid: repository.parse_folder_list(self.read(oid)) for oid in sorted(lists)}
        return {oid: entries for oid, entries in found.items() if entries is not None}

    @cached_property
    def recorded(self) -> list[tuple[str, str]]:
        """(MD5, path), each once, of all that stages have read or written: by dvc.lock in the
        folder, then by that of every commit and experiment, and by DVC's run cache."""
        entries = self._current_entries()
        for commit in git("log", "--all", "--format=%H", "--", "dvc.lock", cwd=self.root).split():
            entries += lock_entries(git("show", f"{commit}:./dvc.lock", cwd=self.root)).values()
        runs = (path for path in sorted(self._run_cache.rglob("*")) if path.is_file())
        entries += (repository.read_yaml(run.read_text("utf-8", errors="replace")) for run in runs)
        sides = (digests(entry, side) for entry in entries for side in ("outs", "deps"))
        return list(dict.fromkeys((oid, path) for side in sides for path, oid in side.items()))

    @cached_property
    def tables(self) -> dict[str, str]:
        """MD5 → path of every version of a table that is recorded, or that a folder lists (a
        manifest, or what an earlier deletion rewrote); the current ones first."""
        names = {Path(table).name for table in TABLES}
        listed = (entry for entries in self.folders.values() for entry in entries)
        return {oid: path for oid, path in (*self.recorded, *listed) if Path(path).name in names}

    def provenance(self) -> Provenance:
        """All tables joined: those in the folder first, then every version that is stored."""
        here = (path for table in TABLES if (path := self.root / table).exists())
        contents = chain(
            ((path.name, path.read_bytes()) for path in here),
            ((Path(path).name, self.read(oid)) for oid, path in self.tables.items()),
        )
        return Provenance((name, content) for name, content in contents if name in JOINED)

    def made_from(self, path: str) -> set[str]:
        """The MD5 of the outs in dvc.lock of the stages that read `path` as it is in the folder."""
        file = self.root / path
        oid = object_id(file.read_bytes()) if file.exists() else ""
        entries = (e for e in self._current_entries() if digests(e, "deps").get(path) == oid)
        return {out for entry in entries for out in digests(entry, "outs").values()}

    def _current_entries(self) -> list[Any]:
        """The entries of dvc.lock in the folder."""
        lock = self.root / "dvc.lock"
        return list(lock_entries(lock.read_text("utf-8") if lock.exists() else "").values())


@contextmanager
def open_store(root: Path) -> Iterator[DvcStore]:
    """The store of the DVC repository at `root`, locked against other DVC commands meanwhile.

    DataError: no such repository, or a DVC command is running in it.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo, repo.lock:
            cache = repo.cache.local
            stores, unreachable = [ObjectStore("DVC's cache", set(cache.all()), cache)], {}
            for name in repo.config["remote"]:
                try:
                    remote = repo.cloud.get_remote_odb(name=name)
                    if not remote.fs.exists(remote.path):  # a disk that is not mounted
                        raise FileNotFoundError(f"{remote.path} does not exist")
                    stores.append(ObjectStore(f"remote {name}", set(remote.all()), remote))
                except Exception as error:  # of many kinds: a cloud's client's, a missing package
                    unreachable[name] = first_line(error)
            yield DvcStore(root, stores, unreachable, Path(repo.stage_cache.cache_dir))
    except NotDvcRepoError:
        where = f"{root.resolve()} is not a DVC repository"
        raise DataError(f"{where}; run this in the project's folder.") from None
    except LockError:
        raise DataError("a DVC command is running here; wait until it has ended.") from None
