"""`dvc repro` and `dvc exp run` work in a fresh clone, and keep what a person puts in."""

from pathlib import Path

import pytest
from light_line import make_light_line
from repository import STAGES, Repository, ran

pytestmark = pytest.mark.timeout(900)

PHOTO = "data/inbox/me/photo.jpg"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The project after one run, committed; the commits after it are the tests'."""
    made = make_light_line(tmp_path_factory.mktemp("origin"))
    assert ran(made.ok("dvc", "repro")) == STAGES
    made.commit("first run")
    return made


def clone(origin: Repository, path: Path) -> Repository:
    origin.ok("git", "clone", "--quiet", str(origin.path), str(path))
    return Repository(path)


def put_photo(repository: Repository) -> None:
    path = repository.path / PHOTO
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a photograph")


def deny(repository: Repository, entry: str) -> None:
    with (repository.path / "data/denylist.txt").open("a") as handle:
        handle.write(f"{entry}\n")


def test_dvc_repro_is_the_first_command_in_a_clone(origin: Repository, tmp_path: Path) -> None:
    fresh = clone(origin, tmp_path / "clone")
    assert ran(fresh.ok("dvc", "repro")) == STAGES
    assert fresh.ok("git", "status", "--porcelain", "data") == "", "the inputs are as recorded"
    assert "up to date" in fresh.ok("dvc", "status")


def test_dvc_exp_run_is_the_first_command_in_a_clone(origin: Repository, tmp_path: Path) -> None:
    fresh = clone(origin, tmp_path / "clone")
    assert ran(fresh.ok("dvc", "exp", "run", "-S", "infer_steps=100")) == STAGES
    assert fresh.metrics("evaluate")["infer_steps"] == 100


def test_experiments_of_every_kind_keep_and_use_what_a_person_put_in(
    origin: Repository, tmp_path: Path
) -> None:
    """`dvc exp run` checks outs out by force, before any stage runs."""
    mine = clone(origin, tmp_path / "clone")
    mine.ok("dvc", "repro", "inputs")
    put_photo(mine)
    deny(mine, "author:ann")
    assert "download" in ran(mine.ok("dvc", "exp", "run", "-S", "infer_steps=3"))
    assert (mine.path / PHOTO).read_bytes() == b"a photograph"
    assert "author:ann" in (mine.path / "data/denylist.txt").read_text()
    deny(mine, "author:bob")
    name = "aside"
    mine.ok("dvc", "exp", "run", "--temp", "--name", name, "-S", "infer_steps=4")
    assert (mine.path / PHOTO).exists()
    mine.ok("dvc", "exp", "apply", name)
    listed = (mine.path / "data/denylist.txt").read_text()
    assert "author:ann" in listed
    assert "author:bob" in listed
    assert (mine.path / PHOTO).exists()


def test_what_a_person_adds_or_removes_runs_the_stages_that_read_it(
    origin: Repository, tmp_path: Path
) -> None:
    mine = clone(origin, tmp_path / "clone")
    mine.ok("dvc", "repro")
    put_photo(mine)
    assert ran(mine.ok("dvc", "repro"))[0] == "download"
    deny(mine, "author:ann")
    assert ran(mine.ok("dvc", "repro"))[0] == "crawl"
    (mine.path / PHOTO).unlink()
    assert "data/inputs.dvc" in mine.ok("dvc", "status")


def test_clone_whose_commit_has_inputs_is_told_to_pull_and_then_has_them(
    origin: Repository, tmp_path: Path
) -> None:
    team = clone(origin, tmp_path / "first")
    team.ok("dvc", "repro", "inputs")
    put_photo(team)
    deny(team, "author:ann")
    team.ok("dvc", "repro")
    team.ok("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    team.commit("inputs of our own")
    team.ok("dvc", "push")
    second = clone(team, tmp_path / "second")
    for command in (["repro"], ["exp", "run", "-S", "infer_steps=5"]):
        ended = second.run("dvc", *command)
        assert ended.returncode != 0
        said = ended.stdout + ended.stderr
        assert "run `dvc pull data/" in said
        assert "Traceback" not in said
        assert not (second.path / "data/denylist.txt").exists(), "no empty list"
        second.ok("git", "checkout", "--quiet", "--force", "HEAD")
    second.ok("dvc", "pull", "data/inputs.dvc")
    assert (second.path / PHOTO).exists()
    assert "author:ann" in (second.path / "data/denylist.txt").read_text()
    assert ran(second.ok("dvc", "repro")) == STAGES
    assert second.ok("git", "status", "--porcelain", "data") == ""


def test_list_of_before_a_git_pull_does_not_readmit_whom_others_denied(
    origin: Repository, tmp_path: Path
) -> None:
    team = clone(origin, tmp_path / "first")
    team.ok("dvc", "repro")
    team.ok("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    team.commit("a remote")
    team.ok("dvc", "push")
    second = clone(team, tmp_path / "second")
    second.ok("dvc", "pull")
    deny(team, "author:ann")
    team.ok("dvc", "repro")
    team.commit("ann is denied")
    team.ok("dvc", "push")
    second.ok("git", "pull", "--quiet")
    ended = second.run("dvc", "repro")
    assert ended.returncode != 0
    assert "data/denylist.txt" in ended.stderr
    assert "dvc pull data/denylist.txt" in ended.stderr
    second.ok("git", "checkout", "HEAD", "data/inputs.dvc")
    second.ok("dvc", "pull", "--force", "data/denylist.txt")
    assert "author:ann" in (second.path / "data/denylist.txt").read_text()
    second.ok("git", "checkout", "--quiet", "--force", "HEAD")
    second.ok("dvc", "pull")
    second.ok("dvc", "repro")
    assert second.ok("git", "status", "--porcelain", "data") == ""
