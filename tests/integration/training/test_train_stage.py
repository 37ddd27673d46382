"""The stage train as a person starts it: killed under DVC's clones, or on two processes."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import tiny_training as tiny
import torch
from diffusers import DDPMPipeline
from mlflow import MlflowClient
from repository import SMALL, put

import train

REPOSITORY = Path(__file__).parents[3]
EPOCHS = 6
TWO = f'"{sys.executable}" -m torch.distributed.run --standalone --nproc-per-node 2'
PATIENCE_S = 300.0
CHANGES = {
    "train.epochs": EPOCHS,
    "train.batch_size": 5,
    "train.save_every_minutes": 1e-9,
    "train.sample_every": EPOCHS,
    "train.register": False,
}
OTHERS = ("DVC_", "MLFLOW_", "PTTFACES_")  # variables that no stage gets
pytestmark = pytest.mark.timeout(600)


def workplace(folder: Path) -> Path:
    """A folder in which the stage can run: its parameters and its images."""
    tiny.draw_images(folder / "data/dataset/train", 22)
    tiny.draw_images(folder / "data/dataset/holdout", 7)
    shutil.copy(REPOSITORY / "presets/demo.yaml", folder / "params.yaml")
    model = {key: SMALL[key] for key in ("image_size", "model.channels", "model.attention")}
    put(folder / "params.yaml", model | CHANGES)
    return folder


def start(folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    kept = {key: os.environ[key] for key in os.environ if not key.startswith(OTHERS)}
    kept |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY / "src")}
    kept |= {"ACCELERATE_USE_CPU": "true", "USE_LIBUV": "0"}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(REPOSITORY / "src/train.py")],
            cwd=folder,
            env={**kept, **environment},
            stdout=log,
            stderr=log,
        )


def finish(folder: Path, **environment: str) -> str:
    """Runs the stage to its end; what it said."""
    code = start(folder, **environment).wait(PATIENCE_S)
    said = (folder / "log").read_text(encoding="utf-8")
    assert code == 0, said
    return said


def metrics(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "metrics/train.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The main folder, and the second of two clones in which DVC let the training run.

    It was killed in the first, in mid-epoch.
    """
    main = tmp_path_factory.mktemp("main")
    process = start(workplace(tmp_path_factory.mktemp("first")), DVC_ROOT=str(main))
    limit = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < limit:
        if list(main.glob(".resume/train-*/state.pt")):
            break
        time.sleep(0.001)
    process.kill()
    process.wait(PATIENCE_S)
    assert list(main.glob(".resume/train-*/state.pt")), "it ended before it could be killed"
    second = workplace(tmp_path_factory.mktemp("second"))
    torch.set_num_threads(1)
    with contextlib.chdir(second), pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(OTHERS):
                patch.delenv(name)
        patch.setenv("DVC_ROOT", str(main))
        train.main()  # here, where torch is loaded already
    return main, second


def test_train_killed_in_one_clone_resumes_in_another_and_in_its_own_run(
    killed_and_resumed: tuple[Path, Path],
) -> None:
    main, clone = killed_and_resumed
    client = MlflowClient(f"sqlite:///{(main / 'mlflow.db').as_posix()}")
    experiment = client.get_experiment_by_name("pttfaces")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert {point.step for point in history} == set(range(1, EPOCHS + 1))
    best = json.loads((clone / "metrics/train.json").read_text())
    for key in ("train_loss", "val_loss"):
        assert run.data.metrics[f"best_{key}"] == best[key]
    (work,) = (main / ".resume").iterdir()
    assert (work / "done.json").exists(), "it waits there until dvc has noted the stage"
    curves = pd.read_csv(clone / "metrics/plots/epochs.csv")
    assert list(curves["epoch"]) == list(range(1, EPOCHS + 1))


def test_train_on_two_processes_equals_one_and_writes_once(
    killed_and_resumed: tuple[Path, Path], tmp_path: Path
) -> None:
    """Batches of five, so that the two hold three images and two."""
    _, alone = killed_and_resumed
    folder = workplace(tmp_path / "two")
    said = finish(folder, PTTFACES_LAUNCHER=TWO)
    assert metrics(folder)["processes"] == 2, said
    assert metrics(alone)["processes"] == 1
    curves = ["epoch", "train_loss", "val_loss", "learning_rate", "grad_norm"]
    two, one = (
        pd.read_csv(place / "metrics/plots/epochs.csv")[curves].to_numpy()
        for place in (folder, alone)
    )
    assert two == pytest.approx(one, rel=1e-3)
    assert said.count("best is epoch") == 1
    assert len(list((folder / ".resume").iterdir())) == 0
    client = MlflowClient(f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
    assert len(client.search_runs([e.experiment_id for e in client.search_experiments()])) == 1
    DDPMPipeline.from_pretrained(folder / "models/ddpm/best_model")


def test_train_with_an_unknown_launcher_names_it(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert start(tmp_path, PTTFACES_LAUNCHER="no-such-launcher -n 2").wait(PATIENCE_S) == 2
    said = (tmp_path / "log").read_text(encoding="utf-8")
    assert said.startswith("error: PTTFACES_LAUNCHER is 'no-such-launcher -n 2', which cannot be")


def test_train_with_a_launcher_of_one_process_starts_once(tmp_path: Path) -> None:
    """As `accelerate launch` does where it finds no GPU: without a RANK."""
    (tmp_path / "log").touch()
    assert start(tmp_path, PTTFACES_LAUNCHER=f'"{sys.executable}"').wait(PATIENCE_S) == 2
    said = (tmp_path / "log").read_text(encoding="utf-8")
    assert said.startswith("error: params.yaml does not exist")
