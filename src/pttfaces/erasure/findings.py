"""Finds all that was made of what is to be forgotten, says so, and deletes it where asked to."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pttfaces import files, manifest, source
from pttfaces.board.hosts import HostRules
from pttfaces.config import Params
from pttfaces.curation.duplicates import find_alike
from pttfaces.denylist import DENIED, KINDS, DenyList
from pttfaces.erasure import mlflow_runs as histories
from pttfaces.erasure import working_files
from pttfaces.erasure.dvc_store import Step, Storage, Store
from pttfaces.erasure.mlflow_runs import History, Run
from pttfaces.erasure.provenance import STEM, TABLES, Lineage, Origin, names_one
from pttfaces.repository import object_id

_TRAINED_ON, _MODEL, _FIGURES = "data/dataset", "models/ddpm", "metrics/train.json"
# What shows pictures, and the folder whose pictures it shows.
_SHOWN = dict(zip(working_files.SHEETS, ("data/crops", _TRAINED_ON), strict=True))
# How files of data/raw, and of data/crops and data/dataset, are named after their picture.
_NAMED = re.compile(r"(.*/)?([0-9a-f]{64}\.\w+|[0-9a-f]{16}-\d+\.png)")
# What may follow an address in a table: else …/1 would find …/12, too.
_ENDS = ('"', "'", ",", "<", " ", "\t", "\n", "\r")


@dataclass(frozen=True)
class Models:
    """What was trained on the pictures. unchecked: trainings whose data set is not kept any more
    and whose list of it is not there or cannot be read; untold: experiments and commits of which
    the same is true; away: why the history cannot be read, "" where it can."""

    experiments: list[str]
    commits: list[str]
    runs: list[Run]
    unchecked: list[Run]
    untold: list[str]
    history: History
    away: str = ""


@dataclass(frozen=True)
class Objects:
    """Objects of DVC by what they are; in this order they are deleted, so that what tells of the
    rest goes last."""

    pictures: set[str] = field(default_factory=set)
    sheets: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    tables: set[str] = field(default_factory=set)

    def all(self) -> set[str]:
        """Every one."""
        return self.pictures | self.sheets | self.folders | self.tables


class Findings:
    """All that there is of what a deny list names, in the project's folder at `root`."""

    def __init__(self, root: Path, storage: Storage, wanted: DenyList, params: Params) -> None:
        self.root, self.storage, self._wanted = root, storage, wanted
        self.lineage = read_lineage(root, storage)
        self.origins = self._origins(wanted)
        self.digests = {origin.sha256 for origin in self.origins if origin.sha256}
        self.digests |= wanted.entries.get("sha256", frozenset())
        named = {crop[:STEM] for crop in wanted.entries.get("crop", ())}
        self.stems = {digest[:STEM] for digest in self.digests} | named
        self.articles = self.lineage.articles_of(wanted)
        self.crops = self.lineage.crops_of(self.stems)
        self.look_alikes = self._look_alikes(params.curate.duplicate_bits)
        self._rules = HostRules(source.host_aliases(params))
        self.needles = [text.encode() for text in sorted(self._needles(wanted))]
        self._fresh = self._made_without_them()
        self.objects = self._objects()
        self.models = self._models()

    def entries(self) -> list[str]:
        """What belongs on the deny list: the names given, and the pictures by their digests, so
        that they stay out wherever else they are posted."""
        return [*self._wanted.lines(), *(f"sha256:{digest}" for digest in sorted(self.digests))]

    def _origins(self, wanted: DenyList) -> list[Origin]:
        found = self.lineage.matches(wanted)
        for crop in sorted(wanted.entries.get("crop", ())):
            found += self.lineage.origins_of(crop[:STEM])
        # The same pictures in other places: they go there, too.
        for digest in sorted({origin.sha256 for origin in found}):
            found += self.lineage.origins_of(digest)
        return list(dict.fromkeys(found))

    def _look_alikes(self, bits: int) -> list[str]:
        hashes = self.lineage.hashes()
        mine = [text for name, text in hashes.items() if name in self.crops]
        others = {name: text for name, text in hashes.items() if name not in self.crops}
        names = list(others)
        return sorted(names[place] for place in find_alike(mine, list(others.values()), bits))

    def _needles(self, wanted: DenyList) -> Iterator[str]:
        yield from self.stems
        yield from self.articles
        yield from wanted.entries.get("article", ())
        addresses = set(wanted.entries.get("url", ()))
        for origin in self.origins:
            named = wanted.denies(author=origin.poster, url=origin.url)
            if named or origin.article in self.articles:
                addresses |= {origin.url, origin.posted, origin.final_url}
        yield from (address + end for address in addresses - {""} for end in _ENDS)

    def _objects(self) -> Objects:
        folders = self.storage.folders
        pictures = {
            oid
            for entries in folders.values()
            for oid, path in entries
            if names_one(path, self.stems)
        }
        pictures |= set(self._copies())
        telling = set(self._telling())
        named = pictures | telling
        holding = {
            folder for folder, entries in folders.items() if any(oid in named for oid, _ in entries)
        }
        inside = [entry for folder in holding for entry in folders[folder]]
        lists = {oid for oid, path in inside if path == manifest.NAME}
        sheets = {
            step.outs[sheet]
            for step in self.storage.steps
            for sheet, folder in _SHOWN.items()
            # Of a folder that is not kept any more nobody knows what it held.
            if sheet in step.outs and any(map(self._may_hold, self._read_by(step, folder)))
        }
        kinds = (pictures, sheets, holding, lists | telling)
        return Objects(*(kind - self._fresh for kind in kinds))

    def _made_without_them(self) -> set[str]:
        """What was made since they are on the deny list: that may name what it leaves out."""
        if DenyList.read(self.root / DENIED).lacks(self.entries()):
            return set()
        return self.storage.made_with(DENIED)

    def _read_by(self, step: Step, folder: str) -> set[str]:
        """What a step read of a folder: it names it, or figures of the steps that read or made it;
        {""} where that is not known."""
        if read := self.storage.folder_read(step, folder):
            return {read}
        before = [
            other
            for other in self.storage.steps
            if any(step.deps.get(path) == oid for path, oid in other.outs.items())
        ]
        named = {
            other.outs.get(folder) or self.storage.folder_read(other, folder) for other in before
        }
        return named - {""} or {""}

    def _may_hold(self, folder: str) -> bool:
        known = folder in self.storage.folders
        return bool(self.stems) and (not known or self.storage.holds(folder, self.stems))

    def _copies(self) -> Iterator[str]:
        """Objects that are one of the pictures and that no list names after it: a person's own
        files in data/inbox and data/reference, and what was to be listed when dvc was killed."""
        lying = working_files.pictures(self.root, self.stems)
        yield from (object_id(path.read_bytes()) for path in lying)
        made = {oid for step in self.storage.steps for oid in step.outs.values()}
        seen = {
            oid
            for folder, entries in self.storage.folders.items()
            for oid, path in entries
            if folder in made or _NAMED.fullmatch(path)
        }
        for store in (self.storage.cache, *self.storage.remotes):
            for oid in sorted(store.ids - seen):
                seen.add(oid)
                if not oid.endswith(".dir") and files.digest_bytes(store.read(oid)) in self.digests:
                    yield oid

    def _telling(self) -> Iterator[str]:
        """Single files that DVC keeps, such as tables and archives, that have a needle in them."""
        members = {oid for entries in self.storage.folders.values() for oid, _ in entries}
        members -= self.storage.tables.keys()
        denying = {step.deps.get(DENIED, "") for step in self.storage.steps}
        seen = members | denying
        for store in (self.storage.cache, *self.storage.remotes):
            for oid in sorted(store.ids - seen):
                seen.add(oid)
                if not oid.endswith(".dir"):
                    content = store.read(oid)
                    if working_files.has_any(content, self.needles) and not _is_deny_list(content):
                        yield oid

    def _models(self) -> Models:
        experiments: set[str] = set()
        commits: set[str] = set()
        hit: set[str] = set()
        clear: set[str] = set()
        unlisted: list[tuple[str, Step]] = []  # its data set is kept no more, as after a purge
        for step in self.storage.steps:
            data = self.storage.folder_read(step, _TRAINED_ON)
            if _MODEL not in step.outs:
                continue
            digest = str(self.storage.metrics(step, _FIGURES).get("model_digest", ""))
            if data not in self.storage.folders:
                unlisted.append((digest, step))
                continue
            if not self.storage.holds(data, self.stems):
                clear.add(digest)
                continue
            hit.add(digest)
            experiments.update(step.experiments)
            commits.update(step.commits)
        for digests in (hit, clear):
            digests.discard("")  # of which neither DVC nor git has the figures any more
        try:
            history, away = histories.read(), ""
        except OSError as error:
            history, away = History([], []), str(error)
        unchecked = []
        for run in history.runs:
            if run.stage != "train" or not run.model or run.model in hit | clear:
                continue
            try:
                names = histories.trained_on(run)
            except OSError:
                names = None
            if names is None:
                unchecked.append(run)
            else:
                seen = any(names_one(name, self.stems) for name in names)
                (hit if seen else clear).add(run.model)
        untold: set[str] = set()
        for digest, step in unlisted:
            if digest in hit:
                experiments.update(step.experiments)
                commits.update(step.commits)
            elif digest not in clear:
                known_as = [*step.experiments, *(commit[:8] for commit in step.commits)]
                untold.update(known_as or ["this folder"] * step.here)
        return Models(
            sorted(experiments),
            sorted(commits),
            history.of_models(hit),
            unchecked,
            sorted(untold - experiments),
            history,
            away,
        )

    def paths(self) -> list[Path]:
        """Files and folders beside DVC's storage to be deleted whole."""
        searched = {*self.digests}
        for oid in self.objects.pictures & self.storage.cache.ids:
            searched.add(files.digest_bytes(self.storage.cache.read(oid)))
        lying = working_files.pictures(self.root, self.stems)
        searched |= {files.digest_file(path) for path in lying}
        showing = (*working_files.SHEETS, *working_files.COPIES) if self.crops else ()
        shown = [self.root / name for name in showing]
        addresses = [str(row.get("url", "")) for row in self.articles.values()]
        posted = [
            origin.posted
            for origin in self.origins
            if origin.article in self.articles or self._wanted.denies(author=origin.poster)
        ]
        addresses += working_files.album_addresses(posted, self._rules)
        return [
            *lying,
            *self.given(),
            *(path for path in shown if path.exists()),
            *working_files.kept_detections(self.root, sorted(searched)),
            *working_files.kept_pages(self.root, addresses),
            *working_files.kept_listings(self.root, self.needles),
            *working_files.archives(self.root, [stem.encode() for stem in sorted(self.stems)]),
            *working_files.passing(self.root),
        ]

    def logged(self) -> list[Path]:
        """Files of MLflow's in this folder that may show the pictures: of all runs but those of
        which it is known that their models saw none."""
        history, doubtful = self.models.history, self._doubtful()
        clear = {run.id for run in history.runs} - {run.id for run in doubtful}
        return working_files.logged(self.root, clear) if self.crops else []

    def _doubtful(self) -> list[Run]:
        """The runs whose model was, or may have been, trained on the pictures."""
        runs = [*self.models.runs, *self.models.unchecked]
        of_models = self.models.history.of_models({run.model for run in runs})
        return list(dict.fromkeys([*runs, *of_models]))

    def tables(self) -> list[Path]:
        """Tables here that have lines to be dropped."""
        named = working_files.kept_lines(self.root, self.needles)
        return [path for path in named if object_id(path.read_bytes()) not in self._fresh]

    def given(self) -> list[Path]:
        """Copies that a person put into data/inbox or data/reference."""
        return working_files.given(self.root, self.digests)

    def pictures_in_history(self) -> tuple[list[tuple[Run, str]], dict[str, str]]:
        """Artifacts of MLflow that may show the pictures; what cannot be read, with the reason."""
        shown: list[tuple[Run, str]] = []
        away: dict[str, str] = {}
        for run in self._doubtful():
            try:
                shown += [(run, name) for name in histories.pictures_of(run)]
            except OSError as error:
                away[f"MLflow run {run.id}"] = str(error)
        return shown, away


def read_lineage(root: Path, storage: Storage) -> Lineage:
    """All tables: those in the working folder first, then every version that DVC keeps."""
    lineage = Lineage()
    for name in TABLES:
        path = root / "data" / name
        if path.exists():
            lineage.add(name, path.read_bytes())
        for content in storage.versions(f"data/{name}"):
            lineage.add(name, content)
    return lineage


def purge(found: Findings) -> Iterator[str]:
    """Deletes all that was found, wherever it lies; yields a line for each place."""
    working_files.check_idle(found.root)
    paths = found.paths()
    for path in paths:
        working_files.remove(path)
    for path in found.tables():
        working_files.drop_lines(path, found.needles)
    yield f"deleted {len(paths)} files and folders here"
    shown, away = found.pictures_in_history()
    deleted = 0
    for run, name in shown:
        try:
            histories.delete_picture(run, name)
            deleted += 1
        except OSError as error:
            away[f"MLflow run {run.id}"] = str(error)
    for path in found.logged():
        working_files.remove(path)
        deleted += 1
    yield f"deleted {deleted} artifacts of MLflow that may show them"
    away |= {f"remote {name}": reason for name, reason in found.storage.unreachable.items()}
    for store in (*found.storage.remotes, found.storage.cache):
        try:
            yield f"deleted {_delete(store, found)} objects from {store.name}"
        except Exception as error:  # of many kinds: a cloud's client's, the disk's
            away[store.name] = str(error) or type(error).__name__
    for path in working_files.dangling(found.root, found.storage.cache.place):
        working_files.remove(path)
    for name, reason in away.items():
        print(
            f"warning: the {name} cannot be cleaned ({reason}); run "
            "`pttfaces forget --purge` again when it can.",
            file=sys.stderr,
        )


def _delete(store: Store, found: Findings) -> int:
    """Deletes what was found in a store. What else was in those folders and tables stays listed:
    without it nobody could tell other people's pictures in old versions when they ask."""
    objects, storage = found.objects, found.storage
    deleted = store.delete(objects.pictures) + store.delete(objects.sheets)
    left = {
        oid: store.add(working_files.without_lines(store.read(oid), found.needles))
        for oid in sorted(objects.tables & store.ids & storage.tables.keys())
    }
    store.add_folder((new, storage.tables[old]) for old, new in left.items())
    gone = objects.pictures | objects.tables
    for folder in sorted(objects.folders & store.ids):
        store.add_folder(entry for entry in storage.folders[folder] if entry[0] not in gone)
    return deleted + store.delete(objects.folders) + store.delete(objects.tables)


def _is_deny_list(content: bytes) -> bool:
    """Also of one with a faulty entry, which DenyList refuses: it is a person's, and stays."""
    lines = content.decode("utf-8-sig", "replace").splitlines()
    return all(
        not line.strip() or line.lstrip().startswith("#") or line.split(":")[0].strip() in KINDS
        for line in lines
    )
