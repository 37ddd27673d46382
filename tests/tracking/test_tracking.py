"""The history in MLflow: real SQLite stores, real child processes."""

import os
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pttfaces import params, tracking

DEMO = params.load("presets/demo.yaml")
PRESET = Path("presets/demo.yaml").resolve()


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


def store() -> tuple[MlflowClient, list]:
    client = MlflowClient(tracking.store_uri())
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    return client, client.search_runs([experiment.experiment_id])


def model_folder(base: Path, weights: bytes = b"weights") -> Path:
    folder = base / "best_model"
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(weights)
    return folder


def test_a_training_and_its_evaluations_are_nested_and_complete(repository: Path) -> None:
    with tracking.training_run(DEMO, "data-1", repository / ".resume/run") as run:
        for epoch in range(3):
            run.log_metrics({"train_loss": 1 / (epoch + 1), "val_loss": None}, step=epoch)
        run.log_model(model_folder(repository), "model-1", register=True)
    picture = repository / "grid.png"
    picture.write_bytes(b"png")
    for steps in (20, 100):
        changed = DEMO.model_copy(update={"infer_steps": steps})
        with tracking.evaluation_run(changed, "model-1") as run:
            run.log_metrics({"random_feature_distance": steps / 10, "nothing": float("nan")})
            run.log_picture(picture, "samples/other-name.png")

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
    assert [artifact.path for artifact in artifacts] == ["samples/other-name.png"]
    (version,) = client.search_model_versions(f"name = '{tracking.MODEL}'")
    assert version.run_id == train.info.run_id
    downloaded = client.download_artifacts(train.info.run_id, "model/weights.bin")
    assert Path(downloaded).read_bytes() == b"weights"


def test_an_evaluation_without_a_known_training_stands_alone(repository: Path) -> None:
    with tracking.evaluation_run(DEMO, "never trained here") as run:
        run.log_metrics({"random_feature_distance": 1.0})
    (run,) = store()[1]
    assert "mlflow.parentRunId" not in run.data.tags


def test_a_resumed_training_goes_on_in_its_own_run(repository: Path) -> None:
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


def test_a_failed_stage_leaves_a_failed_run_with_the_reason(repository: Path) -> None:
    with (
        pytest.raises(ValueError, match="no data"),
        tracking.training_run(DEMO, "data-1", repository / ".resume/run"),
    ):
        raise ValueError("no data")
    (run,) = store()[1]
    assert (run.info.status, run.data.tags["reason"]) == ("FAILED", "no data")


def test_runs_of_a_temporary_workspace_land_in_the_main_repository(
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


def test_four_processes_that_start_on_no_store_all_succeed(empty_repository: Path) -> None:
    program = textwrap.dedent("""
        from pttfaces import params, tracking
        with tracking.evaluation_run(params.load(), "m") as run:
            run.log_metrics({"random_feature_distance": 1.0})
    """)
    source = str(PRESET.parent.parent / "src")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": source},
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    said = [child.communicate()[1].decode() for child in children]
    assert not any("does not take this run" in text for text in said), said
    assert len(store()[1]) == 4


def test_a_server_that_is_away_costs_one_warning(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with tracking.training_run(DEMO, "data-1", repository / ".resume/run") as run:
        run.log_metrics({"train_loss": 1.0})
        run.log_model(model_folder(repository), "model-1", register=True)
    said = capsys.readouterr().err
    assert said.count("warning: MLflow at http") == 1
    assert "metrics/" in said


def test_a_corrupt_store_costs_one_warning(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "mlflow.db").write_bytes(b"this is no database" * 1000)
    with tracking.evaluation_run(DEMO, "m") as run:
        run.log_metrics({"random_feature_distance": 1.0})
    assert capsys.readouterr().err.count("warning: MLflow at sqlite") == 1
