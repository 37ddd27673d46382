"""A project folder of version 0.1 goes on: docs/upgrading.md, tried on a folder that 0.1 made."""

import io
import re
import shutil
import subprocess
import tarfile

import pytest
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
    repository.commit("version 0.3")
    return repository


def test_trace_of_a_crop_of_0_1_names_its_article(upgraded: Repository) -> None:
    crop = next((upgraded.path / "data/dataset/train").glob("*.png"))
    said = upgraded.pttfaces("trace", str(crop))
    assert "sharpness" in said
    assert "M." in said


def test_history_knows_what_was_tried_with_0_1(upgraded: Repository) -> None:
    listed = upgraded.pttfaces("history")
    assert len(listed.splitlines()) == 3  # a heading, a training, an evaluation
    assert "dvc exp apply before" in upgraded.pttfaces("history", "before")


def test_dvc_repro_without_the_new_keys_says_how_to_add_them(upgraded: Repository) -> None:
    before = (upgraded.path / "data/articles.jsonl").read_bytes()
    ended = upgraded.run("dvc", "repro", "crawl")
    assert ended.returncode
    assert "links.pages is missing" in ended.stderr
    assert "`pttfaces preset NAME --keep` adds" in ended.stderr
    assert (upgraded.path / "data/articles.jsonl").read_bytes() == before


def test_recipe_keeps_values_images_and_what_a_person_has_put_in(upgraded: Repository) -> None:
    text = (PROJECT / "docs/upgrading.md").read_text(encoding="utf-8")
    commands = [line.strip() for block in RECIPE.findall(text) for line in block.splitlines()]
    assert commands[-2:] == ["pttfaces preset demo --keep", "dvc repro"]
    upgraded.pttfaces("preset", "demo", "--keep")
    assert "articles: 3" in (upgraded.path / "params.yaml").read_text(encoding="utf-8")
    originals = {path.name for path in (upgraded.path / "data/raw").glob("*/*")}
    said = upgraded.ok("dvc", "repro", "detect")  # the last one that reads what 0.1 left
    assert ran(said) == STAGES[: STAGES.index("detect") + 1]
    assert {path.name for path in (upgraded.path / "data/raw").glob("*/*")} == originals
    assert (upgraded.path / "data/inbox/me/photo.png").exists()
    assert "author:someone" in (upgraded.path / "data/denylist.txt").read_text()
