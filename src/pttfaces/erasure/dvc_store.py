"""Reads and deletes what DVC keeps: every version of the stages' outs, in cache and remotes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pttfaces import manifest, repository
from pttfaces.erasure import working_files
from pttfaces.erasure.provenance import KEYS
from pttfaces.errors import DataError
from pttfaces.repository import digests, git, lock_entries, object_id


@dataclass(frozen=True)
class StageRun:
    """One execution of a stage that DVC has recorded: path → MD5 of what it read and wrote.

    current: whether dvc.lock in the folder has it.
    """

    deps: dict[str, str]
    outs: dict[str, str]
    current: bool = False

    @classmethod
    def of(cls, entry: Any, current: bool = False) -> "StageRun":
        """The run that an entry of a dvc.lock records."""
        return cls(digests(entry, "deps"), digests(entry, "outs"), current)


class ObjectStore:
    """DVC's cache or one of its remotes. name: as messages call it."""

    def __init__(self, name: str, objects: Any) -> None:
        self.name = name
        self._objects = objects

    @cached_property
    def ids(self) -> set[str]:
        """The MD5 of every object; a folder's ends in .dir."""
        return set(self._objects.all())

    def read(self, oid: str) -> bytes:
        """An object's bytes."""
        with self._objects.fs.open(self._objects.oid_to_path(oid), "rb") as handle:
            return handle.read()

    def add(self, content: bytes, ending: str = "") -> str:
        """Stores an object and returns its id: its MD5 and `ending`, .dir for a folder's list."""
        oid = object_id(content) + ending
        if oid in self.ids and self.read(oid) != content:  # half written by a process that died
            self.delete(oid)
        if oid not in self.ids:
            self._objects.add_bytes(oid, content)
            self.ids.add(oid)
        return oid

    def replace(self, replacements: Mapping[str, bytes], tables: Mapping[str, str]) -> int:
        """Deletes those of the objects that are stored here, in the order given, once what stays of
        each is stored; returns how many.

        What stays of a table is listed with its path, as `tables` has it: no stage run names it.
        """
        stored = [oid for oid in replacements if oid in self.ids]
        rewritten = {
            oid: self.add(replacements[oid], Path(oid).suffix)
            for oid in stored
            if replacements[oid]
        }
        if listed := [(rewritten[oid], tables[oid]) for oid in rewritten.keys() & tables.keys()]:
            self.add(repository.folder_list(sorted(listed)), ".dir")
        for oid in stored:
            self.delete(oid)
        return len(stored)

    def delete(self, oid: str) -> None:
        """Deletes an object."""
        path = self._objects.oid_to_path(oid)
        try:
            self._objects.fs.remove(path)
        except PermissionError:  # Windows, for what DVC has made read-only
            working_files.remove(Path(path))
        self.ids.discard(oid)


@dataclass
class DvcStore:
    """A repository's cache and remotes, and the stage runs of its past.

    unreachable: name → reason of the remotes that cannot be read now.
    """

    root: Path
    cache: ObjectStore
    remotes: list[ObjectStore]
    unreachable: dict[str, str]
    _run_cache: Path

    @property
    def stores(self) -> tuple[ObjectStore, ...]:
        """The cache and the remotes that can be read."""
        return (self.cache, *self.remotes)

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
    def tables(self) -> dict[str, str]:
        """MD5 → path of every version of a table that a stage run read or wrote, or that a folder
        lists (a manifest, or what an earlier deletion rewrote); the current ones first."""
        of_runs = (run.outs | run.deps for run in self.stage_runs)
        paths = [(oid, path) for items in of_runs for path, oid in items.items()]
        paths += (entry for entries in self.folders.values() for entry in entries)
        known = {manifest.NAME, *(f"data/{name}" for name in working_files.TABLES)}
        return {oid: path for oid, path in paths if path in known}

    def provenance_tables(self) -> Iterator[tuple[str, bytes]]:
        """(file name, bytes) of every stored version of a table that leads to images."""
        for oid, path in self.tables.items():
            if Path(path).name in KEYS:
                yield Path(path).name, self.read(oid)

    @cached_property
    def stage_runs(self) -> list[StageRun]:
        """The stage runs of dvc.lock in the folder, in the pipeline's order, then those of every
        commit and experiment, and of DVC's run cache."""
        lock = self.root / "dvc.lock"
        entries = lock_entries(lock.read_text("utf-8")) if lock.exists() else {}
        order = dict.fromkeys([*repository.STAGES, *entries])
        found = [StageRun.of(entries[stage], True) for stage in order if stage in entries]
        commits = git("log", "--all", "--format=%H", "--", "dvc.lock", cwd=self.root).split()
        for commit in commits:
            text = git("show", f"{commit}:./dvc.lock", cwd=self.root)
            found += map(StageRun.of, lock_entries(text).values())
        for path in sorted(self._run_cache.rglob("*")):
            if path.is_file():
                text = path.read_text("utf-8", errors="replace")
                found.append(StageRun.of(repository.read_yaml(text)))
        return found

    def made_since(self, path: str) -> set[str]:
        """The MD5 of the outs in dvc.lock, and of the files in them, of the stages that read `path`
        as it is in the folder, and of the stages after them that do not read it."""
        file, made = self.root / path, set[str]()
        oid = object_id(file.read_bytes() if file.exists() else b"")
        for run in self.stage_runs:
            reads_made = not made.isdisjoint(run.deps.values())
            if run.current and (run.deps[path] == oid if path in run.deps else reads_made):
                made.update(run.outs.values())
                for out in run.outs.values():
                    made.update(member for member, _ in self.folders.get(out, ()))
        return made


@contextmanager
def open_store(root: Path) -> Iterator[DvcStore]:
    """The store of the DVC repository at `root`, locked against other DVC commands meanwhile.

    DataError: no such repository, or a DVC command is running in it.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
    except NotDvcRepoError:
        raise DataError(
            f"{root.resolve()} is no DVC repository; run this in the project's folder."
        ) from None
    remotes, unreachable = [], {}
    with repo:
        try:
            repo.lock.lock()
        except LockError:
            raise DataError("a DVC command is running here; wait until it has ended.") from None
        try:
            for name in repo.config["remote"]:
                try:
                    objects = repo.cloud.get_remote_odb(name=name)
                    if not objects.fs.exists(objects.path):  # a disk that is not mounted
                        raise FileNotFoundError(f"{objects.path} does not exist")
                    store = ObjectStore(f"remote {name}", objects)
                    _ = store.ids
                    remotes.append(store)
                except Exception as error:  # of many kinds: a cloud's client's, a missing package
                    reason = str(error).strip() or type(error).__name__
                    unreachable[name] = reason.split("\n")[0]
            cache = ObjectStore("DVC's cache", repo.cache.local)
            yield DvcStore(root, cache, remotes, unreachable, Path(repo.stage_cache.cache_dir))
        finally:
            repo.lock.unlock()
