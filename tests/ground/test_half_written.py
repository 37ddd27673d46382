"""What a kill has left of dvc's own files, with which dvc would not start any more."""

import subprocess
from pathlib import Path

import pytest
from light_line import make_light_line
from repository import DVC_LOCK, ran
from ruamel.yaml import YAML

from pttfaces import half_written
from pttfaces.errors import DataError


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("committed", [True, False])
def test_a_half_written_lock_of_dvc_is_given_up_and_a_whole_one_is_left_alone(
    committed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("dvc.lock")
    subprocess.run(["git", "init", "-q"], check=True)
    path.write_text(DVC_LOCK)
    if committed:
        who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        subprocess.run(["git", "add", "dvc.lock"], check=True)
        subprocess.run(["git", *who, "commit", "-q", "-m", "first"], check=True)
    newer = DVC_LOCK.replace("-1", "-2")
    path.write_text(newer)
    half_written.mend_lock()
    assert path.read_text() == newer
    assert "half written" not in capsys.readouterr().out
    for end in ("    - pat", "    cmd", "  cr"):
        half = newer[: newer.index(end) + len(end)]
        path.write_text(half)
        half_written.mend_lock()
        assert "dvc.lock was half written" in capsys.readouterr().out, half
        if committed:
            assert path.read_text() == DVC_LOCK
        else:
            assert not path.exists()
        assert Path("dvc.lock.damaged").read_text() == half


def test_a_half_written_note_of_dvcs_own_work_is_given_up() -> None:
    path = Path(".dvc/tmp/rwlock")
    path.parent.mkdir(parents=True)
    whole = '{"read": {"data/raw": []}}'
    path.write_text(whole)
    half_written.mend_notes_of_work()
    assert path.read_text() == whole
    for end in (0, 12):
        path.write_text(whole[:end])
        half_written.mend_notes_of_work()
        assert not path.exists()


def test_a_folder_without_an_entry_in_dvcs_run_cache_is_taken_out() -> None:
    empty, whole = Path(".dvc/cache/runs/ab/abcd"), Path(".dvc/cache/runs/ab/abce/entry")
    empty.mkdir(parents=True)
    whole.parent.mkdir()
    whole.write_text("x")
    half_written.mend_run_cache()
    assert not empty.exists()
    assert whole.exists()


def test_a_merge_in_dvcs_lock_is_told_and_one_of_a_newer_dvc_is_left_to_dvc() -> None:
    path = Path("dvc.lock")
    both = "<<<<<<< HEAD\n      md5: 1\n=======\n>>>>>>> other"
    merge = DVC_LOCK.replace("      md5: crawl-1", both)
    path.write_text(merge)
    with pytest.raises(DataError, match="both sides of a merge"):
        half_written.mend_lock()
    assert path.read_text() == merge
    newer = DVC_LOCK.replace("2.0", "3.0")
    path.write_text(newer)
    half_written.mend_lock()
    assert path.read_text() == newer


def test_dvc_brings_back_from_its_run_cache_what_a_half_written_lock_had(tmp_path: Path) -> None:
    made = make_light_line(tmp_path / "light")
    made.ok("dvc", "repro")
    lock = made.path / "dvc.lock"
    whole = lock.read_text(encoding="utf-8")
    lock.write_text(whole[: whole.rindex("path:") + 3], encoding="utf-8")
    assert made.run("dvc", "repro").returncode != 0
    made.ok("python", "src/inputs.py")
    assert ran(made.ok("dvc", "repro")) == ["download"]  # which keeps what it has, so it is quick
    assert yaml_of(lock.read_text(encoding="utf-8")) == yaml_of(whole)


def yaml_of(text: str) -> object:
    """Its stages, but for the one that ran again and has other seconds in its figures."""
    stages = YAML(typ="safe").load(text)["stages"]
    return {name: stage for name, stage in stages.items() if name != "download"}
