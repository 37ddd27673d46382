"""The history of runs in MLflow; used by stage scripts and by the commands that read it.

One run for each training and one for each evaluation, nested under the training that made the
model. Logging never breaks a stage: the first failure is told on stderr and the rest is skipped;
the stage's own metrics files are complete without it. A run whose process was killed ends as
KILLED when the next one starts.
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
TRAINING_PICTURES = "training_pictures.txt"  # artifact of a training: their file names, one a line
_NO_WARNING = "no warning"
_MOST_RUNS = 50_000  # that MLflow gives at once
_BEGINS = "the next training or evaluation begins one (`dvc repro`, where it has one to do)"

# A server that is away should cost a warning, not the minutes of MLflow's default retries.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # a new database is not news


class Run:
    """One MLflow run. No method raises: after the first failure they have no effect, but for
    `end`, which tries once more, so that a server that was away for a while learns of the end.

    alive: the lock that this process holds for as long as it lives; see `_end_killed_runs`.
    """

    def __init__(
        self, client: "MlflowClient | None", run_id: str, alive: FileLock | None = None
    ) -> None:
        self._client, self.id, self._alive = client, run_id, alive
        self._failed = client is None

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Parameters, such as {"train.batch_size": 16}."""
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in values.items()]
        self._attempt(lambda client: client.log_batch(self.id, params=params))

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
        self._attempt(lambda client: client.log_batch(self.id, metrics=metrics))

    def log_tags(self, values: Mapping[str, str]) -> None:
        """Tags, such as {"data_digest": "…"}."""
        from mlflow.entities import RunTag

        tags = [RunTag(key, value) for key, value in values.items()]
        self._attempt(lambda client: client.log_batch(self.id, tags=tags))

    def log_picture(self, path: str | Path, name: str) -> None:
        """A file as an artifact called `name`, such as "samples/epoch-0006.png"."""
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

        told = self._client is not None and self._safely(close, self._client)
        if self._alive:
            self._alive.release()
            if told:  # else the next run finds the file and ends this one
                Path(self._alive.lock_file).unlink(missing_ok=True)

    def log_verdict(self, warning: str | None) -> None:
        """Whether an evaluation warns of copies: on the run, and on the model's versions.

        A version stays marked while any evaluation of its model that the store has warns: another
        sampler that copies less takes nothing back.
        """
        self.log_tags({"copies": warning or _NO_WARNING})

        def tag(client: "MlflowClient") -> None:
            run = client.get_run(self.id)
            _judged(client, run.info.experiment_id, run.data.tags["model_digest"], warning)

        self._attempt(tag)

    def move_best(self, distance: str, comparable: Sequence[str]) -> None:
        """Gives the alias `best` to the version whose metric `distance` is the lowest.

        Among the versions with evaluations like this one, equal in the tags `comparable`; models
        of which any evaluation warns are left out, since copies lower the distance. Where none is
        left, a version that is marked loses the alias.
        """

        def move(client: "MlflowClient") -> None:
            run = client.get_run(self.id)
            experiment = run.info.experiment_id
            tags = {"stage": "evaluate", "copies": _NO_WARNING}
            tags |= {key: run.data.tags[key] for key in comparable}
            query = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
            order = [f"metrics.{distance} ASC"]  # those without it come last
            asked: set[str] = set()
            for other in client.search_runs([experiment], query, order_by=order):
                model = other.data.tags["model_digest"]
                if distance not in other.data.metrics:
                    break
                if model in asked:
                    continue
                asked.add(model)
                verdict, versions = _judged(client, experiment, model)
                if verdict == _NO_WARNING and versions:
                    newest = max(versions, key=lambda one: int(one.version))
                    client.set_registered_model_alias(MODEL, "best", newest.version)
                    return
            _withdraw_best(client, experiment)

        self._attempt(move)

    def _attempt(self, action: Callable[["MlflowClient"], Any]) -> None:
        if self._client is not None and not self._failed:
            self._safely(action, self._client)

    def _safely(self, action: Callable[["MlflowClient"], Any], client: "MlflowClient") -> bool:
        try:
            action(client)
        except Exception as error:  # whatever ails the store, a stage must not die of it
            if not self._failed:
                _warn(error)
            self._failed = True
            return False
        return True


@contextmanager
def training_run(params: Params, data_digest: str, run_file: Path) -> Iterator[Run]:
    """The run of a training: all parameters, then whatever the caller logs.

    run_file keeps the run's id, so that a training that was killed goes on in its own run.
    """
    name = os.environ.get("DVC_EXP_NAME", "train")
    tags = {"stage": "train", "data_digest": data_digest}
    with _run(name, params, tags, run_file) as run, _device_use(run):
        yield run


@contextmanager
def _device_use(run: Run) -> Iterator[None]:
    """Lets MLflow note the use of GPU, CPU and memory meanwhile, where nvidia-ml-py is installed
    (the dependency group gpu)."""
    monitor = None
    if run.id and importlib.util.find_spec("pynvml"):
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        with contextlib.suppress(Exception):  # its figures are a help, not a result
            monitor = SystemMetricsMonitor(run.id, resume_logging=True, tracking_uri=store_uri())
            monitor.start()
    try:
        yield
    finally:
        if monitor:
            monitor.finish()


@contextmanager
def evaluation_run(params: Params, model_digest: str, run_file: Path) -> Iterator[Run]:
    """The run of a generate + evaluate, nested under the newest training with that model.

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
    if run.id != known:  # new, or new here
        run.log_params(params.flat())
        run.log_picture("params.yaml", "params.yaml")
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
    """Starts a run, or goes on with the known one where the store still has it."""
    from mlflow.exceptions import MlflowException

    try:
        # One process after the other: those that make a fresh database at the same time crash in
        # each other's migrations, and a run must not look killed before its process holds its lock.
        with FileLock(workdir.cache_dir("locks") / "mlflow.lock"):
            client, experiment = _store()
            _end_killed_runs(client)
            if known:
                # Deleted, or another store since: then a new run it is.
                with contextlib.suppress(MlflowException):
                    client.update_run(known, status="RUNNING")
                    if "reason" in client.get_run(known).data.tags:  # why it was left last time
                        client.delete_tag(known, "reason")
                    return Run(client, known, _alive(known))
            if parent_digest and (parent := _training_of(client, experiment, parent_digest)):
                tags = tags | {"mlflow.parentRunId": parent.info.run_id}
                if "data_digest" in parent.data.tags:
                    tags["data_digest"] = parent.data.tags["data_digest"]
            run_id = client.create_run(experiment, tags=tags | _origin(name, tags)).info.run_id
            return Run(client, run_id, _alive(run_id))
    except Exception as error:  # as in Run._safely
        _warn(error)
        return Run(None, "")


def _origin(name: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that lead from a run to git and DVC; what is not known is left out.

    The commit of an experiment does not exist while its stages run: its name and the commit that
    it started from are what is known of it.
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


def _alive(run_id: str) -> FileLock:
    """A lock named after store and run, held until `Run.end` or, however it ends, this process."""
    lock = FileLock(workdir.cache_dir("running") / _lock_name(run_id))
    lock.acquire()
    return lock


def _lock_name(run_id: str) -> str:
    return f"{files.digest_json(store_uri())[:8]}-{run_id}.lock"


def _end_killed_runs(client: "MlflowClient") -> None:
    """Ends as KILLED what this repository left RUNNING in this store and no process works on.

    Other machines' runs in a shared store are not touched: their locks lie in their repositories.
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
                client.set_tag(run_id, "reason", "its process ended without a word (kill -9?)")
                client.set_terminated(run_id, "KILLED", end_time=_last_sign(client, run))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # deleted meanwhile
                raise
        finally:
            lock.release()
        path.unlink(missing_ok=True)


def _last_sign(client: "MlflowClient", run: Any) -> int:
    """When the run logged its last figure, in ms; its start where it logged none."""
    histories = (client.get_metric_history(run.info.run_id, key) for key in run.data.metrics)
    stamps = [point.timestamp for history in histories for point in history]
    return max([run.info.start_time, *stamps])


def _store() -> tuple["MlflowClient", str]:
    """A client of the one store, and the id of this project's experiment in it."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    where = store_uri()
    _set_aside_if_damaged(where)
    _make_whole(where)
    client = MlflowClient(where, registry_uri=where)
    follow_the_folder(client)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        served = where.startswith(("http://", "https://"))
        # Pinned here: the default is the working folder, which may be a clone that is deleted.
        place = None if served else _artifacts_here()
        try:
            tags = {"mlflow.experimentKind": "custom_model_development"}  # how the UI opens it
            return client, client.create_experiment(EXPERIMENT, place, tags)
        except MlflowException as error:  # another machine's process was quicker
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
    named = files.digest_json([where, experiment.experiment_id])[:16]
    noted = workdir.cache_dir("mlflow") / f"trash-{named}.json"
    if experiment.lifecycle_stage != "active" or noted.exists():
        _restore(client, experiment.experiment_id, noted)
    return client, experiment.experiment_id


def _artifacts_here() -> str:
    return (workdir.root() / "mlruns").resolve().as_uri()


def follow_the_folder(client: "MlflowClient") -> None:
    """Lets the store in this folder know where its artifacts lie after the folder was moved or
    copied; else what is logged from now on would go where it was, and be deleted there.

    MLflow has no call for it.
    """
    path, place = _database(store_uri()), _artifacts_here()
    if path is None or path.parent != workdir.root().resolve():
        return
    experiment = client.get_experiment_by_name(EXPERIMENT)
    before = experiment.artifact_location if experiment else place
    if before == place or not before.endswith("/mlruns"):
        return
    columns = ("runs.artifact_uri", "model_versions.source", "model_versions.storage_location")
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?",
            (place, before),
        )
        for table, column in (name.split(".") for name in columns):
            database.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE substr({column}, 1, ?) = ?",
                (place, len(before) + 1, len(before) + 1, f"{before}/"),
            )


def _restore(client: "MlflowClient", experiment: str, noted: Path) -> None:
    """Takes the deleted experiment out of the trash and leaves its runs there.

    Its name stays taken while it is there, so that no run could begin; and whoever deleted it
    wanted to be rid of what it held, not of what comes. noted: where the runs are written down
    first, so that after a kill the rest of them is put back into the trash.
    """
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    if not noted.exists():
        found = client.search_runs([experiment], run_view_type=ViewType.ALL, max_results=_MOST_RUNS)
        files.write_json(noted, [run.info.run_id for run in found])
    # Its runs come with it. Another machine may have been quicker.
    with contextlib.suppress(MlflowException):
        client.restore_experiment(experiment)
    trash = files.read_json(noted)
    for run in trash:
        with contextlib.suppress(MlflowException):  # in it already
            client.delete_run(run)
    noted.unlink()
    print(
        f"warning: MLflow's experiment {EXPERIMENT} had been deleted; it is there again for what "
        f"runs from now on, and its {len(trash)} earlier runs stay deleted (docs/experiments.md "
        "says how they come back).",
        file=sys.stderr,
    )


def _set_aside_if_damaged(where: str) -> None:
    """Renames a SQLite file that is no sound database any more, so that the history goes on."""
    path = _database(where)
    if path is None or not path.is_file() or not path.stat().st_size:
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            sound = database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.OperationalError:  # somebody writes to it just now
        return
    except sqlite3.DatabaseError:
        sound = False
    if not sound:
        numbers = itertools.count(1)
        names = (path.with_name(f"{path.name}.damaged-{number}") for number in numbers)
        aside = next(name for name in names if not name.exists())
        path.rename(aside)
        print(
            f"warning: {path} is damaged; it is {aside.name} now, and a new history begins "
            "(`sqlite3 DAMAGED .recover` may bring back what is left of it).",
            file=sys.stderr,
        )


def _make_whole(where: str) -> None:
    """Makes a SQLite store that is not there yet, under its name only when it is whole: one that a
    kill left half made could never be opened again."""
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    path = _database(where)
    if path is None or path.exists():
        return
    half = path.with_name(f"{path.name}.new")
    half.unlink(missing_ok=True)
    engine = create_sqlalchemy_engine(f"sqlite:///{half.as_posix()}")
    _initialize_tables(engine)
    engine.dispose()
    half.replace(path)


def store_uri() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite database in the main repository.

    A relative path in it counts from the main repository, not from a temporary clone.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    scheme, found, path = given.partition("sqlite:///")
    if found and not scheme:
        return f"sqlite:///{(workdir.root().resolve() / path).as_posix()}"
    return given


def store_exists() -> bool:
    """Whether there is a store; asking one of MLflow's clients would make it."""
    path = _database(store_uri())
    return path is None or path.exists()


def _database(where: str) -> Path | None:
    """The file of a SQLite store; None for any other."""
    path = where.removeprefix("sqlite:///")
    return Path(path) if path != where else None


def recorded() -> list["RecordedRun"]:
    """All runs of the store, newest first; DataError where there is none or it does not answer."""
    from mlflow import MlflowClient

    where = store_uri()
    if not store_exists():
        raise DataError(f"there is no history yet ({_database(where)}); {_BEGINS}.")
    found: list[RecordedRun] = []
    try:
        client = MlflowClient(where)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment:
            found = client.search_runs([experiment.experiment_id], max_results=_MOST_RUNS)
    except Exception as error:  # of many kinds: SQLAlchemy's, requests', MLflow's
        raise DataError(
            f"{_away(error)}; check MLFLOW_TRACKING_URI, or start the server."
        ) from None
    if experiment and experiment.lifecycle_stage != "active":
        raise DataError(
            f"MLflow's experiment {EXPERIMENT} has been deleted; `mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}` brings it back with its runs, and the "
            "next training or evaluation without them."
        )
    if not found:
        raise DataError(f"the history at {_named(where)} is empty; {_BEGINS}.")
    return found


def _training_of(client: "MlflowClient", experiment: str, model_digest: str) -> Any:
    """The newest training with that model; None where there is none."""
    runs = client.search_runs(
        [experiment],
        f"tags.stage = 'train' and tags.model_digest = '{model_digest}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return runs[0] if runs else None


def _versions_of(client: "MlflowClient", model_digest: str) -> "list[ModelVersion]":
    """The registered versions that are this model."""
    query = f"name = '{MODEL}' and tags.model_digest = '{model_digest}'"
    return list(client.search_model_versions(query))


def _judged(
    client: "MlflowClient", experiment: str, model_digest: str, warning: str | None = None
) -> "tuple[str | None, list[ModelVersion]]":
    """A model's verdict and its versions, which carry it as the tag `copies` from now on.

    The verdict is a warning where any of its evaluations warns, the newest first; None where none
    has come to one. Deleted runs do not count. warning: one to be preferred.
    """
    evaluations = client.search_runs(
        [experiment],
        f"tags.stage = 'evaluate' and tags.model_digest = '{model_digest}'",
        order_by=["attributes.start_time DESC"],
        max_results=_MOST_RUNS,
    )
    said = [run.data.tags["copies"] for run in evaluations if "copies" in run.data.tags]
    warnings = [verdict for verdict in said if verdict != _NO_WARNING]
    verdict = warning or next(iter(warnings or said), None)
    versions = _versions_of(client, model_digest)
    for version in versions:
        if verdict and version.tags.get("copies") != verdict:
            client.set_model_version_tag(MODEL, version.version, "copies", verdict)
    return verdict, versions


def _withdraw_best(client: "MlflowClient", experiment: str) -> None:
    """Takes the alias `best` from a version of which an evaluation warns."""
    registered = client.search_registered_models(f"name = '{MODEL}'")
    held = registered[0].aliases.get("best") if registered else None
    if held is None:
        return
    tags = client.get_model_version(MODEL, held).tags
    verdict = tags.get("copies")
    if "model_digest" in tags:  # registered by this program
        verdict = _judged(client, experiment, tags["model_digest"])[0] or verdict
    if verdict not in (None, _NO_WARNING):
        client.delete_registered_model_alias(MODEL, "best")


def _register(client: "MlflowClient", run_id: str, digest: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if any(version.run_id == run_id for version in _versions_of(client, digest)):
        return  # before a kill
    run = client.get_run(run_id)
    source = f"{run.info.artifact_uri}/model"
    client.create_model_version(MODEL, source, run_id, tags={"model_digest": digest})
    _judged(client, run.info.experiment_id, digest)  # evaluated before: a training done once more


def _warn(error: Exception) -> None:
    warning = f"warning: {_away(error)}; the figures are in metrics/ all the same."
    print(printable(warning), file=sys.stderr)  # a server's own words


def _away(error: Exception) -> str:
    first = str(error).strip().splitlines() or [type(error).__name__]
    return _named(f"MLflow at {store_uri()} does not take or give this ({first[0]})")


def _named(text: str) -> str:
    """Without the password that a server's address may hold: https://name:password@host"""
    return re.sub(r"(?<=://)[^/\s]+@", "", text)
