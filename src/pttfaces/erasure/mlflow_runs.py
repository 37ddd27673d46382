"""What MLflow keeps of models: runs, registered versions, pictures that show training pictures.

Knows the tags that `tracking` sets; deletes nothing unless told to.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pttfaces import tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Artifacts that show training pictures themselves.
_SHOWING = ("nearest.png", "contact_sheet.png")
_PAGE = 1000


@dataclass(frozen=True)
class Run:
    """A run that MLflow has, deleted ones included. model: digest of its model, "" without one."""

    id: str
    name: str
    stage: str
    model: str
    place: str


@dataclass(frozen=True)
class Version:
    """A registered model's version and the run that made it."""

    model: str
    version: str
    run: str


@dataclass(frozen=True)
class History:
    """The store's runs of training and evaluation, and the versions that are registered."""

    runs: list[Run]
    versions: list[Version]

    def of_models(self, digests: set[str]) -> list[Run]:
        """The runs that made or scored one of the models."""
        return [run for run in self.runs if run.model in digests]

    def registered(self, runs: list[Run]) -> list[Version]:
        """The versions that one of the runs made."""
        ids = {run.id for run in runs}
        return [version for version in self.versions if version.run in ids]


def read() -> History:
    """What the store has; nothing where there is no store. OSError: it cannot be read."""
    if not tracking.store_exists():
        return History([], [])
    from mlflow import MlflowClient

    with _as_os_errors():
        client = MlflowClient(tracking.store_uri(), registry_uri=tracking.store_uri())
        tracking.follow_the_folder(client)
        versions = [
            Version(found.name, str(found.version), found.run_id or "")
            for found in _pages(client.search_model_versions)
        ]
        return History(list(_runs(client)), versions)


def trained_on(run: Run) -> list[str] | None:
    """File names of the pictures that a run was trained on; None where it did not log them.

    OSError: its artifacts cannot be read.
    """
    name = tracking.TRAINING_PICTURES
    # Into a folder that goes again: a server's file would be left in the system's own.
    with _as_os_errors(), tempfile.TemporaryDirectory() as scratch:
        artifacts = _artifacts(run)
        if all(entry.path != name for entry in artifacts.list_artifacts()):
            return None
        return Path(artifacts.download_artifacts(name, scratch)).read_text("utf-8").splitlines()


def pictures_of(run: Run) -> list[str]:
    """A run's artifacts that show training pictures, by name. OSError: they cannot be read."""
    with _as_os_errors():
        return [entry.path for entry in _artifacts(run).list_artifacts() if entry.path in _SHOWING]


def delete_picture(run: Run, name: str) -> None:
    """Deletes an artifact. OSError: that cannot be done."""
    with _as_os_errors():
        _artifacts(run).delete_artifacts(name)


def deletion(version: Version) -> str:
    """The command that deletes a registered version, to be run in the project's folder."""
    call = f"delete_model_version('{version.model}', '{version.version}')"
    return f'python -c "from mlflow import MlflowClient; MlflowClient().{call}"'


def run_deletions(runs: list[Run]) -> list[str]:
    """The commands that delete runs, with models and all else that they logged."""
    ids = [run.id for run in runs]
    collect = f"mlflow gc --backend-store-uri sqlite:///mlflow.db --run-ids {','.join(ids)}"
    return [f"mlflow runs delete --run-id {run}" for run in ids] + [collect] * bool(ids)


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """What a store's client raises is of many kinds: MLflow's, requests', a cloud's."""
    try:
        yield
    except Exception as error:
        raise OSError((str(error).strip() or type(error).__name__).split("\n")[0]) from None


def _artifacts(run: Run) -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(run.place)


def _runs(client: "MlflowClient") -> Iterator[Run]:
    from mlflow.entities import ViewType

    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    if experiment is None:
        return
    search = partial(client.search_runs, [experiment.experiment_id], "", ViewType.ALL, _PAGE)
    for run in _pages(search):
        tags = run.data.tags
        yield Run(
            run.info.run_id,
            run.info.run_name or "",
            tags.get("stage", ""),
            tags.get("model_digest", ""),
            run.info.artifact_uri,
        )


def _pages(search: Any) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return
