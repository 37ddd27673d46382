"""The places where a person puts something in, and what must not lie there."""

import os
import sys
from pathlib import Path

import pytest

import inputs
from pttfaces.errors import DataError


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_places_are_made_once_and_what_lies_there_stays() -> None:
    inputs.main()
    Path("data/denylist.txt").write_text("article:x\n")
    Path("data/inbox/deep").mkdir()
    Path("data/inbox/deep/one.jpg").write_bytes(b"1")
    inputs.main()
    assert Path("data/denylist.txt").read_text() == "article:x\n"
    assert Path("data/inbox/deep/one.jpg").exists()


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
