"""Finds MLflow's store and what it has of this project: experiments and runs."""

import atexit
import contextlib
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from pttfaces import files, workdir
from pttfaces.errors import DataError, first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

EXPERIMENT = "pttfaces"
MAX_RESULTS = 50_000  # that MLflow returns at once
_STARTS = "the next training or evaluation starts a new one (`dvc repro`)"

# A server that does not answer costs a warning, not the minutes of MLflow's default retries.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # of every small file
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # a new database needs no line


def store_uri() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite database in the main repository.

    A relative path in it starts at the main repository, not at a temporary clone.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    scheme, found, path = given.partition("sqlite:///")
    if found and not scheme and not path.startswith("file:") and not Path(path).is_absolute():
        root = workdir.root().resolve().as_posix()
        # In a URI, these three do not stand for themselves.
        quoted = re.sub("[%?#]", lambda found: quote(found[0]), root)
        if quoted != root:
            atexit.register(_remove_stray_folder, quoted)
        return f"sqlite:///{quoted}/{path}"
    return given


def _remove_stray_folder(path: str) -> None:
    """Removes the empty folder that MLflow makes by the path as it is in the URI."""
    with contextlib.suppress(OSError):
        os.removedirs(path)


def store_exists() -> bool:
    """Whether there is a store; one of MLflow's clients would make it."""
    path = _database()
    return path is None or path.exists()


def _database() -> Path | None:
    """The file of a SQLite store; None for any other."""
    _, found, path = store_uri().partition("sqlite:///")
    return Path(unquote(path.partition("?")[0].removeprefix("file:"))) if found else None


def _artifact_root() -> str:
    """Where a new experiment's files are: beside the database, which several folders may share."""
    path = _database()
    return ((path.parent if path else workdir.root()) / "mlruns").resolve().as_uri()


def _was_moved(experiment: "Experiment") -> bool:
    """Whether this folder's store was moved or copied since the experiment began."""
    path, location = _database(), experiment.artifact_location
    if path is None or path.parent != workdir.root().resolve():
        return False  # a store for several folders
    is_ours = location.startswith("file:") and location.endswith("/mlruns")
    return is_ours and location != _artifact_root()


def artifact_uri(run: "Run", experiment: "Experiment") -> str:
    """Where a run's artifacts are, also after this folder was moved or copied."""
    uri = str(run.info.artifact_uri)
    begin = experiment.artifact_location
    return _artifact_root() + uri.removeprefix(begin) if _was_moved(experiment) else uri


def experiments(client: "MlflowClient") -> "list[Experiment]":
    """The project's experiments: also renamed and deleted ones."""
    from mlflow.entities import ViewType

    return [
        one
        for one in client.search_experiments(ViewType.ALL, MAX_RESULTS)
        if one.name.startswith(EXPERIMENT) or one.tags.get("project") == EXPERIMENT
    ]


def search(client: "MlflowClient", query: str = "") -> "list[Run]":
    """The project's runs, newest first, without deleted ones."""
    ids = [experiment.experiment_id for experiment in experiments(client)]
    order = ["attributes.start_time DESC"]
    return client.search_runs(ids, query, max_results=MAX_RESULTS, order_by=order)


def all_runs() -> "list[Run]":
    """All runs of the store, newest first; DataError: it has none, or does not answer."""
    from mlflow import MlflowClient

    if not store_exists():
        raise DataError(f"there is no history yet ({_database()}); {_STARTS}.")
    with explained():
        client = MlflowClient(store_uri())
        current, runs = client.get_experiment_by_name(EXPERIMENT), search(client)
    if current and current.lifecycle_stage != "active":
        raise DataError(_deleted(current))
    if not runs:
        raise DataError(f"the history in MLflow is empty; {_STARTS}.")
    return runs


def _deleted(experiment: "Experiment") -> str:
    number, uri = experiment.experiment_id, shlex.quote(store_uri())
    store = f" --backend-store-uri {uri} --tracking-uri {uri}" if _database() else ""
    return (
        f"MLflow's experiment {EXPERIMENT} has been deleted: `mlflow experiments restore "
        f"--experiment-id {number}` restores it with its runs; `mlflow gc --experiment-ids {number}"
        f"{store}` removes it for good, and a new one can start."
    )


def open_store() -> "tuple[MlflowClient, str]":
    """A client of the store, and the id of the project's experiment; makes what is missing."""
    from mlflow import MlflowClient

    path = _database()
    if path and not path.exists():
        # Made in another place first: MLflow cannot open a database that a kill left half made.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            new = Path(scratch, "mlflow.db")
            MlflowClient(f"sqlite:///{new.as_posix()}").search_experiments()
            files.write_bytes(path, new.read_bytes())
    client = MlflowClient(store_uri(), registry_uri=store_uri())
    found = client.get_experiment_by_name(EXPERIMENT)
    if found and found.lifecycle_stage != "active":
        raise DataError(_deleted(found))
    experiment = found.experiment_id if found else ""
    if found and _was_moved(found):
        name = f"{EXPERIMENT}-{experiment}"
        client.set_experiment_tag(experiment, "project", EXPERIMENT)
        client.rename_experiment(experiment, name)
        print(
            f"warning: this folder was moved or copied, so a new MLflow experiment {EXPERIMENT} "
            f"starts; earlier runs are in {name}, and their files in mlruns/.",
            file=sys.stderr,
        )
        experiment = ""
    if not experiment:
        # The default is the working folder, which may be a clone that is deleted.
        artifacts = None if store_uri().startswith("http") else _artifact_root()
        tags = {"mlflow.experimentKind": "custom_model_development"}  # how the UI opens it
        experiment = client.create_experiment(EXPERIMENT, artifacts, tags)
    client.set_experiment_tag(experiment, "project", EXPERIMENT)  # it may be renamed
    return client, experiment


@contextmanager
def explained() -> Iterator[None]:
    """Turns what a store raises in the block into a DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # of many kinds: SQLAlchemy's, requests', MLflow's
        raise DataError(failure(error)) from None


def failure(error: Exception) -> str:
    """What failed and what helps, without the password that an address may hold."""
    if isinstance(error, DataError):
        return str(error)
    path, cause = _database(), _cause(error)
    if path is None:
        remedy = "Check MLFLOW_TRACKING_URI, or start the server."
    elif "readonly" in cause or isinstance(error, PermissionError):
        command = ["chmod", "g+w", path, path.parent]
        if isinstance(error, PermissionError):
            command = ["chmod", "-R", "g+w", path.parent / "mlruns", workdir.root() / ".cache"]
        remedy = f"Let your group write: {shlex.join(map(str, command))}."
    elif isinstance(error, OSError):
        remedy = "Check the disk."
    else:
        remedy = f"If {path.name} is damaged, rename it; {_STARTS}."
    return without_password(f"MLflow at {store_uri()} failed ({cause}). {remedy}")


def without_password(text: str) -> str:
    """A text without the user names and passwords of its addresses."""
    return re.sub(r"(?<=://)[^/\s]+@", "", text)


def _cause(error: Exception) -> str:
    """The first line of what the store's driver says, if it is the reason of an error.

    What SQLAlchemy puts before it ("raised as a result of Query-invoked autoflush") names none.
    """
    reason: BaseException | None = error
    while reason is not None:
        if isinstance(original := getattr(reason, "orig", None), Exception):
            return first_line(original)
        reason = reason.__cause__ or reason.__context__
    return first_line(error)
