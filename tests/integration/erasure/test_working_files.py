"""What lies in the working folder and its caches is found by name, content or address."""

import subprocess
import sys
from pathlib import Path

import pytest

from pttfaces import archive, files
from pttfaces.erasure import working_files
from pttfaces.errors import DataError

IMAGE = b"a person"
DIGEST = files.digest_bytes(IMAGE)


def test_copies_in_inbox_and_reference_are_found_by_their_bytes(tmp_path: Path) -> None:
    for name in ("inbox/ann/1.jpg", "reference/some.png"):
        files.write_bytes(tmp_path / "data" / name, IMAGE)
    files.write_bytes(tmp_path / "data/inbox/other.jpg", b"someone else")
    found = working_files.input_files(tmp_path, {DIGEST})
    assert [path.name for path in found] == ["1.jpg", "some.png"]


def test_originals_that_left_data_raw_are_found_by_their_names(tmp_path: Path) -> None:
    """Download moves them to .cache/originals, from where they come back."""
    for digest in (DIGEST, files.digest_bytes(b"someone else")):
        files.write_bytes(tmp_path / f".cache/originals/{digest[:2]}/{digest}.jpg", IMAGE)
    (found,) = working_files.named_after(tmp_path, {DIGEST[:16]})
    assert found.name == f"{DIGEST}.jpg"


def test_only_lines_that_name_an_image_are_dropped() -> None:
    table = f'{{"url": "a", "sha256": "{DIGEST}"}}\n{{"url": "b"}}\n'.encode()
    assert working_files.without_lines(table, [DIGEST[:16].encode()]) == b'{"url": "b"}\n'


def test_a_read_only_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "linked.png"
    path.write_bytes(IMAGE)
    path.chmod(0o444)
    working_files.remove(path)
    working_files.remove(path)
    assert not path.exists()


def test_a_running_stage_is_an_error(tmp_path: Path) -> None:
    code = (
        "import sys; from pttfaces import workdir\n"
        "with workdir.exclusive('curate', 'stage-curate-0123'):\n"
        "    print('running', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path("src").absolute()), "PATH": ""},
        text=True,
    ) as stage:
        assert stage.stdout is not None
        assert stage.stdout.readline() == "running\n"
        with pytest.raises(DataError, match="stage curate is running"):
            working_files.check_idle(tmp_path)
    working_files.check_idle(tmp_path)


def test_zips_are_found_in_subfolders_except_for_dvc_s_outs(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    files.write_bytes(tmp_path / "set" / f"{DIGEST[:16]}-0.png", IMAGE)
    for name in ("crops.zip", "sent/to ann.zip", ".venv/x.zip", "data/generated.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        archive.pack(tmp_path / "set", tmp_path / name)
    archive.pack(tmp_path / "sent", tmp_path / "other.zip")
    found = working_files.zips_with(tmp_path, {DIGEST[:16]})
    assert [path.name for path in found] == ["crops.zip", "other.zip", "to ann.zip"]
