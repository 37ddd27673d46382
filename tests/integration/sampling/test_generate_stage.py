"""The stage generate as a person starts it: killed at some moment, or on several processes."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import settings
import tiny_training as tiny
import torch

import generate
from pttfaces import files, images
from pttfaces.diffusion import model_folder
from pttfaces.sampling import generation

REPOSITORY = Path(__file__).parents[3]
STAGE = str(REPOSITORY / "src/generate.py")
COUNT, BATCH, STEPS = 40, 7, 20
PATIENCE_S = 300.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "best_model"
    model_folder.save_model(folder, tiny.model(), {})
    return folder


def workplace(folder: Path, model: Path) -> Path:
    """A folder in which the stage can run: its parameters and its model."""
    text = (REPOSITORY / "presets/demo.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("num_images: 128\n  batch_size: 32", f"num_images: {COUNT}\n  batch_size: {BATCH}"),
        ("sampler: dpmsolver++", "sampler: ddpm"),
        ("infer_steps: 20", f"infer_steps: {STEPS}"),
    ):
        assert old in text
        text = text.replace(old, new)
    shutil.copytree(model, folder / "models/ddpm/best_model")
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return folder


def start(folder: Path, *launcher: str) -> subprocess.Popen[bytes]:
    environment = {key: os.environ[key] for key in os.environ if key != "DVC_ROOT"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY / "src")}
    environment |= {"ACCELERATE_USE_CPU": "true", "USE_LIBUV": "0"}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *launcher, STAGE], cwd=folder, env=environment, stdout=log, stderr=log
        )


def finish(folder: Path, *launcher: str) -> None:
    log = folder / "log"
    assert start(folder, *launcher).wait(PATIENCE_S) == 0, log.read_text(encoding="utf-8")


def metrics(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "metrics/generate.json").read_text(encoding="utf-8")))


def pixels(folder: Path) -> np.ndarray:
    return images.read_rgb(sorted(folder.glob("*.png"))).astype(int)


def assert_same_images(first: np.ndarray, second: np.ndarray) -> None:
    """At most one level apart in 99.9 % of the pixels: rounding depends on the batch."""
    assert first.shape == second.shape
    assert (np.abs(first - second) <= 1).mean() >= 0.999


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In this process, which has loaded torch already."""
    folder = workplace(tmp_path_factory.mktemp("undisturbed"), model)
    torch.set_num_threads(1)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.delenv("DVC_ROOT", raising=False)
        generate.main()
    return folder


def test_generate_killed_at_random_moments_leaves_the_undisturbed_folder(
    undisturbed: Path, model: Path, tmp_path: Path
) -> None:
    folder = workplace(tmp_path / "killed", model)
    kills = int(os.environ.get("PTTFACES_KILLS", "1"))
    for wanted in sorted(random.randrange(1, COUNT) for _ in range(kills)):
        process, limit = start(folder), time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < limit:
            if len(list(folder.glob(".resume/generate-*/*.png"))) >= wanted:
                break
            time.sleep(0.001)
        process.kill()
        process.wait(PATIENCE_S)
    finish(folder)
    assert files.digest_tree(folder / "data") == files.digest_tree(undisturbed / "data")
    assert not list((folder / ".resume").iterdir())


def test_generate_on_two_processes_shares_the_images_and_writes_once(
    undisturbed: Path, model: Path, tmp_path: Path
) -> None:
    folder = workplace(tmp_path / "two", model)
    finish(folder, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert metrics(folder)["processes"] == 2
    assert metrics(undisturbed)["processes"] == 1
    assert_same_images(pixels(folder / "data/generated"), pixels(undisturbed / "data/generated"))
    said = (folder / "log").read_text(encoding="utf-8")
    assert said.count("images by ddpm") == 1
    assert not list((folder / ".resume").iterdir())


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_generate_in_batches_of_any_size_gives_the_same_images(
    batch_size: int, undisturbed: Path, model: Path, tmp_path: Path
) -> None:
    options = settings.group("generate", sampler="ddpm", num_images=COUNT, batch_size=batch_size)
    generation.generate(model_folder.load_model(model, "cpu"), options, STEPS, 0, tmp_path / "made")
    assert_same_images(pixels(tmp_path / "made"), pixels(undisturbed / "data/generated"))
