"""Reads and deletes what MLflow has of models: runs, registered versions, and artifacts."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pttfaces import mlflow_store, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Artifacts that show training images themselves.
_SHEETS = ("nearest.png", "contact_sheet.png")
_PAGE_SIZE = 1000


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
class ModelVersion:
    """A registered model's version and the id of the run that made it."""

    model: str
    version: str
    run_id: str


@dataclass(frozen=True)
class RunHistory:
    """The store's runs of training and evaluation, and its registered versions."""

    runs: list[RunRecord]
    versions: list[ModelVersion]

    def of_models(self, digests: set[str]) -> list[RunRecord]:
        """The runs that made or scored one of the models."""
        return [run for run in self.runs if run.model in digests]

    def registered(self, runs: list[RunRecord]) -> list[ModelVersion]:
        """The versions that one of the runs made."""
        ids = {run.id for run in runs}
        return [version for version in self.versions if version.run_id in ids]


def read_history() -> RunHistory:
    """What the store has; empty without a store. OSError: it cannot be read."""
    if not mlflow_store.store_exists():
        return RunHistory([], [])
    from mlflow import MlflowClient

    with _as_os_errors():
        client = MlflowClient(mlflow_store.store_uri(), registry_uri=mlflow_store.store_uri())
        versions = [
            ModelVersion(found.name, str(found.version), found.run_id or "")
            for found in _pages(client.search_model_versions)
        ]
        return RunHistory(list(_runs(client)), versions)


def training_images(run: RunRecord) -> list[str] | None:
    """File names of the images that a run was trained on; None if it did not log them.

    OSError: its artifacts cannot be read.
    """
    name = tracking.TRAINING_IMAGES
    # MLflow would leave its copy of a server's file in the system's temporary folder.
    with _as_os_errors(), tempfile.TemporaryDirectory() as scratch:
        artifacts = _artifacts(run)
        if all(entry.path != name for entry in artifacts.list_artifacts()):
            return None
        return Path(artifacts.download_artifacts(name, scratch)).read_text("utf-8").splitlines()


def sheets(run: RunRecord) -> list[str]:
    """Names of a run's artifacts that show training images. OSError: they cannot be read."""
    with _as_os_errors():
        return [entry.path for entry in _artifacts(run).list_artifacts() if entry.path in _SHEETS]


def delete_artifact(run: RunRecord, name: str) -> None:
    """Deletes an artifact. OSError: the store refuses or cannot be reached."""
    with _as_os_errors():
        _artifacts(run).delete_artifacts(name)


def version_deletion(version: ModelVersion) -> str:
    """The command that deletes a registered version, to be run in the project's folder."""
    call = f"delete_model_version('{version.model}', '{version.version}')"
    return f'python -c "from mlflow import MlflowClient; MlflowClient().{call}"'


def run_deletions(runs: list[RunRecord]) -> list[str]:
    """The commands that delete runs, with models and all else that they logged."""
    ids = [run.id for run in runs]
    store = "--backend-store-uri sqlite:///mlflow.db --tracking-uri sqlite:///mlflow.db"
    collect = f"mlflow gc {store} --run-ids {','.join(ids)}"
    return [f"mlflow runs delete --run-id {run_id}" for run_id in ids] + [collect] * bool(ids)


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Turns what a store's client raises (MLflow's, requests', a cloud's errors) into OSError."""
    try:
        yield
    except Exception as error:
        raise OSError((str(error).strip() or type(error).__name__).split("\n")[0]) from None


def _artifacts(run: RunRecord) -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(run.artifacts)


def _runs(client: "MlflowClient") -> Iterator[RunRecord]:
    from mlflow.entities import ViewType

    for experiment in mlflow_store.experiments(client):
        ids = [experiment.experiment_id]
        for run in _pages(partial(client.search_runs, ids, "", ViewType.ALL, _PAGE_SIZE)):
            yield RunRecord(
                run.info.run_id,
                run.info.run_name or "",
                run.data.tags.get("stage", ""),
                run.data.tags.get("model_digest", ""),
                mlflow_store.artifact_uri(run, experiment),
            )


def _pages(search: Any) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return
