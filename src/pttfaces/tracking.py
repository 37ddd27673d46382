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
from pttfaces.errors import DataError, printable
from pttfaces.mlflow_store import failure, open_store, search, store_uri
from pttfaces.provenance import Provenance

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

MODEL = "pttfaces-ddpm"
TRAINING_IMAGES = "training_pictures.txt"  # artifact of a training: their file names, one a line
UNCOMMITTED = "uncommitted.diff"  # artifact of a run from an edited tree
_NO_WARNING = "no warning"
_DIGEST_LENGTH = 32  # MLflow's limit for a data set is 36; the tags have all digits


class Run:
    """One MLflow run. No method raises: after the first failure they have no effect, except
    `end`, which tries once more, since a server may have come back.

    lock: held as long as this process lives; see `_end_killed_runs`. model_id: of the MLflow model
    that the metrics are of, "" while there is none.
    """

    def __init__(
        self, client: "MlflowClient | None", run_id: str, lock: FileLock | None, model_id: str = ""
    ) -> None:
        self._client, self.id, self._lock, self._failed = client, run_id, lock, False
        self._model_id = model_id

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Parameters, such as {"train.batch_size": 16}."""
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in values.items()]
        self._attempt(lambda client: client.log_batch(self.id, params=params))

    def log_metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Metrics at a step (an epoch, or 0); None and values that are not finite are left out."""
        from mlflow.entities import Metric

        known = {key: value for key, value in values.items() if value is not None}
        now = int(time.time() * 1000)
        metrics = [
            Metric(key, float(value), now, step, self._model_id or None)
            for key, value in known.items()
            if math.isfinite(value)
        ]
        self._attempt(lambda client: client.log_batch(self.id, metrics=metrics))

    def log_tags(self, values: Mapping[str, str]) -> None:
        """Tags, such as {"data_digest": "…"}."""
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
                _register(client, self.id, self._model_id, digest)

        self.log_tags({"model_digest": digest})
        self._attempt(log)

    def log_copy_warning(self, warning: str | None) -> None:
        """Tags an evaluation and its model's versions with its warning of copies, or with none."""
        self.log_tags({"copies": warning or _NO_WARNING})
        self._attempt(_mark_copies)

    def move_best(self, distance: str, comparable: Sequence[str]) -> None:
        """Gives the alias `best` to the version whose metric `distance` is the lowest.

        Only versions whose evaluations equal this one in the tags `comparable` count; models with
        an evaluation that warns are left out, since copies lower the distance. If none is left, a
        version with a warning loses the alias.
        """
        self._attempt(lambda client: _move_best(client, self.id, distance, comparable))

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

    run_file keeps the run's id, so that a training that was killed resumes its run.
    """
    tags = {"stage": "train", "data_digest": data_digest}
    options = params.train
    what = f"{params.noise_schedule}, {options.prediction}, {options.epochs} epochs"
    name = _name(os.environ.get("DVC_EXP_NAME", "train"), what, params, data_digest)
    with _run(name, params, tags, run_file) as run, _system_metrics(run):
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


@contextmanager
def _system_metrics(run: Run) -> Iterator[None]:
    """Logs the use of GPU, CPU and memory, if nvidia-ml-py is installed (the group gpu)."""
    with contextlib.ExitStack() as stack:
        if run.id and importlib.util.find_spec("pynvml"):
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            with contextlib.suppress(Exception):  # these metrics are optional
                monitor = SystemMetricsMonitor(run.id, True, tracking_uri=store_uri())
                monitor.start()
                stack.callback(monitor.finish)
        yield


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
            training = _training_of(client, tags)
            model_id = _model_of(training)
            if known and _resume(client, experiment, known):
                for key, value in origin.items():  # an experiment may resume another's training
                    client.set_tag(known, key, value)
            else:
                tags = _parent(training) | origin | tags
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


def _training_of(client: "MlflowClient", tags: Mapping[str, str]) -> "MlflowRun | None":
    """For an evaluation: the newest training with its model, if there is one."""
    digest = tags.get("model_digest")
    query = f"tags.stage = 'train' and tags.model_digest = '{digest}'"
    return next(iter(search(client, query)), None) if digest else None


def _parent(training: "MlflowRun | None") -> dict[str, str]:
    """Tags that nest an evaluation under a training."""
    if training is None:
        return {}
    data = {key: tag for key, tag in training.data.tags.items() if key == "data_digest"}
    return data | {"mlflow.parentRunId": training.info.run_id}


def _model_of(training: "MlflowRun | None") -> str:
    """The id of the MLflow model that a training logged; "" without one."""
    models = training.outputs.model_outputs if training and training.outputs else []
    return models[-1].model_id if models else ""


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


def _register(client: "MlflowClient", run_id: str, model_id: str, digest: str) -> None:
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):  # it exists
        client.create_registered_model(MODEL)
    if client.search_model_versions(f"run_id = '{run_id}'"):
        return  # registered before a kill
    tags = {"model_digest": digest}
    # By its place: MLflow would look an address models:/… up in the store of the environment.
    source = client.get_logged_model(model_id).artifact_location
    client.create_model_version(MODEL, source, run_id, tags, model_id=model_id)
    _mark_copies(client)  # the same model may be known


def _mark_copies(client: "MlflowClient") -> dict[str, str]:
    """Sets the tag `copies` of all versions; returns the newest clean version of each model digest.

    The tag is the newest warning of the model's evaluations, or "no warning" if none warns: another
    sampler that copies less removes no warning. Deleted evaluations do not count.
    """
    copies: dict[str, str] = {}
    for run in search(client, "tags.stage = 'evaluate'"):
        digest, found = run.data.tags["model_digest"], run.data.tags.get("copies")
        if found and copies.get(digest, _NO_WARNING) == _NO_WARNING:
            copies[digest] = found
    versions = client.search_model_versions(f"name = '{MODEL}'")
    for version in versions:
        tag = copies.get(version.tags.get("model_digest", ""))
        if tag and version.tags.get("copies") != tag:
            client.set_model_version_tag(MODEL, version.version, "copies", tag)
    oldest_first = sorted(versions, key=lambda version: int(version.version))
    newest = {version.tags.get("model_digest", ""): version.version for version in oldest_first}
    return {digest: newest[digest] for digest in newest if copies.get(digest) == _NO_WARNING}


def _move_best(
    client: "MlflowClient", run_id: str, distance: str, comparable: Sequence[str]
) -> None:
    clean, run = _mark_copies(client), client.get_run(run_id)
    tags = {"stage": "evaluate", "copies": _NO_WARNING}
    tags |= {key: run.data.tags[key] for key in comparable}
    query = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
    order = [f"metrics.{distance} ASC"]
    for other in client.search_runs([run.info.experiment_id], query, order_by=order):
        if distance in other.data.metrics and other.data.tags["model_digest"] in clean:
            version = clean[other.data.tags["model_digest"]]
            client.set_registered_model_alias(MODEL, "best", version)
            return
    for model in client.search_registered_models(f"name = '{MODEL}'"):
        best = model.aliases.get("best")
        copies = client.get_model_version(MODEL, best).tags.get("copies") if best else None
        if copies not in (None, _NO_WARNING):
            client.delete_registered_model_alias(MODEL, "best")


def _warn(error: Exception) -> None:
    text = str(error) if isinstance(error, DataError) else failure(error)
    # It may hold a server's text.
    print(printable(f"warning: {text} metrics/*.json are complete."), file=sys.stderr)
