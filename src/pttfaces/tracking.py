"""Records trainings and evaluations as runs in MLflow, and reads them.

One run for each training and one for each evaluation, nested under the training that made the
model. Logging never breaks a stage: the first failure prints a warning and the rest is skipped; the
stage's own metrics files are complete without it. A run whose process was killed ends as KILLED
when the next one starts.
"""

import contextlib
import importlib.util
import itertools
import math
import os
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pttfaces import files, repository, workdir
from pttfaces.config import Params
from pttfaces.errors import DataError, printable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as RecordedRun
    from mlflow.entities.model_registry import ModelVersion

EXPERIMENT = "pttfaces"
MODEL = "pttfaces-ddpm"
TRAINING_IMAGES = "training_pictures.txt"  # artifact of a training: their file names, one a line
_NO_WARNING = "no warning"
_MAX_RUNS = 50_000  # that MLflow returns at once
_STARTS = "the next training or evaluation starts one (`dvc repro`)"

# A server that does not answer costs a warning, not the minutes of MLflow's default retries.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # a new database needs no line


class Run:
    """One MLflow run. No method raises: after the first failure they have no effect, except
    `end`, which tries once more, since a server may have come back.

    lock: held by this process as long as it lives; see `_end_killed_runs`.
    """

    def __init__(
        self, client: "MlflowClient | None", run_id: str, lock: FileLock | None = None
    ) -> None:
        self._client, self.id, self._lock = client, run_id, lock
        self._failed = client is None

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Parameters, such as {"train.batch_size": 16}."""
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in values.items()]
        self._attempt(lambda client: client.log_batch(self.id, params=params))

    def log_metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Metrics at a step (an epoch, or 0); None and values that are not finite are left out."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        metrics = [
            Metric(key, float(value), now, step)
            for key, value in values.items()
            if value is not None and math.isfinite(value)
        ]
        self._attempt(lambda client: client.log_batch(self.id, metrics=metrics))

    def log_tags(self, values: Mapping[str, str]) -> None:
        """Tags, such as {"data_digest": "…"}."""
        from mlflow.entities import RunTag

        tags = [RunTag(key, value) for key, value in values.items()]
        self._attempt(lambda client: client.log_batch(self.id, tags=tags))

    def log_image(self, path: str | Path, name: str) -> None:
        """An image file as an artifact called `name`, such as "samples/epoch-0006.png"."""
        folder, _, base = name.rpartition("/")

        def log(client: "MlflowClient") -> None:
            with tempfile.TemporaryDirectory() as scratch:
                copy = Path(scratch) / base
                shutil.copyfile(path, copy)
                client.log_artifact(self.id, str(copy), folder or None)

        self._attempt(log)

    def log_text(self, text: str, name: str) -> None:
        """A text as an artifact called `name`, such as "training_pictures.txt"."""
        self._attempt(lambda client: client.log_text(self.id, text, name))

    def log_model(self, folder: Path, digest: str, register: bool) -> None:
        """A model folder as the artifact `model`, its digest as a tag; registers a version."""
        self.log_tags({"model_digest": digest})
        self._attempt(lambda client: client.log_artifacts(self.id, str(folder), "model"))
        if register:
            self._attempt(lambda client: _register(client, self.id, digest))

    def end(self, status: str, reason: str = "") -> None:
        """Ends the run as FINISHED, FAILED or KILLED, with the reason as a tag."""

        def close(client: "MlflowClient") -> None:
            if reason:
                client.set_tag(self.id, "reason", reason)
            client.set_terminated(self.id, status)

        closed = self._client is not None and self._succeeds(close, self._client)
        if self._lock:
            self._lock.release()
            if closed:  # otherwise the next run finds the file and ends this one
                Path(self._lock.lock_file).unlink(missing_ok=True)

    def log_copy_warning(self, warning: str | None) -> None:
        """Tags an evaluation and its model's versions with the warning of copies, or with none.

        A version keeps its warning while the store has an evaluation of its model that warns:
        another sampler that copies less does not remove it.
        """
        self.log_tags({"copies": warning or _NO_WARNING})

        def tag(client: "MlflowClient") -> None:
            run = client.get_run(self.id)
            digest = run.data.tags["model_digest"]
            _update_copy_tags(client, run.info.experiment_id, digest, warning)

        self._attempt(tag)

    def move_best(self, distance: str, comparable: Sequence[str]) -> None:
        """Gives the alias `best` to the version whose metric `distance` is the lowest.

        Only versions whose evaluations equal this one in the tags `comparable` count; models with
        an evaluation that warns are left out, since copies lower the distance. If none is left, a
        version with a warning loses the alias.
        """

        def move(client: "MlflowClient") -> None:
            run = client.get_run(self.id)
            experiment = run.info.experiment_id
            tags = {"stage": "evaluate", "copies": _NO_WARNING}
            tags |= {key: run.data.tags[key] for key in comparable}
            query = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
            order = [f"metrics.{distance} ASC"]  # those without it come last
            seen: set[str] = set()
            for other in client.search_runs([experiment], query, order_by=order):
                model = other.data.tags["model_digest"]
                if distance not in other.data.metrics:
                    break
                if model in seen:
                    continue
                seen.add(model)
                copies, versions = _update_copy_tags(client, experiment, model)
                if copies == _NO_WARNING and versions:
                    newest = max(versions, key=lambda version: int(version.version))
                    client.set_registered_model_alias(MODEL, "best", newest.version)
                    return
            _withdraw_best(client, experiment)

        self._attempt(move)

    def _attempt(self, action: Callable[["MlflowClient"], Any]) -> None:
        if self._client is not None and not self._failed:
            self._succeeds(action, self._client)

    def _succeeds(self, action: Callable[["MlflowClient"], Any], client: "MlflowClient") -> bool:
        try:
            action(client)
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
    name = os.environ.get("DVC_EXP_NAME", "train")
    tags = {"stage": "train", "data_digest": data_digest}
    with _run(name, params, tags, run_file) as run, _system_metrics(run):
        yield run


@contextmanager
def _system_metrics(run: Run) -> Iterator[None]:
    """Lets MLflow log the use of GPU, CPU and memory during the block, if nvidia-ml-py is installed
    (the dependency group gpu)."""
    monitor = None
    if run.id and importlib.util.find_spec("pynvml"):
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        with contextlib.suppress(Exception):  # these metrics are optional
            monitor = SystemMetricsMonitor(run.id, resume_logging=True, tracking_uri=store_uri())
            monitor.start()
    try:
        yield
    finally:
        if monitor:
            monitor.finish()


@contextmanager
def evaluation_run(params: Params, model_digest: str, run_file: Path) -> Iterator[Run]:
    """The run of an evaluation, nested under the newest training with that model.

    run_file: as for a training.
    """
    name = f"{params.infer_steps} steps, {params.generate.sampler}"
    tags = {"stage": "evaluate", "model_digest": model_digest}
    with _run(name, params, tags, run_file, parent_digest=model_digest) as run:
        yield run


@contextmanager
def _run(
    name: str,
    params: Params,
    tags: dict[str, str],
    run_file: Path,
    parent_digest: str | None = None,
) -> Iterator[Run]:
    known = run_file.read_text(encoding="utf-8", errors="replace") if run_file.exists() else None
    run = _start(name, tags, known, parent_digest)
    if run.id != known:
        run.log_params(params.flat())
        run.log_image("params.yaml", "params.yaml")
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


def _start(name: str, tags: dict[str, str], known: str | None, parent_digest: str | None) -> Run:
    """Starts a run, or resumes the known one if the store still has it."""
    from mlflow.exceptions import MlflowException

    try:
        # One process at a time: those that make a new database together crash in each other's
        # migrations, and a run must not look killed before its process holds its lock.
        with FileLock(workdir.cache_dir("locks") / "mlflow.lock"):
            client, experiment = _store()
            _end_killed_runs(client)
            if known:
                # Deleted, or in another store: then a new run starts.
                with contextlib.suppress(MlflowException):
                    client.update_run(known, status="RUNNING")
                    if "reason" in client.get_run(known).data.tags:  # of its last end
                        client.delete_tag(known, "reason")
                    return Run(client, known, _acquire_lock(known))
            if parent_digest and (parent := _training_of(client, experiment, parent_digest)):
                tags = tags | {"mlflow.parentRunId": parent.info.run_id}
                if "data_digest" in parent.data.tags:
                    tags["data_digest"] = parent.data.tags["data_digest"]
            run_id = client.create_run(experiment, tags=tags | _origin(name, tags)).info.run_id
            return Run(client, run_id, _acquire_lock(run_id))
    except Exception as error:  # as in Run._succeeds
        _warn(error)
        return Run(None, "")


def _origin(name: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that lead from a run to git and DVC, without unknown ones.

    An experiment's commit does not exist yet while its stages run: its name and the commit that it
    started from identify it.
    """
    baseline = (
        os.environ.get("DVC_EXP_BASELINE_REV")
        or repository.git("rev-parse", "--verify", "--quiet", "HEAD").strip()
    )
    known = {
        "mlflow.runName": name,
        "mlflow.source.name": f"src/{tags['stage']}.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": baseline,
        "dvc_experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc_baseline": baseline,
    }
    return {key: value for key, value in known.items() if value}


def _acquire_lock(run_id: str) -> FileLock:
    """A lock named after store and run, held until `Run.end` or until this process ends."""
    lock = FileLock(workdir.cache_dir("running") / _lock_name(run_id))
    lock.acquire()
    return lock


def _lock_name(run_id: str) -> str:
    return f"{files.digest_json(store_uri())[:8]}-{run_id}.lock"


def _end_killed_runs(client: "MlflowClient") -> None:
    """Ends as KILLED the RUNNING runs of this repository whose process holds no lock any more.

    Other machines' runs in a shared store are left alone: their locks are in their repositories.
    """
    from mlflow.exceptions import MlflowException

    for path in workdir.cache_dir("running").glob(_lock_name("*")):
        lock, run_id = FileLock(path), path.stem.partition("-")[2]
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        try:
            run = client.get_run(run_id)
            if run.info.status == "RUNNING" and run.info.lifecycle_stage == "active":
                client.set_tag(run_id, "reason", "the process died (SIGKILL?)")
                client.set_terminated(run_id, "KILLED", end_time=_last_activity(client, run))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # deleted meanwhile
                raise
        finally:
            lock.release()
        path.unlink(missing_ok=True)


def _last_activity(client: "MlflowClient", run: Any) -> int:
    """When the run logged its last metric, in ms; its start if it logged none."""
    histories = (client.get_metric_history(run.info.run_id, key) for key in run.data.metrics)
    stamps = [point.timestamp for history in histories for point in history]
    return max([run.info.start_time, *stamps])


def _store() -> tuple["MlflowClient", str]:
    """A client of the one store, and the id of this project's experiment in it."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = store_uri()
    _move_if_damaged(uri)
    _create_database(uri)
    client = MlflowClient(uri, registry_uri=uri)
    relocate_artifacts(client)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        served = uri.startswith(("http://", "https://"))
        # The default is the working folder, which may be a clone that is deleted.
        artifacts = None if served else _artifact_root()
        try:
            tags = {"mlflow.experimentKind": "custom_model_development"}  # how the UI opens it
            return client, client.create_experiment(EXPERIMENT, artifacts, tags)
        except MlflowException as error:  # another machine's process was faster
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
    key = files.digest_json([uri, experiment.experiment_id])[:16]
    deleted_runs = workdir.cache_dir("mlflow") / f"trash-{key}.json"
    if experiment.lifecycle_stage != "active" or deleted_runs.exists():
        _restore_experiment(client, experiment.experiment_id, deleted_runs)
    return client, experiment.experiment_id


def _artifact_root() -> str:
    return (workdir.root() / "mlruns").resolve().as_uri()


def relocate_artifacts(client: "MlflowClient") -> None:
    """Corrects the location of artifacts in this folder's store after it was moved or copied.

    Otherwise runs would write to the old folder, and deletions would delete there. MLflow has no
    call for it.
    """
    path, root = _database(store_uri()), _artifact_root()
    if path is None or path.parent != workdir.root().resolve():
        return
    experiment = client.get_experiment_by_name(EXPERIMENT)
    before = experiment.artifact_location if experiment else root
    if before == root or not before.endswith("/mlruns"):
        return
    columns = ("runs.artifact_uri", "model_versions.source", "model_versions.storage_location")
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?",
            (root, before),
        )
        for table, column in (name.split(".") for name in columns):
            database.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE substr({column}, 1, ?) = ?",
                (root, len(before) + 1, len(before) + 1, f"{before}/"),
            )


follow_the_folder = relocate_artifacts  # until erasure uses the new name


def _restore_experiment(client: "MlflowClient", experiment: str, deleted_runs: Path) -> None:
    """Takes the deleted experiment out of the trash and leaves its runs there.

    A deleted experiment's name stays taken, so that no run could start; and whoever deleted it
    wanted to remove its runs, not future ones. deleted_runs: a file that lists the runs, so that
    after a kill the rest of them returns to the trash.
    """
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    if not deleted_runs.exists():
        runs = client.search_runs([experiment], run_view_type=ViewType.ALL, max_results=_MAX_RUNS)
        files.write_json(deleted_runs, [run.info.run_id for run in runs])
    # Restores its runs, too. Another machine may have been faster.
    with contextlib.suppress(MlflowException):
        client.restore_experiment(experiment)
    trash = files.read_json(deleted_runs)
    for run in trash:
        with contextlib.suppress(MlflowException):  # deleted already
            client.delete_run(run)
    deleted_runs.unlink()
    print(
        f"warning: MLflow's experiment {EXPERIMENT} had been deleted and is restored for new runs; "
        f"its {len(trash)} earlier runs stay deleted (docs/experiments.md says how to restore "
        "them).",
        file=sys.stderr,
    )


def _move_if_damaged(uri: str) -> None:
    """Renames a damaged SQLite file, so that new runs can be recorded."""
    path = _database(uri)
    if path is None or not path.is_file() or not path.stat().st_size:
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            sound = database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.OperationalError:  # another process is writing
        return
    except sqlite3.DatabaseError:
        sound = False
    if not sound:
        numbers = itertools.count(1)
        names = (path.with_name(f"{path.name}.damaged-{number}") for number in numbers)
        moved = next(name for name in names if not name.exists())
        path.rename(moved)
        print(
            f"warning: {path} is damaged; it is renamed to {moved.name} and a new history starts "
            f"(`sqlite3 {moved.name} .recover` may restore what is left of it).",
            file=sys.stderr,
        )


def _create_database(uri: str) -> None:
    """Makes a missing SQLite store, under a temporary name until it is complete: MLflow could never
    open one that a kill left half made."""
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    path = _database(uri)
    if path is None or path.exists():
        return
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    engine = create_sqlalchemy_engine(f"sqlite:///{unfinished.as_posix()}")
    _initialize_tables(engine)
    engine.dispose()
    unfinished.replace(path)


def store_uri() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite database in the main repository.

    A relative path in it starts at the main repository, not at a temporary clone.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    scheme, found, path = given.partition("sqlite:///")
    if found and not scheme:
        return f"sqlite:///{(workdir.root().resolve() / path).as_posix()}"
    return given


def store_exists() -> bool:
    """Whether there is a store; one of MLflow's clients would make it."""
    path = _database(store_uri())
    return path is None or path.exists()


def _database(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other."""
    path = uri.removeprefix("sqlite:///")
    return Path(path) if path != uri else None


def all_runs() -> list["RecordedRun"]:
    """All runs of the store, newest first; DataError: it has none, or does not answer."""
    from mlflow import MlflowClient

    uri = store_uri()
    if not store_exists():
        raise DataError(f"there is no history yet ({_database(uri)}); {_STARTS}.")
    runs: list[RecordedRun] = []
    try:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment:
            runs = client.search_runs([experiment.experiment_id], max_results=_MAX_RUNS)
    except Exception as error:  # of many kinds: SQLAlchemy's, requests', MLflow's
        raise DataError(
            f"MLflow at {_without_password(uri)} does not answer ({_reason(error)}); check "
            "MLFLOW_TRACKING_URI, or start the server."
        ) from None
    if experiment and experiment.lifecycle_stage != "active":
        raise DataError(
            f"MLflow's experiment {EXPERIMENT} has been deleted; `mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}` restores it with its runs, and the next "
            "training or evaluation without them."
        )
    if not runs:
        raise DataError(f"the history at {_without_password(uri)} is empty; {_STARTS}.")
    return runs


def _training_of(client: "MlflowClient", experiment: str, model_digest: str) -> Any:
    """The newest training with that model; None if there is none."""
    runs = client.search_runs(
        [experiment],
        f"tags.stage = 'train' and tags.model_digest = '{model_digest}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return runs[0] if runs else None


def _versions_of(client: "MlflowClient", model_digest: str) -> "list[ModelVersion]":
    """The registered versions of this model."""
    query = f"name = '{MODEL}' and tags.model_digest = '{model_digest}'"
    return list(client.search_model_versions(query))


def _update_copy_tags(
    client: "MlflowClient", experiment: str, model_digest: str, warning: str | None = None
) -> "tuple[str | None, list[ModelVersion]]":
    """Sets the tag `copies` of a model's versions; returns its value and the versions.

    It is the newest warning of the model's evaluations, "no warning" if none warns, and None if
    none has ended. Deleted runs do not count. warning: takes precedence.
    """
    evaluations = client.search_runs(
        [experiment],
        f"tags.stage = 'evaluate' and tags.model_digest = '{model_digest}'",
        order_by=["attributes.start_time DESC"],
        max_results=_MAX_RUNS,
    )
    tags = [run.data.tags["copies"] for run in evaluations if "copies" in run.data.tags]
    warnings = [tag for tag in tags if tag != _NO_WARNING]
    copies = warning or next(iter(warnings or tags), None)
    versions = _versions_of(client, model_digest)
    for version in versions:
        if copies and version.tags.get("copies") != copies:
            client.set_model_version_tag(MODEL, version.version, "copies", copies)
    return copies, versions


def _withdraw_best(client: "MlflowClient", experiment: str) -> None:
    """Removes the alias `best` from a version with an evaluation that warns."""
    registered = client.search_registered_models(f"name = '{MODEL}'")
    best = registered[0].aliases.get("best") if registered else None
    if best is None:
        return
    tags = client.get_model_version(MODEL, best).tags
    copies = tags.get("copies")
    if "model_digest" in tags:  # registered by this program
        copies = _update_copy_tags(client, experiment, tags["model_digest"])[0] or copies
    if copies not in (None, _NO_WARNING):
        client.delete_registered_model_alias(MODEL, "best")


def _register(client: "MlflowClient", run_id: str, digest: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if any(version.run_id == run_id for version in _versions_of(client, digest)):
        return  # registered before a kill
    run = client.get_run(run_id)
    source = f"{run.info.artifact_uri}/model"
    client.create_model_version(MODEL, source, run_id, tags={"model_digest": digest})
    _update_copy_tags(client, run.info.experiment_id, digest)  # the same model may be known


def _warn(error: Exception) -> None:
    warning = (
        f"warning: MLflow logging to {_without_password(store_uri())} failed ({_reason(error)}). "
        "metrics/*.json are complete."
    )
    print(printable(warning), file=sys.stderr)  # it may hold a server's text


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _without_password(lines[0])


def _without_password(text: str) -> str:
    """Removes the password that a server's address may hold: https://name:password@host"""
    return re.sub(r"(?<=://)[^/\s]+@", "", text)
