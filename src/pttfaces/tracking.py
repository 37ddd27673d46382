"""The history of runs in MLflow; used by stage scripts only.

One run for each training and one for each evaluation, nested under the training that made the
model. Logging never breaks a stage: the first failure is told on stderr and the rest is skipped;
the stage's own metrics files are complete without it.
"""

import contextlib
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pttfaces import files
from pttfaces.params import Params

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "pttfaces"
MODEL = "pttfaces-ddpm"

# A server that is away should cost a warning, not the minutes of MLflow's default retries.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # a new database is not news


class Run:
    """One MLflow run. No method raises: after the first failure they have no effect."""

    def __init__(self, client: "MlflowClient | None", run_id: str) -> None:
        self._client, self._id = client, run_id

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Parameters, such as {"train.batch_size": 16}."""
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in values.items()]
        self._attempt(lambda client: client.log_batch(self._id, params=params))

    def log_metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Figures at a step (an epoch, or 0); None and what is not finite is left out."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        metrics = [
            Metric(key, float(value), now, step)
            for key, value in values.items()
            if value is not None and math.isfinite(value)
        ]
        self._attempt(lambda client: client.log_batch(self._id, metrics=metrics))

    def log_tags(self, values: Mapping[str, str]) -> None:
        """Tags, such as {"data_digest": "…"}."""
        from mlflow.entities import RunTag

        tags = [RunTag(key, value) for key, value in values.items()]
        self._attempt(lambda client: client.log_batch(self._id, tags=tags))

    def log_picture(self, path: str | Path, name: str) -> None:
        """A file as an artifact called `name`, such as "samples/epoch-0006.png"."""
        folder, _, base = name.rpartition("/")

        def log(client: "MlflowClient") -> None:
            with tempfile.TemporaryDirectory() as scratch:
                copy = Path(scratch) / base
                shutil.copyfile(path, copy)
                client.log_artifact(self._id, str(copy), folder or None)

        self._attempt(log)

    def log_model(self, folder: Path, digest: str, register: bool) -> None:
        """A model folder as the artifact `model`, its digest as a tag; registers a version."""
        self.log_tags({"model_digest": digest})
        self._attempt(lambda client: client.log_artifacts(self._id, str(folder), "model"))
        if register:
            self._attempt(lambda client: _register(client, self._id, digest))

    def _attempt(self, action: Callable[["MlflowClient"], Any]) -> None:
        if self._client is None:
            return
        try:
            action(self._client)
        except Exception as error:  # whatever ails the store, a stage must not die of it
            _warn(error)
            self._client = None


@contextmanager
def training_run(params: Params, data_digest: str, run_file: Path) -> Iterator[Run]:
    """The run of a training: all parameters, then whatever the caller logs.

    run_file keeps the run's id for as long as the training is not finished, so that a training
    that was killed goes on in its own run.
    """
    name = os.environ.get("DVC_EXP_NAME", "train")
    tags = {"stage": "train", "data_digest": data_digest}
    known = run_file.read_text(encoding="utf-8") if run_file.exists() else None
    with _run(name, params, tags, known) as run:
        if run._id:
            files.write_text(run_file, run._id)
        yield run


@contextmanager
def evaluation_run(params: Params, model_digest: str) -> Iterator[Run]:
    """The run of a generate + evaluate, nested under the newest training with that model."""
    name = f"{params.generate.sampler}, {params.infer_steps} steps"
    tags = {"stage": "evaluate", "model_digest": model_digest}
    with _run(name, params, tags, parent_digest=model_digest) as run:
        yield run


@contextmanager
def _run(
    name: str,
    params: Params,
    tags: dict[str, str],
    known: str | None = None,
    parent_digest: str | None = None,
) -> Iterator[Run]:
    run = _start(name, tags, known, parent_digest)
    if not known:
        run.log_params(params.flat())
        run.log_picture("params.yaml", "params.yaml")
    try:
        yield run
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt)
        run.log_tags({"reason": str(error) or type(error).__name__})
        run._attempt(
            lambda client: client.set_terminated(run._id, "KILLED" if killed else "FAILED")
        )
        raise
    run._attempt(lambda client: client.set_terminated(run._id, "FINISHED"))


def _start(name: str, tags: dict[str, str], known: str | None, parent_digest: str | None) -> Run:
    """Starts a run, or goes on with the known one where the store still has it."""
    from mlflow.exceptions import MlflowException

    tags = tags | {
        "mlflow.runName": name,
        "mlflow.source.name": f"src/{tags['stage']}.py",
        "mlflow.source.type": "LOCAL",
        "dvc_experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc_baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
    }
    try:
        client, experiment = _store()
        if known:
            # Deleted, or another store since: then a new run it is.
            with contextlib.suppress(MlflowException):
                client.update_run(known, status="RUNNING")
                if "reason" in client.get_run(known).data.tags:  # why it was left the last time
                    client.delete_tag(known, "reason")
                return Run(client, known)
        if parent_digest and (parent := _training_of(client, experiment, parent_digest)):
            tags["mlflow.parentRunId"] = parent
        return Run(client, client.create_run(experiment, tags=tags).info.run_id)
    except Exception as error:  # as in Run._attempt
        _warn(error)
        return Run(None, "")


def _store() -> tuple["MlflowClient", str]:
    """A client of the one store, and the id of this project's experiment in it."""
    from mlflow import MlflowClient

    where = store_uri()
    # Processes that make a fresh database at the same time crash in each other's migrations.
    with FileLock(files.cache_dir("locks") / "mlflow.lock"):
        client = MlflowClient(where, registry_uri=where)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            return client, experiment.experiment_id
        local = not os.environ.get("MLFLOW_TRACKING_URI")
        # Pinned here: the default is the working folder, which may be a clone that is deleted.
        place = (files.root() / "mlruns").resolve().as_uri() if local else None
        return client, client.create_experiment(EXPERIMENT, artifact_location=place)


def store_uri() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite database in the main repository."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    return given or f"sqlite:///{(files.root() / 'mlflow.db').resolve().as_posix()}"


def _training_of(client: "MlflowClient", experiment: str, model_digest: str) -> str | None:
    runs = client.search_runs(
        [experiment],
        f"tags.stage = 'train' and tags.model_digest = '{model_digest}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return runs[0].info.run_id if runs else None


def _register(client: "MlflowClient", run_id: str, digest: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    client.create_model_version(MODEL, source, run_id, tags={"model_digest": digest})


def _warn(error: Exception) -> None:
    first = str(error).strip().splitlines() or [type(error).__name__]
    sentence = f"warning: MLflow at {store_uri()} does not take this run ({first[0]}); "
    # A server's address may hold a password: https://name:password@host
    sentence = re.sub(r"(?<=://)[^/@\s]+@", "", sentence)
    print(f"{sentence}the figures are in metrics/ all the same.", file=sys.stderr)
