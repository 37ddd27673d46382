"""Records training and evaluation runs in MLflow.

An evaluation's run is nested under the training that made the model. Logging never breaks a stage:
the first failure prints a warning and the rest is skipped; metrics/ is complete without it.
"""

import contextlib
import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pttfaces import files, mlflow_model, repository, workdir
from pttfaces.config import Params
from pttfaces.errors import printable
from pttfaces.mlflow_store import failure, open_store, search, store_uri
from pttfaces.provenance import Provenance

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRAINING_IMAGES = "training_pictures.txt"  # artifact of a training: their file names, one a line
UNCOMMITTED = "uncommitted.diff"  # artifact of a run from an edited tree
_DIGEST_LENGTH = 32  # MLflow's limit for a data set is 36; the tags have all digits


class Run:
    """One MLflow run. No method raises: after the first failure they have no effect, except
    `end`, since a server may have come back.

    lock: held as long as this process lives; see `_end_killed_runs`. model_id: of the MLflow model
    that the metrics are of, "" while there is none.
    """

    def __init__(
        self, client: "MlflowClient | None", run_id: str, lock: FileLock | None, model_id: str = ""
    ) -> None:
        self._client, self.id, self._lock, self._failed = client, run_id, lock, False
        self._model_id = model_id

    def log_params(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in values.items()]
        self._attempt(lambda client: client.log_batch(self.id, params=params))

    def log_metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """step: an epoch, or 0; None and values that are not finite are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(key, float(value), now, step, self._model_id or None)
            for key, value in values.items()
            if value is not None and math.isfinite(value)
        ]
        self._attempt(lambda client: client.log_batch(self.id, metrics=metrics))

    def log_tags(self, values: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(key, value) for key, value in values.items()]
        self._attempt(lambda client: client.log_batch(self.id, tags=tags))

    def log_file(self, path: str | Path, folder: str | None = None) -> None:
        """A file as an artifact of the same name, in a folder such as "samples"."""
        self._attempt(lambda client: client.log_artifact(self.id, str(path), folder))

    def log_text(self, text: str, name: str) -> None:
        """A text as an artifact called `name`, such as "training_pictures.txt"."""
        self._attempt(lambda client: client.log_text(self.id, text, name))

    def log_dataset(self, path: str, digest: str, context: str, images: int | None = None) -> None:
        """A data set as an input; context: what for, such as "training"; images: how many."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=path,
            digest=digest[:_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": path}),
            profile=json.dumps({"images": images, "digest": digest}),
        )
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
        self._attempt(lambda client: client.log_inputs(self.id, inputs))

    def log_provenance(self, provenance: Provenance) -> None:
        """Software, machine and uncommitted changes as tags, and these changes as an artifact."""
        facts = {key.replace(" ", "_"): value for key, value in provenance.facts.items()}
        self.log_tags(facts)
        if provenance.diff:
            self.log_text(provenance.diff, UNCOMMITTED)

    def log_model(self, folder: Path, digest: str, register: bool) -> None:
        """A model folder as the run's MLflow model, and its digest as a tag; registers a version.

        Metrics that follow are the model's, too.
        """

        def log(client: "MlflowClient") -> None:
            self._model_id = mlflow_model.log(client, self.id, folder, digest)
            if register:
                mlflow_model.register(client, self.id, self._model_id, digest)

        self.log_tags({"model_digest": digest})
        self._attempt(log)

    def log_copy_warning(self, warning: str | None) -> None:
        """Tags an evaluation and its model's versions with its warning of copies, or with none."""
        self.log_tags({"copies": warning or mlflow_model.NO_WARNING})
        self._attempt(mlflow_model.mark_copies)

    def move_best(self, distance: str, comparable: Sequence[str]) -> None:
        """See `mlflow_model.move_best`."""
        self._attempt(lambda client: mlflow_model.move_best(client, self.id, distance, comparable))

    def end(self, status: str, reason: str = "") -> None:
        """Ends the run as FINISHED, FAILED or KILLED, with the reason as a tag."""

        def close(client: "MlflowClient") -> None:
            if reason:
                client.set_tag(self.id, "reason", reason)
            client.set_terminated(self.id, status)

        closed = self._attempt(close, even_after_failure=True)
        if self._lock:
            self._lock.release()
            if closed:  # otherwise the next run finds the file and ends this one
                Path(self._lock.lock_file).unlink(missing_ok=True)

    def _attempt(self, action: Callable[[Any], Any], even_after_failure: bool = False) -> bool:
        """Whether the action succeeded."""
        if self._client is None or (self._failed and not even_after_failure):
            return False
        try:
            action(self._client)
        except Exception as error:  # no failure of the store may end a stage
            if not self._failed:
                _warn(error)
            self._failed = True
            return False
        return True


@contextmanager
def training_run(params: Params, data_digest: str, run_file: Path) -> Iterator[Run]:
    """The run of a training, with all parameters.

    run_file: keeps the run's id, so that a training that was killed resumes its run.
    """
    tags = {"stage": "train", "data_digest": data_digest}
    options = params.train
    what = f"{params.noise_schedule}, {options.prediction}, {options.epochs} epochs"
    name = _name(os.environ.get("DVC_EXP_NAME", "train"), what, params, data_digest)
    with _run(name, params, tags, run_file) as run, contextlib.ExitStack() as stack:
        if run.id and importlib.util.find_spec("pynvml"):  # the group gpu
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            with contextlib.suppress(Exception):  # use of GPU, CPU and memory: optional
                monitor = SystemMetricsMonitor(run.id, True, tracking_uri=store_uri())
                monitor.start()
                stack.callback(monitor.finish)
        yield run


@contextmanager
def evaluation_run(params: Params, model_digest: str, run_file: Path) -> Iterator[Run]:
    """The run of an evaluation, nested under the newest training with that model.

    run_file: as for a training.
    """
    tags = {"stage": "evaluate", "model_digest": model_digest}
    what = f"{params.infer_steps} steps, {params.generate.sampler}"
    name = _name("evaluate", what, params, model_digest)
    with _run(name, params, tags, run_file) as run:
        yield run


def _name(begin: str, what: str, params: Params, digest: str) -> str:
    """A run's name: what people compare, and digits that differ where anything else does."""
    rest = files.digest_json([params.flat(), digest])[:6]
    return f"{begin}: {what}, seed {params.seed} ({rest})"


@contextmanager
def _run(name: str, params: Params, tags: dict[str, str], run_file: Path) -> Iterator[Run]:
    known = run_file.read_text(encoding="utf-8", errors="replace") if run_file.exists() else ""
    run = _start(name, tags, known)
    if run.id != known:
        run.log_params(params.flat())
        run.log_file("params.yaml")
    if run.id:
        files.write_text(run_file, run.id)
    try:
        yield run
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt)
        reason = str(error) or ("interrupted" if killed else type(error).__name__)
        run.end("KILLED" if killed else "FAILED", reason)
        raise
    run.end("FINISHED")


def _start(name: str, tags: dict[str, str], known: str) -> Run:
    """Starts a run, or resumes the known one if it can."""
    try:
        # One process at a time: those that make a new database together crash in each other's
        # migrations, and a run must not look killed before its process holds its lock.
        with FileLock(workdir.cache_dir("locks") / "mlflow.lock"):
            from mlflow.entities import LoggedModelInput

            client, experiment = open_store()
            _end_killed_runs(client)
            origin = _origin(name, tags["stage"])
            parent, model_id = _find_training(client, tags)
            if known and _resume(client, experiment, known):
                for key, value in origin.items():  # an experiment may resume another's training
                    client.set_tag(known, key, value)
            else:
                tags = parent | origin | tags
                known = client.create_run(experiment, tags=tags).info.run_id
                if model_id:
                    client.log_inputs(known, models=[LoggedModelInput(model_id)])
            lock = FileLock(workdir.cache_dir("running") / f"{known}.lock")
            lock.acquire()
            return Run(client, known, lock, model_id)
    except Exception as error:  # as in Run._attempt
        _warn(error)
        return Run(None, "", None)


def _resume(client: "MlflowClient", experiment: str, run_id: str) -> bool:
    """Continues a run; False: it is deleted, or in another experiment or store."""
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):
        run = client.get_run(run_id)
        if run.info.experiment_id == experiment:
            client.update_run(run_id, status="RUNNING")
            if "reason" in run.data.tags:  # of its last end
                client.delete_tag(run_id, "reason")
            return True
    return False


def _origin(name: str, stage: str) -> dict[str, str]:
    """Tags that lead from a run to git and DVC, without unknown ones.

    An experiment's commit does not exist yet: its name and the commit it started from identify it.
    """
    given, head = os.environ.get, ("rev-parse", "--verify", "--quiet", "HEAD")
    baseline = given("DVC_EXP_BASELINE_REV") or repository.git(*head).strip()
    known = {
        "mlflow.runName": name,
        "mlflow.source.name": f"src/{stage}.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": baseline,
        "dvc_experiment": given("DVC_EXP_NAME", ""),
        "dvc_baseline": baseline,
    }
    return {key: value for key, value in known.items() if value}


def _find_training(client: "MlflowClient", tags: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """For an evaluation: tags that nest it under the newest training with its model, and the id of
    that one's MLflow model; {} and "" for a training, or without one."""
    query = f"tags.stage = 'train' and tags.model_digest = '{tags.get('model_digest')}'"
    found = search(client, query) if "model_digest" in tags else []
    if not found:
        return {}, ""
    models = found[0].outputs.model_outputs if found[0].outputs else []
    data = {key: tag for key, tag in found[0].data.tags.items() if key == "data_digest"}
    nested = {"mlflow.parentRunId": found[0].info.run_id, **data}
    return nested, models[-1].model_id if models else ""


def _end_killed_runs(client: "MlflowClient") -> None:
    """Ends as KILLED the RUNNING runs of this folder whose process holds no lock any more."""
    from mlflow.exceptions import MlflowException

    for path in workdir.cache_dir("running").glob("*.lock"):
        # Timeout: it runs. MlflowException: it is in another store.
        with contextlib.suppress(Timeout, MlflowException):
            with FileLock(path, timeout=0):
                info = client.get_run(path.stem).info
                if info.status == "RUNNING" and info.lifecycle_stage == "active":
                    client.set_tag(path.stem, "reason", "the process died (SIGKILL?)")
                    client.set_terminated(path.stem, "KILLED")
            path.unlink(missing_ok=True)


def _warn(error: Exception) -> None:
    # It may hold a server's text.
    print(printable(f"warning: {failure(error)} metrics/*.json are complete."), file=sys.stderr)
