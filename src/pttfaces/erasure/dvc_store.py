"""Reads and deletes what DVC keeps: every version of the stages' outs, in cache and remotes."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pttfaces import manifest
from pttfaces.erasure import working_files
from pttfaces.erasure.provenance import TABLES, is_named_after, table_name
from pttfaces.errors import DataError
from pttfaces.repository import (
    digests,
    folder_list,
    git,
    lock_entries,
    object_id,
    parse_folder_list,
    read_yaml,
)

_TABLE_PATHS = {f"data/{name}" for name in TABLES}
_EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")


@dataclass(frozen=True)
class StageRun:
    """One execution of a stage that DVC has recorded: path → MD5 of what it read and wrote.

    experiments: name → commit of the DVC experiments that have it; commits: other commits that
    have it; current: whether dvc.lock in the folder has it.
    """

    deps: Mapping[str, str]
    outs: Mapping[str, str]
    experiments: dict[str, str] = field(default_factory=dict)
    commits: set[str] = field(default_factory=set)
    current: bool = False


class ObjectStore:
    """DVC's cache or one of its remotes. name: as messages call it."""

    def __init__(self, name: str, objects: Any) -> None:
        self.name = name
        self._objects = objects

    @property
    def path(self) -> Path:
        """The folder of the objects; of a remote, below its root."""
        return Path(self._objects.path)

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
            self.delete([oid])
        if oid not in self.ids:
            self._objects.add_bytes(oid, content)
            self.ids.add(oid)
        return oid

    def add_folder(self, files: Iterable[tuple[str, str]]) -> None:
        """Stores the list of a folder's files, (MD5, relative path) each, unless it is empty."""
        if entries := list(files):
            self.add(folder_list(entries), ".dir")

    def delete(self, oids: Iterable[str]) -> int:
        """Deletes those of the objects that are stored here; returns how many were."""
        stored = sorted(self.ids.intersection(oids))
        for oid in stored:
            path = self._objects.oid_to_path(oid)
            try:
                self._objects.fs.remove(path)
            except PermissionError:  # Windows, for what DVC has made read-only
                working_files.remove(Path(path))
        self.ids.difference_update(stored)
        return len(stored)


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

    @cached_property
    def stage_runs(self) -> list[StageRun]:
        """The stage runs of dvc.lock in the folder, of every commit and experiment, and of DVC's
        run cache; the current ones first."""
        runs: dict[str, StageRun] = {}

        def add(entry: Any, current: bool = False) -> StageRun:
            deps, outs = digests(entry, "deps"), digests(entry, "outs")
            key = json.dumps([deps, outs], sort_keys=True)
            return runs.setdefault(key, StageRun(deps, outs, current=current))

        for entry in self._current_entries():
            add(entry, current=True)
        names = {commit: name for name, commit in self._experiments().items()}
        for commit, text in self._locks():
            for run in map(add, lock_entries(text).values()):
                if commit in names:
                    run.experiments[names[commit]] = commit
                else:
                    run.commits.add(commit)
        for path in sorted(self._run_cache.rglob("*")) if self._run_cache.exists() else []:
            if path.is_file():
                add(read_yaml(path.read_text("utf-8", errors="replace")))
        return list(runs.values())

    def folder_read_by(self, run: StageRun, folder: str) -> str:
        """The MD5 of a folder that a stage run read, directly or by its manifest; "" if it read
        neither. If the folder is not kept any more: the manifest's own MD5, which is no folder's.
        """
        listed = run.deps.get(f"{folder}/{manifest.NAME}", "")
        return run.deps.get(folder) or self._folder_of_manifest.get(listed, listed)

    @cached_property
    def _folder_of_manifest(self) -> dict[str, str]:
        """MD5 of a manifest → MD5 of the folder that contains it."""
        return {
            oid: folder
            for folder, entries in self.folders.items()
            for oid, path in entries
            if path == manifest.NAME
        }

    def current_outs_made_with(self, path: str) -> set[str]:
        """The MD5 of the outs in dvc.lock of stages that read `path` as it is in the folder."""
        file = self.root / path
        oid = object_id(file.read_bytes() if file.exists() else b"")
        return {
            out
            for entry in self._current_entries()
            if digests(entry, "deps").get(path) == oid
            for out in digests(entry, "outs").values()
        }

    def read(self, oid: str) -> bytes | None:
        """An object's bytes, from the cache or else a remote; None if no store has it."""
        for store in self.stores:
            if oid in store.ids:
                return store.read(oid)
        return None

    def versions(self, path: str) -> Iterator[bytes]:
        """Every version of a table that is still stored."""
        for oid, name in self.tables.items():
            if name == path and (content := self.read(oid)) is not None:
                yield content

    @cached_property
    def tables(self) -> dict[str, str]:
        """MD5 → path of every version of a provenance table, the current ones first.

        Apart from those that stages read or wrote, these are tables that an earlier deletion
        rewrote, which separate folders list, and tables that nothing names: DVC's run cache has no
        stages with persisted outs, and git only what was committed.
        """
        of_runs = (
            item for run in self.stage_runs for item in (*run.outs.items(), *run.deps.items())
        )
        rewritten = ((path, oid) for entries in self.folders.values() for oid, path in entries)
        paths = {oid: path for path, oid in (*of_runs, *rewritten) if path in _TABLE_PATHS}
        for oid, content in self.files_except(self.members | paths.keys()):
            if name := table_name(content):
                paths[oid] = f"data/{name}"
        return paths

    @cached_property
    def folders(self) -> dict[str, list[tuple[str, str]]]:
        """MD5 of every stored folder → (MD5, relative path) of each of its files."""
        found: dict[str, list[tuple[str, str]]] = {}
        for store in self.stores:
            for oid in sorted(store.ids - found.keys()):
                if oid.endswith(".dir"):
                    entries = parse_folder_list(store.read(oid))
                    if entries is not None:
                        found[oid] = entries
        return found

    @cached_property
    def members(self) -> set[str]:
        """The MD5 of every file that a stored folder lists."""
        return {oid for entries in self.folders.values() for oid, _ in entries}

    def files_except(self, known: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """(MD5, bytes) of every stored file whose MD5 is not in `known`."""
        seen = set(known)
        for store in self.stores:
            for oid in sorted(store.ids - seen):
                seen.add(oid)
                if not oid.endswith(".dir"):
                    yield oid, store.read(oid)

    def folder_contains(self, folder: str, image_ids: set[str]) -> bool:
        """Whether a stored folder has files that are named after one of the images."""
        return any(is_named_after(path, image_ids) for _, path in self.folders.get(folder, ()))

    def metrics(self, run: StageRun, path: str) -> dict[str, Any]:
        """Metrics that the stage run wrote, from DVC, the folder or git; {} if none has them."""
        texts = [(self.read(run.outs[path]) or b"").decode("utf-8", "replace")]
        if run.current and (self.root / path).is_file():
            texts.append((self.root / path).read_text("utf-8", "replace"))
        commits = sorted({*run.experiments.values(), *run.commits})
        for text in (
            *texts,
            *(git("show", f"{commit}:./{path}", cwd=self.root) for commit in commits),
        ):
            try:
                return json.loads(text)
            except ValueError:
                continue
        return {}

    def _current_entries(self) -> list[Any]:
        lock = self.root / "dvc.lock"
        return list(lock_entries(lock.read_text("utf-8")).values()) if lock.exists() else []

    def _experiments(self) -> dict[str, str]:
        """Name of each DVC experiment → its commit."""
        lines = git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps", cwd=self.root)
        refs = (line.rsplit(" ", 1) for line in lines.splitlines())
        return {
            match[1]: commit
            for name, commit in refs
            if (match := _EXPERIMENT.fullmatch(name)) and not name.startswith("refs/exps/exec")
        }

    def _locks(self) -> Iterator[tuple[str, str]]:
        """(commit, text of dvc.lock) of every commit that changed it and every experiment."""
        commits = git("log", "--all", "--format=%H", "--", "dvc.lock", cwd=self.root).split()
        for commit in dict.fromkeys([*self._experiments().values(), *commits]):
            yield commit, git("show", f"{commit}:./dvc.lock", cwd=self.root)


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
