"""Finds the models that were trained on images, in what DVC, git and MLflow recorded."""

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pttfaces import mlflow_model, mlflow_store, tracking
from pttfaces.erasure.dvc_store import DvcStore
from pttfaces.erasure.working_files import contains_any
from pttfaces.errors import first_line
from pttfaces.report.revisions import Revision, all_revisions
from pttfaces.repository import digests, lock_entries

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

_SHEETS = ("nearest.png", "contact_sheet.png")  # artifacts that show training images


@dataclass(frozen=True)
class Models:
    """What has a model of this project, and which models were trained on the images.

    revisions: experiments, commits, and the working folder if none of them has its model; runs:
    where a run's artifacts are → the run, also deleted ones; logged: MLflow's models that are not
    deleted, also those whose run is gone; versions: the registered ones; mlflow_error: why MLflow
    cannot be read, "" if it can; saw: digest of a model → whether it was trained on one of the
    images, without the models whose training images nobody knows any more.
    """

    revisions: list[Revision]
    runs: "dict[str, Run]"
    logged: "list[LoggedModel]"
    versions: "list[ModelVersion]"
    mlflow_error: str
    saw: dict[str, bool]


def find_models(store: DvcStore, image_ids: set[str]) -> Models:
    """All models of MLflow and of every revision of the repository."""
    ids = [image_id.encode() for image_id in image_ids]
    revisions = [each for each in all_revisions() if each.train.get("model_digest")]
    saw: dict[str, bool] = {}
    for revision in revisions:
        read = digests(lock_entries(revision.read("dvc.lock")).get("train"), "deps")
        for path, oid in read.items():  # the data set's folder in version 0.1, now its manifest
            if path.startswith("data/dataset") and (names := store.read(oid)):
                saw[revision.train["model_digest"]] = contains_any(names, ids)
    try:
        runs, logged, versions, mlflow_error = *_read_mlflow(), ""
    except Exception as error:  # of many kinds: SQLAlchemy's, requests', MLflow's
        runs, logged, versions, mlflow_error = {}, [], [], first_line(error)
    for artifacts, run in runs.items():
        model = run.data.tags["model_digest"]
        if run.data.tags.get("stage") == "train" and model not in saw:
            with suppress(Exception):  # as above; also a run of version 0.1, which has no list
                saw[model] = contains_any(_training_images(artifacts), ids)
    committed = {each.train["model_digest"] for each in revisions if each.commit}
    listed = [r for r in revisions if r.commit or r.train["model_digest"] not in committed]
    return Models(listed, runs, logged, versions, mlflow_error, saw)


def sheets(models: Models, delete: bool = False) -> tuple[int, dict[str, str]]:
    """How many artifacts show training images, in runs of models that were or may have been trained
    on the images, and which of these runs cannot be read or cleaned: id → reason.

    delete: deletes these artifacts, too.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    count, failed = 0, {}
    for artifacts, run in models.runs.items():
        if models.saw.get(run.data.tags["model_digest"]) is False:
            continue
        try:
            stored = get_artifact_repository(artifacts)
            names = [entry.path for entry in stored.list_artifacts() if entry.path in _SHEETS]
            for name in names if delete else ():
                stored.delete_artifacts(name)
            count += len(names)
        except Exception as error:  # of many kinds: MLflow's, requests', a cloud's client's
            failed[run.info.run_id] = first_line(error)
    return count, failed


def _training_images(artifacts: str) -> bytes:
    """File names of the images that a run was trained on, as it has logged them."""
    from mlflow.artifacts import load_text

    return load_text(f"{artifacts}/{tracking.TRAINING_IMAGES}").encode()


def _read_mlflow() -> "tuple[dict[str, Run], list[LoggedModel], list[ModelVersion]]":
    """MLflow's runs that have a model, by where their artifacts are, its models, and the registered
    versions; none without a store."""
    if not mlflow_store.store_exists():
        return {}, [], []
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    client = MlflowClient(mlflow_store.store_uri(), registry_uri=mlflow_store.store_uri())
    known = {each.experiment_id: each for each in mlflow_store.experiments(client)}
    runs = client.search_runs(list(known), "", ViewType.ALL, mlflow_store.MAX_RESULTS)
    found = {
        mlflow_store.artifact_uri(run, known[run.info.experiment_id]): run
        for run in runs
        if run.data.tags.get("model_digest")
    }
    return found, mlflow_model.all_models(client), list(client.search_model_versions())
