"""`dvc repro` and `dvc exp run` work in a fresh clone, and keep what a person puts in.

The pipeline is the real stage `inputs`, with data/inputs.dvc, and one stage that lists what it
reads; that the whole pipeline runs in a fresh clone is what test_whole_line.py begins with.
"""

from pathlib import Path

import pytest
from repository import Repository, make_repository

pytestmark = pytest.mark.timeout(900)

PHOTO = "data/inbox/me/photo.jpg"
READS = """
from pathlib import Path
from pttfaces.stage import run_stage
from pttfaces import denylist

def main():
    deny = denylist.load_for_stage()
    photos = sorted(path.name for path in Path("data/inbox").rglob("*.jpg"))
    Path("data/ledger.csv").write_text("\\n".join([*photos, *deny.lines()]))

if __name__ == "__main__":
    run_stage(main)
"""
PIPELINE = """
stages:
  inputs:
    cmd: python src/inputs.py
    deps: [src/inputs.py]
    outs:
      - data/README.txt:
          persist: true
  download:
    cmd: python src/download.py
    params: [infer_steps]
    deps: [src/download.py, data/inbox, data/reference, data/denylist.txt]
    outs:
      - data/ledger.csv:
          persist: true  # as the real outs: DVC runs the stage where it could take a cached run
"""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The project as it is in git, after one run."""
    made = make_repository(tmp_path_factory.mktemp("origin"), {})
    (made.path / "src/download.py").write_text(READS)
    (made.path / "dvc.yaml").write_text(PIPELINE)
    made.ok("dvc", "repro")
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


def seen(repository: Repository) -> list[str]:
    return (repository.path / "data/ledger.csv").read_text().splitlines()


def test_dvc_repro_in_a_fresh_clone_runs_and_uses_what_a_person_put_in(
    origin: Repository, tmp_path: Path
) -> None:
    fresh = clone(origin, tmp_path / "clone")
    assert "Running stage 'download'" in fresh.ok("dvc", "repro")
    assert fresh.ok("git", "status", "--porcelain") == "", "the inputs are as recorded"
    assert "up to date" in fresh.ok("dvc", "status")
    put_photo(fresh)
    fresh.ok("dvc", "repro")
    assert seen(fresh) == ["photo.jpg"]
    deny(fresh, "author:ann")
    fresh.ok("dvc", "repro")
    assert seen(fresh) == ["photo.jpg", "author:ann"]
    (fresh.path / PHOTO).unlink()
    assert "data/inputs.dvc" in fresh.ok("dvc", "status")


def test_clone_with_autocrlf_when_pulled_is_up_to_date(origin: Repository, tmp_path: Path) -> None:
    """Git for Windows sets core.autocrlf: other line ends would be other bytes for DVC."""
    team = clone(origin, tmp_path / "first")
    team.ok("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    team.ok("dvc", "repro")
    team.commit("with a remote")
    team.ok("dvc", "push")
    command = ("git", "clone", "--quiet", "--config", "core.autocrlf=true")
    team.ok(*command, str(team.path), str(tmp_path / "windows"))
    windows = Repository(tmp_path / "windows")
    windows.ok("dvc", "pull")
    assert "up to date" in windows.ok("dvc", "status")
    assert windows.ok("git", "status", "--porcelain") == ""


def test_dvc_exp_run_of_every_kind_keeps_and_uses_what_a_person_put_in(
    origin: Repository, tmp_path: Path
) -> None:
    """`dvc exp run` checks outs out by force, before any stage runs; here as the first command."""
    mine = clone(origin, tmp_path / "clone")
    mine.ok("dvc", "exp", "run", "-S", "infer_steps=100")
    assert seen(mine) == []
    put_photo(mine)
    deny(mine, "author:ann")
    mine.ok("dvc", "exp", "run", "-S", "infer_steps=3")
    assert seen(mine) == ["photo.jpg", "author:ann"]
    assert (mine.path / PHOTO).read_bytes() == b"a photograph"
    deny(mine, "author:bob")
    mine.ok("dvc", "exp", "run", "--temp", "--name", "aside", "-S", "infer_steps=4")
    assert (mine.path / PHOTO).exists()
    assert "author:bob" in (mine.path / "data/denylist.txt").read_text()
    mine.ok("dvc", "exp", "apply", "aside")
    assert seen(mine) == ["photo.jpg", "author:ann", "author:bob"]
    assert (mine.path / PHOTO).exists()


def test_dvc_repro_in_a_second_clone_says_to_pull_and_readmits_nobody(
    origin: Repository, tmp_path: Path
) -> None:
    team = clone(origin, tmp_path / "first")
    team.ok("dvc", "repro")
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
        assert "run `dvc pull data/inbox data/denylist.txt`" in said
        assert "Traceback" not in said
        assert not (second.path / "data/denylist.txt").exists(), "no empty list"
        second.ok("git", "checkout", "--quiet", "--force", "HEAD")
    second.ok("dvc", "pull", "data/inputs.dvc")
    second.ok("dvc", "repro")
    assert seen(second) == ["photo.jpg", "author:ann"]
    assert second.ok("git", "status", "--porcelain", "data") == ""

    deny(team, "author:bob")
    team.ok("dvc", "repro")
    team.commit("bob is denied")
    team.ok("dvc", "push")
    second.ok("git", "pull", "--quiet")  # without `dvc pull`: the list is the older one
    ended = second.run("dvc", "repro")
    assert ended.returncode != 0
    assert "dvc pull data/denylist.txt" in ended.stderr
    second.ok("git", "checkout", "--quiet", "--force", "HEAD")
    second.ok("dvc", "pull", "--force")
    second.ok("dvc", "repro")
    assert "author:bob" in seen(second)
    assert second.ok("git", "status", "--porcelain", "data") == ""
