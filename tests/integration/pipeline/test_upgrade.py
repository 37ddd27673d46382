"""A project folder of version 0.1 goes on: docs/upgrading.md, tried on a folder that 0.1 made."""

import io
import re
import shutil
import subprocess
import tarfile

import pytest
from mlflow import MlflowClient
from PIL import Image
from repository import PROJECT, SMALL, STAGES, Repository, put, ran, tracked_files

VERSION_0_1 = "0e38177"
RECIPE = re.compile(r"```sh\n(.*?)```", re.DOTALL)

pytestmark = pytest.mark.timeout(1200)


def files_of_0_1() -> bytes | None:
    """The project at the last commit of version 0.1 as a tar file; None in a shallow clone."""
    command = ["git", "archive", "--format=tar", VERSION_0_1]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True)
    return ended.stdout if ended.returncode == 0 else None


def copy_new_files(repository: Repository) -> None:
    """What `git merge` does of the new version where a person has changed params.yaml alone."""
    own = ("params.yaml", "dvc.lock", "metrics/", "tests/", "docs/", "benchmarks/")
    new = [name for name in tracked_files() if not name.startswith(own)]
    for name in repository.ok("git", "ls-files").splitlines():
        if not name.startswith(own) and name not in new:
            (repository.path / name).unlink()
    for name in new:
        (repository.path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, repository.path / name)


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    content = files_of_0_1()
    if content is None:
        pytest.skip("a shallow clone does not have version 0.1")
    repository = Repository(tmp_path_factory.mktemp("upgraded"))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(repository.path, filter="data")
    put(repository.path / "params.yaml", {**SMALL, "demo.articles": 3, "train.epochs": 1})
    (repository.path / "dvc.lock").unlink()
    repository.ok("git", "init", "--quiet")
    repository.ok("python", "src/inputs.py")
    photo = repository.path / "data/inbox/me/photo.png"
    photo.parent.mkdir()
    Image.new("RGB", (64, 64), "white").save(photo)
    with (repository.path / "data/denylist.txt").open("a") as handle:
        handle.write("author:someone\n")
    assert ran(repository.ok("dvc", "repro")) == STAGES
    repository.commit("with version 0.1")
    repository.ok("dvc", "exp", "save", "--name", "before")
    copy_new_files(repository)
    repository.commit("version 0.2")
    return repository


def test_recipe_takes_all_results_over(upgraded: Repository) -> None:
    text = (PROJECT / "docs/upgrading.md").read_text(encoding="utf-8")
    commands = [line.strip() for block in RECIPE.findall(text) for line in block.splitlines()]
    recipe = [line.split("#")[0].split() for line in commands if line.startswith("dvc ")]
    assert recipe, "docs/upgrading.md has the recipe"
    for command in recipe:
        assert set(ran(upgraded.ok(*command))) == set(), command
    upgraded.commit("results taken over")
    assert ran(upgraded.ok("dvc", "repro")) == []
    assert "up to date" in upgraded.ok("dvc", "status")
    assert (upgraded.path / "data/inbox/me/photo.png").exists()
    assert "author:someone" in (upgraded.path / "data/denylist.txt").read_text()


def test_experiment_continues_from_the_model_of_0_1(upgraded: Repository) -> None:
    """The figures are of the same model, and its score is nested below the old training."""
    said = upgraded.ok("dvc", "exp", "run", "--name", "after", "-S", "infer_steps=2")
    assert ran(said) == ["generate", "evaluate"]
    digest = upgraded.metrics("train")["model_digest"]
    assert upgraded.metrics("generate")["model_digest"] == digest
    assert upgraded.metrics("evaluate")["model_digest"] == digest
    client = MlflowClient(f"sqlite:///{(upgraded.path / 'mlflow.db').as_posix()}")
    experiment = client.get_experiment_by_name("pttfaces")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (training,) = (run for run in runs if run.data.tags["stage"] == "train")
    evaluations = [run for run in runs if run.data.tags["stage"] == "evaluate"]
    assert {run.data.tags["mlflow.parentRunId"] for run in evaluations} == {training.info.run_id}
    assert {run.data.params["infer_steps"] for run in evaluations} == {"2", "4"}


def test_history_knows_what_was_tried_with_0_1(upgraded: Repository) -> None:
    listed = upgraded.ok("python", "-m", "pttfaces", "history")
    assert len(listed.splitlines()) == 4  # a heading, one training, two evaluations
    assert "dvc exp apply before" in upgraded.ok("python", "-m", "pttfaces", "history", "before")


def test_tables_of_0_1_are_read(upgraded: Repository) -> None:
    """crops.csv calls its sharpness `blur` there, and curate alone runs again."""
    assert "blur" in (upgraded.path / "data/crops.csv").read_text().partition("\n")[0].split(",")
    put(upgraded.path / "params.yaml", {"blur_threshold": 90})
    assert ran(upgraded.ok("dvc", "repro", "curate")) == ["curate"]
    header = (upgraded.path / "data/dataset.csv").read_text().partition("\n")[0]
    assert "sharpness" in header.split(",")


def test_trace_of_a_crop_of_0_1_names_its_article(upgraded: Repository) -> None:
    crop = next((upgraded.path / "data/dataset/train").glob("*.png"))
    said = upgraded.ok("python", "-m", "pttfaces", "trace", str(crop))
    assert "sharpness" in said
    assert "M." in said
