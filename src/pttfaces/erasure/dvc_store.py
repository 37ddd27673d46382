"""What DVC and git keep: every version of every stage's outs, in the cache and in the remotes.

Knows DVC's files and the names of the line's outs; deletes nothing unless told to.
"""

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
from pttfaces.erasure.provenance import TABLES, names_one, table_name
from pttfaces.errors import DataError
from pttfaces.repository import (
    digests,
    entries_of,
    folder_list,
    git,
    lock_entries,
    object_id,
    read_yaml,
)

_TABLES = {f"data/{name}" for name in TABLES}
_EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")


@dataclass(frozen=True)
class Step:
    """One execution of a stage: path → md5 of what it read and wrote, as DVC notes it.

    experiments: name → commit of DVC's experiments that hold it; commits: other commits that do;
    here: whether dvc.lock does, as it stands in the folder.
    """

    deps: Mapping[str, str]
    outs: Mapping[str, str]
    experiments: dict[str, str] = field(default_factory=dict)
    commits: set[str] = field(default_factory=set)
    here: bool = False


class Store:
    """A place of DVC objects: the cache or a remote. name: as a person knows it."""

    def __init__(self, name: str, objects: Any) -> None:
        self.name = name
        self._objects = objects

    @property
    def place(self) -> Path:
        """Where the objects lie; of a remote, below its root."""
        return Path(self._objects.path)

    @cached_property
    def ids(self) -> set[str]:
        """The md5 of every object; a folder's ends in .dir."""
        return set(self._objects.all())

    def read(self, oid: str) -> bytes:
        """An object's bytes."""
        with self._objects.fs.open(self._objects.oid_to_path(oid), "rb") as handle:
            return handle.read()

    def add(self, content: bytes, ending: str = "") -> str:
        """Keeps an object; returns its md5, behind which a folder's list has .dir."""
        oid = object_id(content) + ending
        if oid in self.ids and self.read(oid) != content:  # a kill has left it half written
            self.delete([oid])
        if oid not in self.ids:
            self._objects.add_bytes(oid, content)
            self.ids.add(oid)
        return oid

    def add_folder(self, files: Iterable[tuple[str, str]]) -> None:
        """Keeps the list of a folder's files, (md5, relative path) each; none of an empty one."""
        if entries := list(files):
            self.add(folder_list(entries), ".dir")

    def delete(self, oids: Iterable[str]) -> int:
        """Deletes those of the objects that are there; returns how many were."""
        there = sorted(self.ids.intersection(oids))
        for oid in there:
            path = self._objects.oid_to_path(oid)
            try:
                self._objects.fs.remove(path)
            except PermissionError:  # Windows, for what DVC has made read-only
                working_files.remove(Path(path))
        self.ids.difference_update(there)
        return len(there)


@dataclass
class Storage:
    """A repository's cache and remotes, and the steps that are known of its past.

    unreachable: remotes that cannot be read now, each with the reason.
    """

    root: Path
    cache: Store
    remotes: list[Store]
    unreachable: dict[str, str]
    _runs: Path

    @cached_property
    def steps(self) -> list[Step]:
        """Every step of dvc.lock as it stands, of each commit and experiment, of DVC's run cache;
        the present ones first."""
        steps: dict[str, Step] = {}

        def add(entry: Any, here: bool = False) -> Step:
            deps, outs = digests(entry, "deps"), digests(entry, "outs")
            key = json.dumps([deps, outs], sort_keys=True)
            return steps.setdefault(key, Step(deps, outs, here=here))

        for entry in self._present():
            add(entry, here=True)
        names = {commit: name for name, commit in self._experiments().items()}
        for commit, text in self._locks():
            for step in map(add, lock_entries(text).values()):
                if commit in names:
                    step.experiments[names[commit]] = commit
                else:
                    step.commits.add(commit)
        for path in sorted(self._runs.rglob("*")) if self._runs.exists() else []:
            if path.is_file():
                add(read_yaml(path.read_text("utf-8", errors="replace")))
        return list(steps.values())

    def folder_read(self, step: Step, folder: str) -> str:
        """The md5 of a folder that a step has read, which it may name by its manifest; "" where it
        has read none, and of one that is not kept any more the manifest's own md5, which is no
        folder's."""
        listed = step.deps.get(f"{folder}/{manifest.NAME}", "")
        return step.deps.get(folder) or self._listing.get(listed, listed)

    @cached_property
    def _listing(self) -> dict[str, str]:
        """md5 of a manifest → md5 of the folder that it lies in."""
        return {
            oid: folder
            for folder, entries in self.folders.items()
            for oid, path in entries
            if path == manifest.NAME
        }

    def made_with(self, path: str) -> set[str]:
        """The outs in dvc.lock as it stands of stages that have read `path` as it stands."""
        file = self.root / path
        content = file.read_bytes() if file.exists() else b""
        oid = object_id(content)
        fresh = [entry for entry in self._present() if digests(entry, "deps").get(path) == oid]
        return {oid for entry in fresh for oid in digests(entry, "outs").values()}

    def read(self, oid: str) -> bytes | None:
        """An object's bytes, from the cache or else a remote; None where it is nowhere."""
        for store in (self.cache, *self.remotes):
            if oid in store.ids:
                return store.read(oid)
        return None

    def versions(self, path: str) -> Iterator[bytes]:
        """Every version of a table, as far as its bytes are kept."""
        for oid, name in self.tables.items():
            if name == path and (content := self.read(oid)) is not None:
                yield content

    @cached_property
    def tables(self) -> dict[str, str]:
        """md5 of every version of a table that tells of pictures → its path, the present first;
        after those of stages what purges have left of others, which folders of their own list, and
        what no stage names any more: DVC's run cache knows nothing of outs that persist, and no
        commit of what was never committed."""
        of_steps = (
            item for step in self.steps for item in (*step.outs.items(), *step.deps.items())
        )
        left = ((path, oid) for entries in self.folders.values() for oid, path in entries)
        named = {oid: path for path, oid in (*of_steps, *left) if path in _TABLES}
        members = {oid for entries in self.folders.values() for oid, _ in entries}
        for store in (self.cache, *self.remotes):
            for oid in sorted(store.ids - members - named.keys()):
                if not oid.endswith(".dir") and (name := table_name(store.read(oid))):
                    named[oid] = f"data/{name}"
        return named

    @cached_property
    def folders(self) -> dict[str, list[tuple[str, str]]]:
        """md5 of every folder that is kept → (md5, relative path) of each of its files."""
        found: dict[str, list[tuple[str, str]]] = {}
        for store in (self.cache, *self.remotes):
            for oid in sorted(store.ids - found.keys()):
                if oid.endswith(".dir"):
                    entries = entries_of(store.read(oid))
                    if entries is not None:
                        found[oid] = entries
        return found

    def holds(self, folder: str, stems: set[str]) -> bool:
        """Whether a kept folder has files of pictures whose digests begin with `stems`."""
        return any(names_one(path, stems) for _, path in self.folders.get(folder, ()))

    def metrics(self, step: Step, path: str) -> dict[str, Any]:
        """A file of metrics that the step wrote, from DVC, the folder or git; {} where none has
        it."""
        texts = [(self.read(step.outs[path]) or b"").decode("utf-8", "replace")]
        if step.here and (self.root / path).is_file():
            texts.append((self.root / path).read_text("utf-8", "replace"))
        commits = sorted({*step.experiments.values(), *step.commits})
        for text in (
            *texts,
            *(git("show", f"{commit}:./{path}", cwd=self.root) for commit in commits),
        ):
            try:
                return json.loads(text)
            except ValueError:
                continue
        return {}

    def _present(self) -> list[Any]:
        lock = self.root / "dvc.lock"
        return list(lock_entries(lock.read_text("utf-8")).values()) if lock.exists() else []

    def _experiments(self) -> dict[str, str]:
        """Name of each DVC experiment → its commit."""
        lines = git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps", cwd=self.root)
        named = (line.rsplit(" ", 1) for line in lines.splitlines())
        return {
            match[1]: commit
            for name, commit in named
            if (match := _EXPERIMENT.fullmatch(name)) and not name.startswith("refs/exps/exec")
        }

    def _locks(self) -> Iterator[tuple[str, str]]:
        """(commit, dvc.lock) for every commit that changed it and every experiment."""
        commits = git("log", "--all", "--format=%H", "--", "dvc.lock", cwd=self.root).split()
        for commit in dict.fromkeys([*self._experiments().values(), *commits]):
            yield commit, git("show", f"{commit}:./dvc.lock", cwd=self.root)


@contextmanager
def opened(root: Path) -> Iterator[Storage]:
    """The storage of the DVC repository at `root`, locked against other DVC commands meanwhile.

    DataError: no such repository, or a DVC command is at work in it.
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
            raise DataError("a DVC command is at work here; wait until it has ended.") from None
        try:
            for name in repo.config["remote"]:
                try:
                    objects = repo.cloud.get_remote_odb(name=name)
                    if not objects.fs.exists(objects.path):  # a disk that is not mounted
                        raise FileNotFoundError(f"{objects.path} is not there")
                    store = Store(f"remote {name}", objects)
                    _ = store.ids
                    remotes.append(store)
                except Exception as error:  # of many kinds: a cloud's client's, a missing package
                    reason = str(error).strip() or type(error).__name__
                    unreachable[name] = reason.split("\n")[0]
            cache = Store("DVC's cache", repo.cache.local)
            yield Storage(root, cache, remotes, unreachable, Path(repo.stage_cache.cache_dir))
        finally:
            repo.lock.unlock()
