"""The history in MLflow: real SQLite stores, real child processes."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from repository import Repository

from pttfaces import config, mlflow_model, mlflow_store, tracking
from pttfaces.errors import DataError

DEMO = config.load("presets/demo.yaml")
PRESET = Path("presets/demo.yaml").resolve()
SOURCE = str(PRESET.parent.parent / "src")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store; making one takes MLflow seconds, copying it none."""
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{database.as_posix()}").search_experiments()
    return database


@pytest.fixture
def empty_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_bytes(PRESET.read_bytes())
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def repository(empty_repository: Path, migrated: Path) -> Path:
    shutil.copy(migrated, empty_repository)
    return empty_repository


def store() -> tuple[MlflowClient, list[Any]]:
    client = MlflowClient(mlflow_store.store_uri())
    experiment = client.get_experiment_by_name(mlflow_store.EXPERIMENT)
    assert experiment is not None
    return client, client.search_runs([experiment.experiment_id])


def model_folder(base: Path, weights: bytes = b"weights") -> Path:
    folder = base / "best_model"
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(weights)
    return folder


def test_training_run_and_its_evaluations_are_nested_and_complete(repository: Path) -> None:
    with tracking.training_run(DEMO, "data-1", repository / ".resume/run") as run:
        for epoch in range(3):
            run.log_metrics({"train_loss": 1 / (epoch + 1), "val_loss": None}, step=epoch)
        run.log_model(model_folder(repository), "model-1", register=True)
    image = repository / "grid.png"
    image.write_bytes(b"png")
    for steps in (20, 100):
        changed = DEMO.model_copy(update={"infer_steps": steps})
        with tracking.evaluation_run(changed, "model-1", repository / f"run-{steps}") as run:
            run.log_metrics({"random_feature_distance": steps / 10, "nothing": float("nan")})
            run.log_file(image, "samples")

    client, runs = store()
    train = next(run for run in runs if run.data.tags["stage"] == "train")
    evaluations = [run for run in runs if run.data.tags["stage"] == "evaluate"]
    assert train.data.params["train.learning_rate"] == "0.001"
    assert train.data.tags["data_digest"] == "data-1"
    history = client.get_metric_history(train.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(0, 1), (1, 0.5), (2, 1 / 3)]
    assert {run.data.params["infer_steps"] for run in evaluations} == {"20", "100"}
    assert {run.data.tags["mlflow.parentRunId"] for run in evaluations} == {train.info.run_id}
    assert "nothing" not in evaluations[0].data.metrics
    assert {run.info.status for run in runs} == {"FINISHED"}
    artifacts = client.list_artifacts(evaluations[0].info.run_id, "samples")
    assert [artifact.path for artifact in artifacts] == ["samples/grid.png"]
    (version,) = client.search_model_versions(f"name = '{mlflow_model.REGISTERED}'")
    assert version.run_id == train.info.run_id
    downloaded = client.download_artifacts(train.info.run_id, "model/weights.bin")
    assert Path(downloaded).read_bytes() == b"weights"


def test_evaluation_run_without_a_known_training_has_no_parent(repository: Path) -> None:
    with tracking.evaluation_run(DEMO, "never trained here", repository / "run") as run:
        run.log_metrics({"random_feature_distance": 1.0})
    (run,) = store()[1]
    assert "mlflow.parentRunId" not in run.data.tags


def test_training_run_when_resumed_continues_the_same_run(repository: Path) -> None:
    run_file = repository / ".resume/run"
    with (
        pytest.raises(KeyboardInterrupt),
        tracking.training_run(DEMO, "data-1", run_file) as run,
    ):
        run.log_metrics({"train_loss": 1.0}, step=0)
        raise KeyboardInterrupt
    (killed,) = store()[1]
    assert killed.info.status == "KILLED"
    with tracking.training_run(DEMO, "data-1", run_file) as run:
        run.log_metrics({"train_loss": 0.5}, step=1)
    client, (resumed,) = store()
    assert resumed.info.status == "FINISHED"
    assert len(client.get_metric_history(resumed.info.run_id, "train_loss")) == 2


def test_training_run_with_a_damaged_run_file_starts_another_run(repository: Path) -> None:
    run_file = repository / "mlflow_run"
    run_file.write_bytes(b"0123456789\xffbcdef")
    with tracking.training_run(DEMO, "data-1", run_file) as run:
        run.log_metrics({"train_loss": 1.0}, step=0)
    (only,) = store()[1]
    assert only.info.status == "FINISHED"


def test_training_run_when_the_stage_fails_is_marked_failed_with_the_reason(
    repository: Path,
) -> None:
    with (
        pytest.raises(ValueError, match="no data"),
        tracking.training_run(DEMO, "data-1", repository / ".resume/run"),
    ):
        raise ValueError("no data")
    (run,) = store()[1]
    assert (run.info.status, run.data.tags["reason"]) == ("FAILED", "no data")


def test_training_run_in_a_temporary_workspace_is_logged_in_the_main_repository(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path_factory.mktemp("clone")
    (clone / "params.yaml").write_bytes(PRESET.read_bytes())
    monkeypatch.chdir(clone)
    monkeypatch.setenv("DVC_ROOT", str(repository))
    monkeypatch.setenv("DVC_EXP_NAME", "brave-cod")
    with tracking.training_run(DEMO, "data-1", repository / ".resume/run") as run:
        run.log_model(model_folder(clone), "model-1", register=False)
    (run,) = store()[1]
    assert run.data.tags["dvc_experiment"] == "brave-cod"
    assert [path.name for path in clone.glob("ml*")] == []
    assert any((repository / "mlruns").rglob("weights.bin"))


def test_evaluation_runs_of_four_processes_without_a_store_all_succeed(
    empty_repository: Path,
) -> None:
    program = textwrap.dedent("""
        import os, pathlib
        from pttfaces import config, tracking
        run_file = pathlib.Path(f"run-{os.getpid()}")
        with tracking.evaluation_run(config.load(), "m", run_file) as run:
            run.log_metrics({"random_feature_distance": 1.0})
    """)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": SOURCE},
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    said = [child.communicate()[1].decode() for child in children]
    assert not any("warning: MLflow" in text for text in said), said
    assert len(store()[1]) == 4


AT_WORK = textwrap.dedent("""
    import pathlib, sys, time
    from pttfaces import config, tracking
    with tracking.training_run(config.load(), "data-1", pathlib.Path(".resume/run")) as run:
        run.log_metrics({"train_loss": 1.0}, step=1)
        print("at work", flush=True)
        time.sleep(600)
""")


def test_evaluation_run_after_a_killed_training_marks_that_one_killed(
    repository: Path,
) -> None:
    """One that is still running is left alone."""
    command = [sys.executable, "-c", AT_WORK]
    environment = os.environ | {"PYTHONPATH": SOURCE}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "at work\n"
        with tracking.evaluation_run(DEMO, "m", repository / "one"):
            assert sorted(run.info.status for run in store()[1]) == ["RUNNING", "RUNNING"]
        assert sorted(run.info.status for run in store()[1]) == ["FINISHED", "RUNNING"]
    finally:
        child.kill()
        child.wait()
    with tracking.evaluation_run(DEMO, "m", repository / "another"):
        (killed,) = [run for run in store()[1] if run.data.tags["stage"] == "train"]
    assert killed.info.status == "KILLED"
    assert "SIGKILL" in killed.data.tags["reason"]
    with tracking.training_run(DEMO, "data-1", repository / ".resume/run"):
        pass  # the training goes on
    (resumed,) = [run for run in store()[1] if run.data.tags["stage"] == "train"]
    assert resumed.info.run_id == killed.info.run_id
    assert resumed.info.status == "FINISHED"
    assert "reason" not in resumed.data.tags
    assert list((repository / ".cache/running").iterdir()) == []


def test_runs_record_the_commit_data_and_experiment_they_belong_to(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    asked = ["git", "rev-parse", "HEAD"]
    head = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    with tracking.training_run(DEMO, "data-1", repository / ".resume/run") as run:
        run.log_model(model_folder(repository), "model-1", register=False)
    monkeypatch.setenv("DVC_EXP_NAME", "brave-cod")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "c0ffee")
    with tracking.evaluation_run(DEMO, "model-1", repository / "run"):
        pass
    client, runs = store()
    train, evaluation = sorted((run for run in runs), key=lambda run: run.data.tags["stage"])[::-1]
    assert train.data.tags["dvc_baseline"] == train.data.tags["mlflow.source.git.commit"] == head
    assert "dvc_experiment" not in train.data.tags
    assert evaluation.data.tags["dvc_baseline"] == "c0ffee"
    assert evaluation.data.tags["dvc_experiment"] == "brave-cod"
    assert evaluation.data.tags["data_digest"] == "data-1"
    for run in runs:
        copy = client.download_artifacts(run.info.run_id, "params.yaml")
        assert Path(copy).read_bytes() == PRESET.read_bytes()


def test_store_uri_that_is_relative_counts_from_the_main_repository(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(repository))
    clone = tmp_path_factory.mktemp("clone")
    (clone / "params.yaml").write_bytes(PRESET.read_bytes())
    monkeypatch.chdir(clone)
    with tracking.evaluation_run(DEMO, "m", repository / "run"):
        pass
    assert len(mlflow_store.all_runs()) == 1
    assert list(clone.iterdir()) == [clone / "params.yaml"]
    assert any((repository / "mlruns").rglob("params.yaml"))


@pytest.mark.parametrize("name", ["mlflow.db", "other.db"])
def test_all_runs_without_a_history_raises_data_error_and_makes_none(
    empty_repository: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "other.db":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{name}")
    assert not mlflow_store.store_exists()
    with pytest.raises(DataError, match="there is no history yet"):
        mlflow_store.all_runs()
    assert not (empty_repository / name).exists()


def test_training_run_in_a_deleted_experiment_warns_once_with_what_to_do(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its commands can be copied to a shell, also where the folder's name has a blank."""
    repository = repository.rename(repository.with_name("a folder"))
    monkeypatch.chdir(repository)

    def train(name: str) -> str:
        with tracking.training_run(DEMO, "data-1", repository / name) as run:
            run.log_metrics({"train_loss": 1.0})
        return run.id

    before = train("one")
    client, (run,) = store()
    client.delete_experiment(run.info.experiment_id)
    assert train("one") == train("two") == ""
    said = capsys.readouterr().err
    assert said.count("warning: ") == said.count("metrics/*.json are complete") == 2
    with pytest.raises(DataError, match="has been deleted") as caught:
        mlflow_store.all_runs()
    assert str(caught.value) in said

    restore, remove = (shlex.split(text) for text in re.findall("`(mlflow .*?)`", said)[:2])
    mlflow(*restore)
    after = train("two")
    assert {run.info.run_id for run in mlflow_store.all_runs()} == {before, after}
    client.delete_experiment(run.info.experiment_id)
    mlflow(*remove)
    anew = train("three")
    assert {run.info.run_id for run in mlflow_store.all_runs()} == {anew}


def mlflow(program: str, *arguments: str) -> None:
    subprocess.run([Path(sys.executable).with_name(program), *arguments], check=True)


@pytest.mark.parametrize("copied", [False, True])
def test_training_run_in_a_moved_or_copied_folder_starts_a_new_experiment(
    repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    copied: bool,
) -> None:
    def train() -> str:
        with tracking.training_run(DEMO, "data-1", Path("run")) as run:
            run.log_file("p.png", "samples")
            run.log_model(Path("best_model"), "digest", register=True)
        return run.id

    # MLflow keeps a connection to every path it has seen, and pytest uses a path again.
    repository = repository.rename(repository.with_name(f"moved, copied {copied}"))
    monkeypatch.chdir(repository)
    (repository / "p.png").write_bytes(b"png")
    model_folder(repository)
    first = train()
    there = tmp_path_factory.mktemp(f"else where {copied}") / "it"
    if copied:
        shutil.copytree(repository, there)
    else:
        repository.rename(there)
    before = sorted(repository.rglob("*"))
    monkeypatch.chdir(there)
    assert "warning" not in capsys.readouterr().err
    second = train()  # though the file of its run names the first one
    said = capsys.readouterr().err
    assert said.count("warning") == said.count("this folder was moved or copied") == 1
    assert train() == second
    assert capsys.readouterr().err == ""
    assert sorted(repository.rglob("*")) == before

    client, (run,) = store()
    assert run.info.artifact_uri == (there / "mlruns" / second / "artifacts").as_uri()
    assert [one.path for one in client.list_artifacts(second, "samples")] == ["samples/p.png"]
    assert {run.info.run_id for run in mlflow_store.all_runs()} == {first, second}
    old = client.get_experiment(client.get_run(first).info.experiment_id)
    assert old.name in said
    place = there / "mlruns" / first / "artifacts"
    assert mlflow_store.artifact_uri(client.get_run(first), old) == place.as_uri()
    assert (place / "samples/p.png").read_bytes() == b"png"
    versions = client.search_model_versions(f"name = '{mlflow_model.REGISTERED}'")
    newest = max(versions, key=lambda version: int(version.version))
    location = newest.source
    assert location.startswith((there / "mlruns").as_uri())


def test_experiments_are_found_by_any_name_they_ever_had(repository: Path) -> None:
    for name in ("called otherwise", "deleted", None):
        with tracking.training_run(DEMO, "data-1", repository / f"run of {name}"):
            pass
        client, (run) = store()[0], store()[1][0]
        number = run.info.experiment_id
        if name:
            client.rename_experiment(number, name)
        if name == "deleted":
            client.delete_experiment(number)
    client.create_experiment("of another project")
    names = {experiment.name for experiment in mlflow_store.experiments(client)}
    assert names == {"called otherwise", "deleted", "pttfaces"}
    assert len(mlflow_store.all_runs()) == 2


def test_evaluation_run_when_a_killed_run_was_deleted_gives_no_warning(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", AT_WORK]
    environment = os.environ | {"PYTHONPATH": SOURCE}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "at work\n"
    child.kill()
    child.wait()
    client, (killed,) = store()
    client.delete_run(killed.info.run_id)
    with tracking.evaluation_run(DEMO, "m", repository / "run"):
        pass
    assert capsys.readouterr().err == ""
    (run,) = store()[1]
    assert run.info.status == "FINISHED"
    assert list((repository / ".cache/running").iterdir()) == []


def test_training_run_without_its_server_warns_once(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the password in the server's address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:p@hunter2@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with tracking.training_run(DEMO, "data-1", repository / ".resume/run") as run:
        run.log_metrics({"train_loss": 1.0})
        run.log_model(model_folder(repository), "model-1", register=True)
    said = capsys.readouterr().err
    assert "hunter" not in said
    assert said.count("warning: MLflow at http") == 1
    assert "metrics/" in said


TRAINS = textwrap.dedent("""
    from pathlib import Path
    from pttfaces import config, tracking
    with tracking.training_run(config.load(), "data-1", Path("run")) as run:
        print(run.id, end="")
""")


@pytest.mark.skipif(os.name == "nt", reason="Windows allows these in no name")
def test_training_run_in_a_folder_with_reserved_characters_is_stored_there(
    repository: Path,
) -> None:
    """`?`, `%` and `#` mean something else in a URI."""
    folder = repository / "a?b%20c#d"
    folder.mkdir()
    shutil.move(repository / "mlflow.db", folder)
    shutil.move(repository / "params.yaml", folder)
    model_folder(folder)
    program = textwrap.dedent("""
        from pathlib import Path
        from mlflow import artifacts, set_tracking_uri
        from pttfaces import config, mlflow_model, mlflow_store, tracking
        with tracking.training_run(config.load(), "data-1", Path("run")) as run:
            run.log_model(Path("best_model"), "model-1", register=True)
        assert [each.info.run_id for each in mlflow_store.all_runs()] == [run.id]
        set_tracking_uri(mlflow_store.store_uri())
        model = artifacts.download_artifacts(f"models:/{mlflow_model.REGISTERED}/1")
        print(Path(model, "weights.bin").read_text())
    """)
    child = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
    )
    assert child.stdout == "weights\n", child.stderr
    assert "warning" not in child.stderr
    assert sorted(path.name for path in repository.iterdir()) == [folder.name]
    assert len(list(folder.rglob("weights.bin"))) == 2  # the folder's own, and the stored one


def test_training_run_in_a_store_that_is_read_only_says_so_and_what_helps(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SQLAlchemy's message begins with the autoflush during which it happened."""
    uri = f"sqlite:///file:{(repository / 'mlflow.db').as_posix()}?mode=ro&uri=true"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with tracking.training_run(DEMO, "data-1", repository / "run") as run:
        run.log_metrics({"train_loss": 1.0})
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert "failed (attempt to write a readonly database)" in said
    assert f"chmod g+w {repository / 'mlflow.db'} {repository}" in said


def test_failure_names_the_cause_and_the_remedy_for_it(repository: Path) -> None:
    """No file of the store's is damaged where its folders are someone else's, or the disk full."""
    denied = PermissionError(13, "Permission denied", str(repository / "mlruns/1"))
    said = mlflow_store.failure(denied)
    assert f"Permission denied: '{repository / 'mlruns/1'}'" in said
    assert f"chmod -R g+w {repository / 'mlruns'} {repository / '.cache'}" in said
    full = mlflow_store.failure(OSError(28, "No space left on device"))
    assert "No space left on device" in full
    assert "damaged" not in said + full


@pytest.mark.parametrize("damage", ["cut off", "no database"])
def test_training_run_when_its_store_is_damaged_warns_once_to_rename_it(
    damage: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After that a new store is made."""
    database = repository / "mlflow.db"
    half = database.read_bytes()[: database.stat().st_size // 2]
    database.write_bytes(half if damage == "cut off" else b"this is no database" * 1000)
    with tracking.training_run(DEMO, "data-1", repository / "run") as run:
        run.log_metrics({"train_loss": 1.0})
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert "If mlflow.db is damaged, rename it" in said
    with pytest.raises(DataError, match="rename it"):
        mlflow_store.all_runs()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    (repository / "dvc.yaml").touch()
    with pytest.raises(DataError, match="rename it"):
        Repository(repository).pttfaces("ui", "--port", port)
    database.rename("mlflow.db.damaged")
    again = [sys.executable, "-c", TRAINS]
    environment = os.environ | {"PYTHONPATH": SOURCE}
    ended = subprocess.run(again, env=environment, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    # In this process, MLflow is still connected to the damaged file.
    copy = shutil.copy(database, repository / "copy.db")
    assert MlflowClient(f"sqlite:///{copy}").get_run(ended.stdout).info.status == "FINISHED"


def test_training_run_after_open_store_was_killed_makes_the_store(
    empty_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = empty_repository
    makes_one = "from pttfaces import mlflow_store; mlflow_store.open_store()"
    scratch = repository / "scratch"
    scratch.mkdir()
    environment = os.environ | {"PYTHONPATH": SOURCE, "TMPDIR": str(scratch)}
    child = subprocess.Popen([sys.executable, "-c", makes_one], cwd=repository, env=environment)
    while sum(path.stat().st_size for path in repository.rglob("mlflow.db")) < 250_000:
        assert child.poll() is None
        time.sleep(0.001)
    child.kill()
    child.wait()
    with tracking.training_run(DEMO, "data-1", repository / "run") as run:
        run.log_metrics({"train_loss": 1.0})
    assert "warning" not in capsys.readouterr().err
    _, (only,) = store()
    assert only.info.status == "FINISHED"
