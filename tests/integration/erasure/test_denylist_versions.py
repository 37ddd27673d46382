"""A stage refuses a deny list that lacks entries of the current commit's."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.repo import Repo

from pttfaces import denylist
from pttfaces.errors import DataError

PROJECT = Path(__file__).resolve().parents[3]
LIST = Path("data/denylist.txt")


def git(*words: str) -> None:
    who = ("-c", "user.name=x", "-c", "user.email=x@x.test")
    subprocess.run(["git", *who, *words], check=True, capture_output=True)


def record_inputs(root: Path) -> None:
    Path("data/README.txt").write_text("What you may put here")
    Path("data/inputs.dvc").write_bytes((PROJECT / "data/inputs.dvc").read_bytes())
    for folder in ("inbox", "reference"):
        Path("data", folder).mkdir(exist_ok=True)
        Path("data", folder, "README.txt").write_text(folder)
    with Repo(str(root)) as repo:
        repo.commit("data/inputs.dvc", force=True)


def record_denylist(root: Path) -> None:
    """As version 0.1 did."""
    with Repo(str(root)) as repo:
        repo.add(["data/denylist.txt"])


@pytest.mark.parametrize("record", [record_inputs, record_denylist])
def test_an_earlier_commit_s_list_is_refused(
    repository: Path, record: Callable[[Path], None]
) -> None:
    def commit(text: str) -> None:
        LIST.unlink(missing_ok=True)  # a read-only link into DVC's cache
        LIST.write_text(text)
        record(repository)
        git("add", "--all", "data/*.dvc")
        git("commit", "-m", "x")

    LIST.parent.mkdir()
    git("init")
    commit(denylist.EMPTY)
    assert denylist.load_for_stage().lines() == []
    for text in ("author:ann\n", "author:ann\nauthor:bob\n"):
        commit(text)
        assert denylist.load_for_stage().lines() == text.split()
    for earlier in ("", "author:ann\n"):
        LIST.write_text(earlier)
        with pytest.raises(DataError, match=r"entries of the current commit's.*\.dvc first"):
            denylist.load_for_stage()
    LIST.write_text("author:ann\nauthor:bob\nauthor:cy\n")  # added, and not committed yet
    assert len(denylist.load_for_stage().lines()) == 3
    commit("author:ann\n")  # removed on purpose
    assert denylist.load_for_stage().lines() == ["author:ann"]


def test_a_commit_s_list_that_was_not_pulled_is_an_error(repository: Path) -> None:
    LIST.parent.mkdir()
    git("init")
    Path("data/inputs.dvc").write_text(f"outs:\n- md5: {'ab' * 16}\n  path: denylist.txt\n")
    git("add", "data/inputs.dvc")
    git("commit", "-m", "x")
    LIST.write_text("author:bob\n")
    with pytest.raises(DataError, match=r"`dvc pull data/denylist\.txt`"):
        denylist.load_for_stage()
