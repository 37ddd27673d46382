"""A real `mlflow server` with a database behind it, as a child process."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pttfaces import config, mlflow_store, tracking

DEMO = config.load("presets/demo.yaml")
PRESET = Path("presets/demo.yaml").resolve()


@pytest.fixture
def served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a server, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path / "server"
    home.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{(home / 'runs.db').as_posix()}"]
    command += ["--artifacts-destination", str(home / "artifacts")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with (home / "log").open("wb") as log:
        child = subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 200
        while not answers(address):
            assert child.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.2)
        work = tmp_path / "work"
        work.mkdir()
        (work / "params.yaml").write_bytes(PRESET.read_bytes())
        monkeypatch.chdir(work)
        for name in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield address, child
    finally:
        end(child)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def end(child: "subprocess.Popen[bytes]") -> None:
    """Ends the server with its workers, which are a process group of their own."""
    if child.poll() is None:
        if sys.platform == "win32":
            child.kill()
        else:
            os.killpg(child.pid, 9)
        child.wait()


def test_mlflow_server_gets_runs_files_models_and_versions(
    served: tuple[str, "subprocess.Popen[bytes]"], capsys: pytest.CaptureFixture[str]
) -> None:
    """When it goes away, that costs one warning."""
    address, child = served
    model = Path("best_model")
    model.mkdir()
    (model / "weights.bin").write_bytes(b"weights")
    with tracking.training_run(DEMO, "data-1", Path(".resume/run")) as run:
        run.log_metrics({"train_loss": 0.5}, step=1)
        run.log_model(model, "model-1", register=True)
    client = MlflowClient(address)
    with tracking.evaluation_run(DEMO, "model-1", Path("one")) as run:
        run.log_file("best_model/weights.bin")
        for warning, best in ((None, {"best": "1"}), ("COPIES", {})):
            run.log_metrics({"random_feature_distance": 2.0})
            run.log_copy_warning(warning)
            run.move_best("random_feature_distance", ())
            assert client.get_registered_model(tracking.MODEL).aliases == best

    evaluation, train = mlflow_store.all_runs()
    assert evaluation.data.tags["mlflow.parentRunId"] == train.info.run_id
    assert {run.info.status for run in (evaluation, train)} == {"FINISHED"}
    assert train.info.artifact_uri.startswith("mlflow-artifacts:")
    copy = client.download_artifacts(train.info.run_id, "model/weights.bin")
    assert Path(copy).read_bytes() == b"weights"
    (version,) = client.search_model_versions(f"name = '{tracking.MODEL}'")
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
        end(child)
        run.log_metrics({"random_feature_distance": 1.0})
        run.log_file("params.yaml", "samples")
    assert capsys.readouterr().err.count("warning: MLflow at http") == 1
    assert len(list(Path(".cache/running").iterdir())) == 1  # the next run tells of its end
