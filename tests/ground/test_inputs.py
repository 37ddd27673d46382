"""The places where a person puts something in, and what must not lie there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import inputs
from pttfaces import denylist
from pttfaces.errors import DataError
from pttfaces.repository import object_id


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_places_are_made_once_and_what_lies_there_stays() -> None:
    inputs.main()
    Path("data/denylist.txt").write_text("author:x\n")
    Path("data/inbox/deep").mkdir()
    Path("data/inbox/deep/one.jpg").write_bytes(b"1")
    inputs.main()
    assert Path("data/denylist.txt").read_text() == "author:x\n"
    assert Path("data/inbox/deep/one.jpg").exists()


@pytest.mark.parametrize("place", ["data/denylist.txt", "data/inbox", "data/reference"])
def test_a_clone_without_what_its_commit_has_there_is_told_and_makes_nothing_empty(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    note = Path(f"{place}.dvc")
    note.parent.mkdir()
    shutil.copy(Path(inputs.__file__).parents[1] / note, note)
    inputs.main()
    assert f"made {place}" in capsys.readouterr().out, "the project's own have nothing in them"
    path = Path(place)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    note.write_text("outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n  path: x\n")
    inputs.main()
    assert f"`dvc pull {place}`" in capsys.readouterr().err
    assert not path.exists()


def test_who_was_forgotten_is_on_every_list(capsys: pytest.CaptureFixture[str]) -> None:
    inputs.main()
    Path("data/forgotten.txt").write_text("author:someone\narticle:M.1704074641.A\n")
    Path("data/denylist.txt").write_text("author:other\n")
    with pytest.raises(DataError, match="lacks 2 entries"):
        denylist.in_force()
    inputs.main()
    assert "data/denylist.txt: 2 entries of data/forgotten.txt added" in capsys.readouterr().out
    names = ("someone", "other")
    assert all(denylist.in_force().denies(author=name) for name in names)
    before = Path("data/denylist.txt").read_bytes()
    inputs.main()
    assert Path("data/denylist.txt").read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes need rights there")
@pytest.mark.parametrize("kind", ["link", "link to a folder", "dangling link", "hidden", "pipe"])
@pytest.mark.parametrize("folder", ["data/inbox", "data/reference"])
def test_what_dvc_would_follow_or_wait_at_is_named(folder: str, kind: str) -> None:
    inputs.main()
    deep = Path(folder, "deep")
    deep.mkdir()
    path = deep / (".x.jpg" if kind == "hidden" else "x.jpg")
    if kind == "pipe":
        os.mkfifo(path)
    else:
        target = {"link to a folder": "data", "dangling link": "nowhere"}.get(kind, "README")
        Path("README").write_text("secret")
        path.symlink_to(Path(target).resolve())
    with pytest.raises(DataError, match=r"x\.jpg is a link, a pipe or a device"):
        inputs.main()


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take no such name")
@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("folder", ["data/inbox", "data/reference"])
def test_a_name_that_dvc_cannot_note_down_is_named(folder: str, kind: str) -> None:
    inputs.main()
    Path(folder, "\\xff 字.jpg").write_bytes(b"a name like any other")
    inputs.main()
    name = Path(os.fsdecode(f"{folder}/deep".encode() + b"\xff"))
    name.mkdir() if kind == "folder" else name.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        inputs.main()
    assert str(caught.value).startswith(f"{folder}/deep\\xff is a name that is not UTF-8")


def test_a_list_that_git_has_brought_a_newer_version_of_is_no_edit() -> None:
    """As after `git pull`: dvc would take it for one, and undo what others have denied."""
    inputs.main()
    place, note = Path("data/denylist.txt"), Path("data/denylist.txt.dvc")
    note.write_text("outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n  path: denylist.txt\n")
    later = place.stat().st_mtime + 5
    os.utime(note, (later, later))
    with pytest.raises(DataError, match=r"older than this commit's.*`dvc pull data/denylist\.txt`"):
        inputs.main()
    os.utime(place, (later + 1, later + 1))  # edited since
    inputs.main()


def test_a_list_of_an_earlier_commit_is_refused_by_every_stage() -> None:
    """Also where dvc alone was called, which has noted the old list as an edit by then."""

    def git(*words: str) -> None:
        who = ("-c", "user.name=x", "-c", "user.email=x@x.test")
        subprocess.run(["git", *who, *words], check=True, capture_output=True)

    def commit(text: str) -> None:
        Path("data/denylist.txt").write_text(text)
        oid = object_id(text.encode())
        Path("data/denylist.txt.dvc").write_text(f"outs:\n- md5: {oid}\n  path: denylist.txt\n")
        git("add", "data/denylist.txt.dvc")
        git("commit", "-m", "x")

    Path("data").mkdir()
    git("init")
    for text in ("", "author:ann\n", "author:ann\nauthor:bob\n"):
        commit(text)
        assert denylist.in_force().lines() == text.split()
    for earlier in ("", "author:ann\n"):
        Path("data/denylist.txt").write_text(earlier)
        with pytest.raises(DataError, match=r"is an earlier commit's.*commit .*\.dvc first"):
            denylist.in_force()
    Path("data/denylist.txt").write_text("author:bob\n")  # an edit that no commit has
    assert denylist.in_force().lines() == ["author:bob"]
    commit("author:ann\n")  # taken out on purpose
    assert denylist.in_force().lines() == ["author:ann"]
