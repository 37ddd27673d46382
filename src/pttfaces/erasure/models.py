"""Finds the models that were trained on images, by what DVC, git and MLflow have of trainings."""

from collections.abc import Iterable
from dataclasses import dataclass

from pttfaces import manifest, mlflow_store, tracking
from pttfaces.erasure.dvc_store import DvcStore
from pttfaces.erasure.provenance import is_named_after
from pttfaces.report import revisions
from pttfaces.repository import digests, lock_entries

_SHEETS = ("nearest.png", "contact_sheet.png")  # artifacts that show training images
_MAX_RUNS = 50_000  # that MLflow returns at once


@dataclass(frozen=True)
class RunRecord:
    """A run that MLflow has, possibly a deleted one.

    model: digest of its model, "" without one; artifacts: where its artifacts are.
    """

    id: str
    name: str
    stage: str
    model: str
    artifacts: str


@dataclass(frozen=True)
class Models:
    """What was trained on the images.

    runs, experiments, commits: whose model was; versions: the registered ones of these runs, (name,
    number) each; unchecked_runs: trainings that cannot be checked, since neither their data set nor
    their list of it can be read; unchecked_revisions: experiments and commits of which the same is
    true; suspected: all runs of models that were or may have been trained on the images;
    mlflow_error: why MLflow cannot be read, "" if it can.
    """

    runs: list[RunRecord]
    versions: list[tuple[str, str]]
    unchecked_runs: list[RunRecord]
    suspected: list[RunRecord]
    experiments: list[str]
    commits: list[str]
    unchecked_revisions: list[str]
    mlflow_error: str


def find_models(store: DvcStore, image_ids: set[str]) -> Models:
    """The models that have seen an image, in MLflow and in every revision of the repository."""

    def contains(names: Iterable[str]) -> bool:
        return any(is_named_after(name, image_ids) for name in names)

    has_image: dict[str, bool] = {}  # MD5 of a folder, or of the manifest in it
    for folder, entries in store.folders.items():
        has_image[folder] = contains(path for _, path in entries)
        manifests = (oid for oid, path in entries if path == manifest.NAME)
        has_image |= dict.fromkeys(manifests, has_image[folder])
    known = [revision for revision in revisions.all_revisions() if _model(revision)]
    saw: dict[str, bool] = {}  # digest of a model → whether it has seen an image
    for revision in known:
        read = digests(lock_entries(revision.read("dvc.lock")).get("train"), "deps").values()
        if found := [has_image[oid] for oid in read if oid in has_image]:
            saw[_model(revision)] = any(found)
    try:
        runs, versions, mlflow_error = *_read_store(), ""
    except Exception as error:  # of many kinds: SQLAlchemy's, requests', MLflow's
        runs, versions, mlflow_error = [], [], _reason(error)
    unchecked = []
    for run in runs:
        if run.stage == "train" and run.model and run.model not in saw:
            if (names := _training_images(run)) is None:
                unchecked.append(run)
            else:
                saw[run.model] = contains(names)
    committed = {_model(revision) for revision in known if revision.commit}
    unsure = [
        revision.name
        for revision in known
        if _model(revision) not in saw and (revision.commit or _model(revision) not in committed)
    ]
    exposed = [run for run in runs if saw.get(run.model)]
    may_have = {run.model for run in unchecked}
    ids = {run.id for run in exposed}
    return Models(
        runs=exposed,
        versions=[(name, number) for name, number, run_id in versions if run_id in ids],
        unchecked_runs=unchecked,
        suspected=[run for run in runs if saw.get(run.model, run.model in may_have)],
        experiments=[r.name for r in known if r.kind == "experiment" and saw.get(_model(r))],
        commits=[r.commit for r in known if r.kind == "commit" and saw.get(_model(r))],
        unchecked_revisions=unsure,
        mlflow_error=mlflow_error,
    )


def sheets(runs: list[RunRecord], delete: bool = False) -> tuple[int, dict[str, str]]:
    """How many artifacts of these runs show training images, and which runs cannot be read or
    cleaned: id → reason. delete: deletes these artifacts, too."""
    count, failed = 0, {}
    for run in runs:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        try:
            artifacts = get_artifact_repository(run.artifacts)
            names = [entry.path for entry in artifacts.list_artifacts() if entry.path in _SHEETS]
            for name in names if delete else ():
                artifacts.delete_artifacts(name)
            count += len(names)
        except Exception as error:  # of many kinds: MLflow's, requests', a cloud's client's
            failed[run.id] = _reason(error)
    return count, failed


def _training_images(run: RunRecord) -> list[str] | None:
    """File names of the images that a run was trained on; None if they cannot be read."""
    from mlflow.artifacts import load_text

    try:
        return load_text(f"{run.artifacts}/{tracking.TRAINING_IMAGES}").splitlines()
    except Exception:  # as above; also a run of version 0.1, which has no list
        return None


def _read_store() -> tuple[list[RunRecord], list[tuple[str, str, str]]]:
    """MLflow's runs, and (name, number, id of the run) of its registered versions; none without a
    store."""
    if not mlflow_store.store_exists():
        return [], []
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    client = MlflowClient(mlflow_store.store_uri(), registry_uri=mlflow_store.store_uri())
    versions = client.search_model_versions()
    runs = [
        RunRecord(
            run.info.run_id,
            run.info.run_name or "",
            run.data.tags.get("stage", ""),
            run.data.tags.get("model_digest", ""),
            mlflow_store.artifact_uri(run, experiment),
        )
        for experiment in mlflow_store.experiments(client)
        for run in client.search_runs(
            [experiment.experiment_id], "", ViewType.ALL, max_results=_MAX_RUNS
        )
    ]
    return runs, [(one.name, str(one.version), one.run_id or "") for one in versions]


def _model(revision: revisions.Revision) -> str:
    """The digest of a revision's model; "" without one."""
    return str(revision.train.get("model_digest", ""))


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
