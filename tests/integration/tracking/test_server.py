"""A real `mlflow server` with a database behind it, as a child process."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from child_server import Server, end, free_port, opened, served
from mlflow import MlflowClient

from pttfaces import config, mlflow_model, mlflow_store, tracking

DEMO = config.load("presets/demo.yaml")
PRESET = Path("presets/demo.yaml").resolve()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose address MLFLOW_TRACKING_URI is; the working folder is an empty project."""
    for name in ("server", "work"):
        (tmp_path / name).mkdir()
    shutil.copy(PRESET, tmp_path / "work/params.yaml")
    monkeypatch.chdir(tmp_path / "work")
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    command = f"mlflow server --port {port} --workers 1 --backend-store-uri sqlite:///runs.db"
    command += " --artifacts-destination artifacts"
    with served(command.split(), tmp_path / "server") as started:
        opened(started, f"http://127.0.0.1:{port}/health").close()
        yield started


def test_mlflow_server_gets_runs_files_models_and_versions(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """When it goes away, that costs one warning."""
    model = Path("best_model")
    model.mkdir()
    (model / "weights.bin").write_bytes(b"weights")
    with tracking.training_run(DEMO, "data-1", Path(".resume/run")) as run:
        run.log_metrics({"train_loss": 0.5}, step=1)
        run.log_model(model, "model-1", register=True)
    client = MlflowClient(mlflow_store.store_uri())
    with tracking.evaluation_run(DEMO, "model-1", Path("one")) as run:
        run.log_file("best_model/weights.bin")
        for warning, best in ((None, {"best": "1"}), ("COPIES", {})):
            run.log_metrics({"random_feature_distance": 2.0})
            run.log_copy_warning(warning)
            run.move_best("random_feature_distance", ())
            assert client.get_registered_model(mlflow_model.REGISTERED).aliases == best

    evaluation, train = mlflow_store.all_runs()
    assert evaluation.data.tags["mlflow.parentRunId"] == train.info.run_id
    assert {run.info.status for run in (evaluation, train)} == {"FINISHED"}
    assert train.info.artifact_uri.startswith("mlflow-artifacts:")
    copy = client.download_artifacts(train.info.run_id, "model/weights.bin")
    assert Path(copy).read_bytes() == b"weights"
    (version,) = client.search_model_versions(f"name = '{mlflow_model.REGISTERED}'")
    assert version.run_id == train.info.run_id
    assert not Path("mlruns").exists()
    assert "warning: " not in capsys.readouterr().err

    client.delete_experiment(train.info.experiment_id)
    with tracking.training_run(DEMO, "data-1", Path(".resume/later")):
        pass
    assert capsys.readouterr().err.count("has been deleted") == 1
    client.restore_experiment(train.info.experiment_id)
    assert len(mlflow_store.all_runs()) == 2

    with tracking.evaluation_run(DEMO, "model-1", Path("another")) as run:
        end(server)
        run.log_metrics({"random_feature_distance": 1.0})
        run.log_file("params.yaml", "samples")
    assert capsys.readouterr().err.count("warning: MLflow at http") == 1
    assert len(list(Path(".cache/running").iterdir())) == 1  # the next run tells of its end
