"""Finds what was made of denied images in every store, and deletes it."""

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
from pttfaces.erasure import mlflow_runs, working_files
from pttfaces.erasure.dvc_store import DvcStore, ObjectStore, StageRun
from pttfaces.erasure.mlflow_runs import RunHistory, RunRecord
from pttfaces.erasure.provenance import (
    ID_LENGTH,
    TABLES,
    Origin,
    ProvenanceTables,
    is_named_after,
)
from pttfaces.repository import object_id

_DATASET, _MODEL, _METRICS = "data/dataset", "models/ddpm", "metrics/train.json"
# Sheet → the folder whose images it shows.
_SHOWN = dict(zip(working_files.SHEETS, ("data/crops", _DATASET), strict=True))
# Names of files in data/raw, and in data/crops and data/dataset.
_NAMED_AFTER_IMAGE = re.compile(r"(.*/)?([0-9a-f]{64}\.\w+|[0-9a-f]{16}-\d+\.png)")
# What may follow an address in a table: without it …/1 would match …/12, too.
_ADDRESS_ENDS = ('"', "'", ",", "<", " ", "\t", "\n", "\r")


@dataclass(frozen=True)
class Models:
    """What was trained on the images.

    experiments, commits, runs: whose model was; unchecked_runs: trainings that cannot be checked,
    since neither their data set nor their list of it can be read; unchecked_revisions: experiments
    and commits of which the same is true; mlflow_error: why MLflow cannot be read, "" if it can.
    """

    experiments: list[str]
    commits: list[str]
    runs: list[RunRecord]
    unchecked_runs: list[RunRecord]
    unchecked_revisions: list[str]
    history: RunHistory
    mlflow_error: str = ""


@dataclass(frozen=True)
class Objects:
    """DVC's objects to delete, by kind, in the order of deletion: what leads to others is last."""

    images: set[str] = field(default_factory=set)
    sheets: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    tables: set[str] = field(default_factory=set)

    def all(self) -> set[str]:
        """The objects of every kind."""
        return self.images | self.sheets | self.folders | self.tables


class Findings:
    """All that exists of what a deny list names, in the project's folder at `root`."""

    def __init__(self, root: Path, store: DvcStore, denied: DenyList, params: Params) -> None:
        self.root, self.store, self._denied = root, store, denied
        self.tables = read_tables(root, store)
        self.origins = self._find_origins()
        self.digests = {origin.sha256 for origin in self.origins if origin.sha256}
        self.digests |= denied.entries.get("sha256", frozenset())
        of_crops = {crop[:ID_LENGTH] for crop in denied.entries.get("crop", ())}
        self.image_ids = {digest[:ID_LENGTH] for digest in self.digests} | of_crops
        self.articles = self.tables.articles_of(denied)
        self.crops = self.tables.crops_of(self.image_ids)
        self.look_alikes = self._find_look_alikes(params.curate.duplicate_bits)
        self._rules = HostRules(source.host_aliases(params))
        self.search_terms = [term.encode() for term in sorted(self._search_terms())]
        self._up_to_date = self._find_up_to_date()
        self.objects = self._find_objects()
        self.models = self._find_models()

    def entries(self) -> list[str]:
        """Lines for the deny list: the names given, and the images by their digests, so that they
        stay out wherever else they are posted."""
        return [*self._denied.lines(), *(f"sha256:{digest}" for digest in sorted(self.digests))]

    def paths(self) -> list[Path]:
        """Files and folders outside DVC's storage to be deleted as a whole."""
        image_files = working_files.image_files(self.root, self.image_ids)
        searched = self.digests | {files.digest_file(path) for path in image_files}
        for oid in self.objects.images & self.store.cache.ids:
            searched.add(files.digest_bytes(self.store.cache.read(oid)))
        sheets = (*working_files.SHEETS, *working_files.SHEET_COPIES) if self.crops else ()
        addresses = [str(row.get("url", "")) for row in self.articles.values()]
        posted = [
            origin.posted
            for origin in self.origins
            if origin.article in self.articles or self._denied.denies(author=origin.poster)
        ]
        addresses += working_files.album_addresses(posted, self._rules)
        image_ids = [image_id.encode() for image_id in sorted(self.image_ids)]
        return [
            *image_files,
            *self.input_files(),
            *(self.root / sheet for sheet in sheets if (self.root / sheet).exists()),
            *working_files.cached_detections(self.root, sorted(searched)),
            *working_files.cached_pages(self.root, addresses),
            *working_files.cached_listings(self.root, self.search_terms),
            *working_files.zips_with(self.root, image_ids),
            *working_files.temporary_files(self.root),
        ]

    def input_files(self) -> list[Path]:
        """Copies that a person put into data/inbox or data/reference."""
        return working_files.input_files(self.root, self.digests)

    def tables_to_clean(self) -> list[Path]:
        """Tables in the folder that have lines to be dropped."""
        paths = working_files.tables_with(self.root, self.search_terms)
        return [path for path in paths if object_id(path.read_bytes()) not in self._up_to_date]

    def mlflow_files(self) -> list[Path]:
        """MLflow's files in this folder that may show the images: of all runs but those whose model
        is known not to have seen them."""
        clear = {run.id for run in self.models.history.runs}
        clear -= {run.id for run in self._suspected_runs()}
        return working_files.mlflow_sheets(self.root, clear) if self.crops else []

    def mlflow_artifacts(self) -> tuple[list[tuple[RunRecord, str]], dict[str, str]]:
        """MLflow's artifacts that may show the images; what cannot be read, with the reason."""
        artifacts: list[tuple[RunRecord, str]] = []
        unreadable: dict[str, str] = {}
        for run in self._suspected_runs():
            try:
                artifacts += [(run, name) for name in mlflow_runs.sheets(run)]
            except OSError as error:
                unreadable[f"MLflow run {run.id}"] = str(error)
        return artifacts, unreadable

    def _suspected_runs(self) -> list[RunRecord]:
        """The runs whose model was, or may have been, trained on the images."""
        runs = [*self.models.runs, *self.models.unchecked_runs]
        of_models = self.models.history.of_models({run.model for run in runs})
        return list(dict.fromkeys([*runs, *of_models]))

    def _find_origins(self) -> list[Origin]:
        found = self.tables.matches(self._denied)
        for crop in sorted(self._denied.entries.get("crop", ())):
            found += self.tables.origins_of(crop[:ID_LENGTH])
        # The same images in other places are erased there, too.
        for digest in sorted({origin.sha256 for origin in found}):
            found += self.tables.origins_of(digest)
        return list(dict.fromkeys(found))

    def _find_look_alikes(self, bits: int) -> list[str]:
        """Other crops that are as similar to the images' own as duplicates are."""
        hashes = self.tables.hashes()
        own = [text for name, text in hashes.items() if name in self.crops]
        others = {name: text for name, text in hashes.items() if name not in self.crops}
        names = list(others)
        return sorted(names[index] for index in find_alike(own, list(others.values()), bits))

    def _search_terms(self) -> Iterator[str]:
        """Texts that occur only in lines about the images and articles."""
        yield from self.image_ids
        yield from self.articles
        yield from self._denied.entries.get("article", ())
        addresses = set(self._denied.entries.get("url", ()))
        for origin in self.origins:
            is_denied = self._denied.denies(author=origin.poster, url=origin.url)
            if is_denied or origin.article in self.articles:
                addresses |= {origin.url, origin.posted, origin.final_url}
        yield from (address + end for address in addresses - {""} for end in _ADDRESS_ENDS)

    def _find_up_to_date(self) -> set[str]:
        """Objects made since the images are denied: these may name what they leave out."""
        if DenyList.read(self.root / DENIED).missing_lines(self.entries()):
            return set()
        return self.store.current_outs_made_with(DENIED)

    def _find_objects(self) -> Objects:
        folders = self.store.folders
        images = {
            oid
            for entries in folders.values()
            for oid, path in entries
            if is_named_after(path, self.image_ids)
        }
        images |= set(self._copies())
        naming = set(self._naming_files())
        affected = {
            folder
            for folder, entries in folders.items()
            if any(oid in images or oid in naming for oid, _ in entries)
        }
        manifests = {
            oid for folder in affected for oid, path in folders[folder] if path == manifest.NAME
        }
        sheets = {
            run.outs[sheet]
            for run in self.store.stage_runs
            for sheet, folder in _SHOWN.items()
            # The content of a folder that is not stored any more is unknown.
            if sheet in run.outs and any(map(self._may_contain, self._folders_read(run, folder)))
        }
        kinds = (images, sheets, affected, manifests | naming)
        return Objects(*(kind - self._up_to_date for kind in kinds))

    def _copies(self) -> Iterator[str]:
        """Objects that are one of the images, under whatever name: a person's own files in
        data/inbox and data/reference, and what no list names since dvc was killed."""
        paths = working_files.image_files(self.root, self.image_ids)
        yield from (object_id(path.read_bytes()) for path in paths)
        made = {
            oid
            for run in self.store.stage_runs
            for path, oid in run.outs.items()
            if path not in working_files.INPUT_FOLDERS
        }
        known = {
            oid
            for folder, entries in self.store.folders.items()
            for oid, path in entries
            if folder in made or _NAMED_AFTER_IMAGE.fullmatch(path)
        }
        for oid, content in self.store.files_except(known):
            if files.digest_bytes(content) in self.digests:
                yield oid

    def _naming_files(self) -> Iterator[str]:
        """Single files that DVC stores, such as tables and zips, that contain a search term."""
        deny_lists = {run.deps.get(DENIED, "") for run in self.store.stage_runs}
        known = (self.store.members - self.store.tables.keys()) | deny_lists
        for oid, content in self.store.files_except(known):
            matches = working_files.contains_any(content, self.search_terms)
            if matches and not _is_deny_list(content):
                yield oid

    def _folders_read(self, run: StageRun, folder: str) -> set[str]:
        """The versions of a folder that a stage run may have read: the one that it names, or those
        that the runs which made its dependencies read or wrote; {""} if that is unknown."""
        if read := self.store.folder_read_by(run, folder):
            return {read}
        before = [
            other
            for other in self.store.stage_runs
            if any(run.deps.get(path) == oid for path, oid in other.outs.items())
        ]
        versions = {
            other.outs.get(folder) or self.store.folder_read_by(other, folder) for other in before
        }
        return versions - {""} or {""}

    def _may_contain(self, folder: str) -> bool:
        unknown = folder not in self.store.folders
        return bool(self.image_ids) and (
            unknown or self.store.folder_contains(folder, self.image_ids)
        )

    def _find_models(self) -> Models:
        experiments: set[str] = set()
        commits: set[str] = set()
        exposed: set[str] = set()  # digests of models that were trained on the images
        clear: set[str] = set()  # … and of those that were not
        undecided: list[tuple[str, StageRun]] = []  # the data set is gone, as after a purge
        for run in self.store.stage_runs:
            if _MODEL not in run.outs:
                continue
            dataset = self.store.folder_read_by(run, _DATASET)
            model = str(self.store.metrics(run, _METRICS).get("model_digest", ""))
            if dataset not in self.store.folders:
                undecided.append((model, run))
            elif self.store.folder_contains(dataset, self.image_ids):
                exposed.add(model)
                experiments.update(run.experiments)
                commits.update(run.commits)
            else:
                clear.add(model)
        for models in (exposed, clear):
            models.discard("")  # neither DVC nor git has its metrics any more
        try:
            history, mlflow_error = mlflow_runs.read_history(), ""
        except OSError as error:
            history, mlflow_error = RunHistory([], []), str(error)
        unchecked_runs = []
        for tracked in history.runs:
            if tracked.stage != "train" or not tracked.model or tracked.model in exposed | clear:
                continue
            try:
                names = mlflow_runs.training_images(tracked)
            except OSError:
                names = None
            if names is None:
                unchecked_runs.append(tracked)
            elif any(is_named_after(name, self.image_ids) for name in names):
                exposed.add(tracked.model)
            else:
                clear.add(tracked.model)
        unchecked: set[str] = set()
        for model, run in undecided:
            if model in exposed:
                experiments.update(run.experiments)
                commits.update(run.commits)
            elif model not in clear:
                names = [*run.experiments, *(commit[:8] for commit in run.commits)]
                unchecked.update(names or ["this folder"] * run.current)
        return Models(
            sorted(experiments),
            sorted(commits),
            history.of_models(exposed),
            unchecked_runs,
            sorted(unchecked - experiments),
            history,
            mlflow_error,
        )


def read_tables(root: Path, store: DvcStore) -> ProvenanceTables:
    """All tables: those in the working folder first, then every version that DVC stores."""
    tables = ProvenanceTables()
    for name in TABLES:
        path = root / "data" / name
        if path.exists():
            tables.add(name, path.read_bytes())
        for content in store.versions(f"data/{name}"):
            tables.add(name, content)
    return tables


def purge(found: Findings) -> Iterator[str]:
    """Deletes all that was found in every store; yields a line for each.

    DataError: a stage is running. A store that cannot be cleaned is a warning on stderr.
    """
    working_files.check_idle(found.root)
    paths = found.paths()
    for path in paths:
        working_files.remove(path)
    for path in found.tables_to_clean():
        working_files.drop_lines(path, found.search_terms)
    yield f"deleted {len(paths)} files and folders here"
    artifacts, uncleaned = found.mlflow_artifacts()
    deleted = 0
    for run, name in artifacts:
        try:
            mlflow_runs.delete_artifact(run, name)
            deleted += 1
        except OSError as error:
            uncleaned[f"MLflow run {run.id}"] = str(error)
    for path in found.mlflow_files():
        working_files.remove(path)
        deleted += 1
    yield f"deleted {deleted} artifacts of MLflow that may show them"
    uncleaned |= {f"remote {name}": reason for name, reason in found.store.unreachable.items()}
    for store in (*found.store.remotes, found.store.cache):
        try:
            yield f"deleted {_delete_objects(store, found)} objects from {store.name}"
        except Exception as error:  # of many kinds: a cloud's client's, the disk's
            uncleaned[store.name] = str(error) or type(error).__name__
    for path in working_files.dangling_links(found.root, found.store.cache.path):
        working_files.remove(path)
    for name, reason in uncleaned.items():
        print(
            f"warning: the {name} cannot be cleaned ({reason}); run "
            "`pttfaces forget --purge` again when it can.",
            file=sys.stderr,
        )


def _delete_objects(store: ObjectStore, found: Findings) -> int:
    """Deletes from the cache or a remote; returns how many objects.

    What remains of the affected folders and tables is stored under a new list: it leads to
    other people's images in old versions when they ask.
    """
    objects, tables = found.objects, found.store.tables
    deleted = store.delete(objects.images) + store.delete(objects.sheets)
    rewritten = {
        oid: store.add(working_files.without_lines(store.read(oid), found.search_terms))
        for oid in sorted(objects.tables & store.ids & tables.keys())
    }
    store.add_folder((new, tables[old]) for old, new in rewritten.items())
    removed = objects.images | objects.tables
    for folder in sorted(objects.folders & store.ids):
        store.add_folder(entry for entry in found.store.folders[folder] if entry[0] not in removed)
    return deleted + store.delete(objects.folders) + store.delete(objects.tables)


def _is_deny_list(content: bytes) -> bool:
    """Whether every line is an entry or a comment, even an entry that DenyList refuses: a deny list
    is a person's file, and stays."""
    lines = content.decode("utf-8-sig", "replace").splitlines()
    return all(
        not line.strip() or line.lstrip().startswith("#") or line.split(":")[0].strip() in KINDS
        for line in lines
    )
