"""The stage `inputs`: the places that a person may fill, and a deny list that only grows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from settings import PRESET

import inputs
from pttfaces import denylist, repository
from pttfaces.denylist import DENIED, EMPTY, INPUTS
from pttfaces.errors import DataError, ParamsError

PLACES = ["data/inbox", "data/reference", DENIED]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(PRESET, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)


def record(outs: dict[str, str]) -> None:
    """Writes data/inputs.dvc with the MD5 of some outs."""
    lines = [f"- md5: {md5}\n  path: {name}\n" for name, md5 in outs.items()]
    Path(INPUTS).parent.mkdir(exist_ok=True)
    Path(INPUTS).write_text("outs:\n" + "".join(lines))


def test_inputs_makes_places_once_and_keeps_what_is_there() -> None:
    inputs.main()
    assert all(Path(place).exists() for place in PLACES)
    assert Path(DENIED).read_text(encoding="utf-8") == EMPTY
    Path(DENIED).write_text("author:x\n")
    Path("data/inbox/deep").mkdir()
    Path("data/inbox/deep/one.jpg").write_bytes(b"1")
    inputs.main()
    assert Path(DENIED).read_text() == "author:x\n"
    assert Path("data/inbox/deep/one.jpg").exists()


def test_inputs_with_a_mistake_in_params_yaml_names_it() -> None:
    """The first stage: DVC removes the results of a later one before that can say so."""
    Path("params.yaml").write_text(PRESET.read_text().replace("infer_steps:", "infer_step:"))
    with pytest.raises(ParamsError, match="did you mean infer_steps"):
        inputs.main()


@pytest.mark.parametrize("place", PLACES)
def test_inputs_in_a_clone_without_its_data_says_to_pull_and_makes_nothing(
    place: str,
) -> None:
    record({Path(place).name: "d41d8cd98f00b204e9800998ecf8427e"})
    with pytest.raises(DataError, match=f"has {place}, which is not here; run `dvc pull {place}`"):
        inputs.main()
    assert not Path(place).exists()


@pytest.mark.parametrize("place", PLACES)
def test_inputs_when_dvc_lock_knows_more_than_inputs_dvc_says_to_pull(place: str) -> None:
    """As after a merge of version 0.2 into a project that was not run since."""
    record({})
    entry = f"      - path: {place}\n        md5: d41d8cd98f00b204e9800998ecf8427e\n"
    Path("dvc.lock").write_text(f"stages:\n  crawl:\n    deps:\n{entry}")
    with pytest.raises(DataError, match=f"this commit has {place}"):
        inputs.main()
    assert not Path(place).exists()


def test_inputs_in_a_clone_whose_commit_has_the_first_content_makes_it() -> None:
    inputs.main()
    oids = {}
    for folder in ("inbox", "reference"):
        readme = Path("data", folder, "README.txt").read_bytes()
        listed = repository.folder_list([(repository.object_id(readme), "README.txt")])
        oids[folder] = f"{repository.object_id(listed)}.dir"
    record({**oids, "denylist.txt": repository.object_id(EMPTY.encode())})
    for folder in ("inbox", "reference"):
        Path("data", folder, "README.txt").unlink()
        Path("data", folder).rmdir()
    Path(DENIED).unlink()
    inputs.main()
    assert all(Path(place).exists() for place in PLACES)


def test_inputs_adds_every_forgotten_entry_to_the_deny_list(
    capsys: pytest.CaptureFixture[str],
) -> None:
    inputs.main()
    Path("data/forgotten.txt").write_text("author:someone\narticle:M.1704074641.A\n")
    Path(DENIED).write_text("author:other\n")
    with pytest.raises(DataError, match="lacks 2 entries"):
        denylist.load_for_stage()
    inputs.main()
    assert "data/denylist.txt: 2 entries of data/forgotten.txt added" in capsys.readouterr().out
    names = ("someone", "other")
    assert all(denylist.load_for_stage().denies(author=name) for name in names)
    before = Path(DENIED).read_bytes()
    inputs.main()
    assert Path(DENIED).read_bytes() == before


def test_load_for_stage_of_a_list_that_lacks_committed_entries_raises_data_error() -> None:
    """As after `git pull` without `dvc pull`: DVC would take the old list for an edit."""

    def run(*words: str) -> None:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": programs}
        subprocess.run(words, check=True, capture_output=True, env=environment)

    def commit(text: str) -> None:
        Path(DENIED).write_text(text)
        run("dvc", "commit", "--force", INPUTS)
        run("git", "add", INPUTS)
        run("git", "-c", "user.name=x", "-c", "user.email=x@x.test", "commit", "-m", "x")

    inputs.main()
    run("git", "init")
    run("dvc", "init")
    record({})
    Path(INPUTS).write_text("outs:\n- path: denylist.txt\n  hash: md5\n")
    for text in ("author:ann\n", "author:ann\nauthor:bob\n"):
        commit(text)
        assert denylist.load_for_stage().lines() == text.split()
    for older in ("", "author:ann\n", "author:bob\nauthor:cat\n"):
        Path(DENIED).write_text(older)
        with pytest.raises(DataError, match=rf"lacks \d entries of the current.*commit {INPUTS}"):
            denylist.load_for_stage()
    Path(DENIED).write_text("author:cat\nauthor:bob\nauthor:ann\n")
    assert denylist.load_for_stage().lines() == ["author:ann", "author:bob", "author:cat"]
    commit("author:ann\n")  # bob was removed on purpose
    assert denylist.load_for_stage().lines() == ["author:ann"]
    for path in Path(".dvc/cache").rglob("*"):
        if path.is_file():
            path.unlink()
    Path(DENIED).write_text("author:ann\nauthor:dan\n")
    with pytest.raises(
        DataError, match=r"differs from the current commit's.*`dvc pull data/denylist.txt`"
    ):
        denylist.load_for_stage()
