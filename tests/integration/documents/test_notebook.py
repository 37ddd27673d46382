"""The notebook: its cells run from top to bottom, in a real kernel, on a tiny data set."""

import copy
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image
from repository import PROJECT, SMALL, Repository, make_repository

pytestmark = pytest.mark.timeout(600)

NOTEBOOK = PROJECT / "notebooks/train_on_colab_or_kaggle.ipynb"


@pytest.fixture
def home(tmp_path: Path) -> Repository:
    """A repository at home, with a data set of noise and its commit."""
    made = make_repository(tmp_path / "home", SMALL)
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("holdout", 4)):
        folder = made.path / "data/dataset" / split
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{split}-{index}.png")
    made.ok("pttfaces", "pack", "--manifest", "data/dataset")
    made.ok("pttfaces", "pack", "data/dataset", "crops.zip")
    return made


def test_notebook_when_all_cells_run_brings_a_model_home(
    home: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user runs it, but for the installation: the environment is the tests' own."""
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    store, work = tmp_path / "store", tmp_path / "work"
    settings = {"address": home.path, "store": store, "crops": home.path / "crops.zip"}
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            assert all(f"{name} = " in cell.source for name in settings)
            cell.source = "\n".join(f"{name} = {str(value)!r}" for name, value in settings.items())
        if "installs" in tags:
            cell.source = "%%bash\nmkdir -p .git"
    notebook.cells += copy.deepcopy(notebook.cells)  # "run all" twice in one session
    work.mkdir()
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "src"))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(work)}}).execute()

    assert any(output.get("data", {}).get("image/png") for output in notebook.cells[-3].outputs)
    there = Repository(work / "pttfaces")
    assert ".resume" not in there.ok("git", "ls-files"), "a link to the store"
    assert not list((store / "resume").glob("train-*/state.pt"))
    home.ok("pttfaces", "pack", "--unpack", str(store / "bag.zip"), "bag")
    home.ok("git", "pull", "--quiet", "bag/commits.bundle", "HEAD")
    home.ok("dvc", "remote", "add", "--local", "bag", "bag")
    home.ok("dvc", "pull", "--remote", "bag", "train", "generate", "evaluate")
    weights = "models/ddpm/best_model/unet/diffusion_pytorch_model.safetensors"
    assert (home.path / weights).read_bytes() == (there.path / weights).read_bytes()
