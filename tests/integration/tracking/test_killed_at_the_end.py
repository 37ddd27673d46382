"""dvc and its stage are killed when the stage is done, and dvc has not noted that yet."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from repository import Repository, ran
from small_pipeline import make_small_pipeline

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups to kill"),
]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return make_small_pipeline(
        tmp_path_factory.mktemp("killed"), "train", "evaluate", register=True
    )


def kill_when_done(repository: Repository, stage: str, *command: str) -> None:
    process = subprocess.Popen(
        [Path(sys.executable).parent / "dvc", *command],
        cwd=repository.path,
        env=repository.environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not any(repository.path.glob(f".resume/{stage}-*/done.json")):
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_stage_killed_before_dvc_records_it_stands_once_in_the_history(
    fresh: Repository, stage: str
) -> None:
    if stage == "evaluate":
        fresh.ok("dvc", "repro", "train")
    kill_when_done(fresh, stage, "repro", stage)
    assert ran(fresh.ok("dvc", "repro", stage)) == [stage], "it was killed too late"
    client = MlflowClient(f"sqlite:///{(fresh.path / 'mlflow.db').as_posix()}")
    runs = [run for run in client.search_runs(["1"]) if run.data.tags["stage"] == stage]
    assert [run.info.status for run in runs] == ["FINISHED"]
    versions = client.search_model_versions(f"run_id = '{runs[0].info.run_id}'")
    assert len(versions) == (1 if stage == "train" else 0)
    fresh.ok("dvc", "repro", "--force", "--single-item", stage)
    again = [run for run in client.search_runs(["1"]) if run.data.tags["stage"] == stage]
    assert len(again) == 2, "a stage that dvc has recorded runs again with --force"


def test_experiment_killed_before_dvc_records_it_stands_once_in_the_history(
    fresh: Repository,
) -> None:
    """The lock is not committed here: DVC stashes it and applies it again."""
    fresh.ok("dvc", "repro", "train")
    command = ("exp", "run", "--set-param", "seed=9", "train")
    kill_when_done(fresh, "train", *command)
    assert ran(fresh.ok("dvc", *command)) == ["train"], "it was killed too late"
    client = MlflowClient(f"sqlite:///{(fresh.path / 'mlflow.db').as_posix()}")
    runs = client.search_runs(["1"], "params.seed = '9'")
    assert [run.info.status for run in runs] == ["FINISHED"]
