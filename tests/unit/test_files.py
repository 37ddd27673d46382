"""Files: whole or not there, the same bytes for the same content, back as they were."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest
from damage import DAMAGES, Damage
from hypothesis import example, given
from hypothesis import strategies as st
from repository import DVC_LOCK

from pttfaces import archive, files, workdir
from pttfaces.errors import DataError

NAMES = st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,2}\.png", fullmatch=True)


def fill(folder: Path, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        files.write_bytes(folder / name, data)


def read_all(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_atomic_when_the_write_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.atomic(path) as handle:
        handle.write(b"half")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_atomic_when_killed_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    files.write_text(path, "old")
    program = textwrap.dedent("""
        import sys, time
        from pttfaces import files
        with files.atomic(sys.argv[1]) as handle:
            handle.write(b"half")
            handle.flush()
            print("writing", flush=True)
            time.sleep(60)
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": "src"},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"writing\n"
    child.send_signal(signal.SIGKILL) if hasattr(signal, "SIGKILL") else child.kill()
    child.wait()
    child.stdout.close()
    assert path.read_text(encoding="utf-8") == "old"


@given(content=st.dictionaries(NAMES, st.binary(max_size=50), min_size=1, max_size=6))
def test_unpack_gives_back_what_pack_has_packed(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes]
) -> None:
    base = tmp_path_factory.mktemp("pack")
    fill(base / "in", content)
    archive.pack(base / "in", base / "a.zip")
    archive.unpack(base / "a.zip", base / "out")
    assert read_all(base / "out") == read_all(base / "in")


def test_pack_of_the_same_content_gives_the_same_zip(tmp_path: Path) -> None:
    content = {"train/b.png": b"2", "train/a.png": b"1", "holdout/c.png": b"3"}
    fill(tmp_path / "one", content)
    time.sleep(0.01)
    fill(tmp_path / "two", dict(reversed(content.items())))
    (tmp_path / "two/train/a.png").chmod(0o600)
    os.utime(tmp_path / "two/train/a.png", (0, 1e9))
    archive.pack(tmp_path / "one", tmp_path / "one.zip")
    archive.pack(tmp_path / "two", tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize(
    "name", ["../evil.png", "/evil.png", "a/../../evil.png", "C:/evil.png", "a/D:/e.png"]
)
def test_unpack_of_a_name_that_leads_outside_raises_data_error(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as bundle:
        bundle.writestr("good.png", b"1")
        bundle.writestr(name, b"2")
    with pytest.raises(DataError, match="leads outside"):
        archive.unpack(tmp_path / "evil.zip", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]


@pytest.mark.parametrize("names", [("a", "a/b"), ("a", "a/b/c"), ("a/b", "a"), ("a", "./a")])
def test_unpack_of_a_name_that_appears_twice_raises_data_error(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    """Or that is both a file and a folder."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        for name in names:
            bundle.writestr(name, b"1")
    with pytest.raises(DataError, match="appears twice, or as both a file and a folder"):
        archive.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_unpack_of_rare_compression_or_encryption_raises_data_error(tmp_path: Path) -> None:
    """Python cannot unpack these."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as bundle:
        bundle.writestr("a.png", b"1")
    with pytest.raises(DataError, match="compressed by a rare method"):
        archive.unpack(path, tmp_path / "out")
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        archive.unpack(path, tmp_path / "out")


@given(DAMAGES, DAMAGES)
@example(Damage(0.985, 1), Damage(0.99, 1))  # a place before the file's begin
@example(Damage(0.617, 0x62), Damage(0.99, 1))  # an empty name
def test_unpack_of_a_damaged_zip_gives_the_same_files_or_data_error(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage, another: Damage
) -> None:
    base = tmp_path_factory.mktemp("zip")
    whole = {"b/字.png": b"12345" * 9, "c.png": b""}
    path = base / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in whole.items():
            bundle.writestr(name, data)
    content = damage.of(path.read_bytes())
    path.write_bytes(another.of(content) if content else content)
    with contextlib.suppress(DataError):
        archive.unpack(path, base / "out")
        assert set(read_all(base / "out").values()) <= set(whole.values())


@pytest.mark.skipif(sys.platform == "win32", reason="its names have other bounds")
@pytest.mark.parametrize("name", ["a" * 300 + ".png", "a/" * 3000 + "b.png"])
def test_unpack_of_a_name_too_long_for_the_disk_raises_a_short_data_error(
    name: str, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr(name, b"1")
    with pytest.raises(DataError, match="is a longer name than this disk can hold") as caught:
        archive.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert len(str(caught.value)) < 200 + len(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_pack_and_unpack_of_links_raise_data_error(tmp_path: Path) -> None:
    fill(tmp_path / "in", {"a.png": b"1"})
    (tmp_path / "in/link.png").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match="symbolic link"):
        archive.pack(tmp_path / "in", tmp_path / "a.zip")
    entry = zipfile.ZipInfo("link.png")
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as bundle:
        bundle.writestr(entry, "/etc/hostname")
    with pytest.raises(DataError, match="symbolic link"):
        archive.unpack(tmp_path / "evil.zip", tmp_path / "out")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_unpack_under_a_group_s_umask_makes_a_folder_that_the_group_can_write(
    tmp_path: Path,
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").touch()
    archive.pack(tmp_path / "in", tmp_path / "a.zip")
    before = os.umask(0o002)
    try:
        archive.unpack(tmp_path / "a.zip", tmp_path / "out")
    finally:
        os.umask(before)
    for path in (tmp_path / "out", tmp_path / "out/a"):
        assert path.stat().st_mode & 0o020, path


def test_unpack_into_a_folder_with_files_raises_data_error(tmp_path: Path) -> None:
    fill(tmp_path / "in", {"a.png": b"1"})
    archive.pack(tmp_path / "in", tmp_path / "a.zip")
    with pytest.raises(DataError, match="already holds something"):
        archive.unpack(tmp_path / "a.zip", tmp_path / "in")


def test_unpack_of_no_zip_and_pack_of_no_folder_raise_data_error(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"not a zip")
    with pytest.raises(DataError, match="not a readable zip"):
        archive.unpack(tmp_path / "a.zip", tmp_path / "out")
    with pytest.raises(DataError, match=r"none\.zip does not exist"):
        archive.unpack(tmp_path / "none.zip", tmp_path / "deep/out")
    assert not (tmp_path / "deep").exists()
    with pytest.raises(DataError, match="is not a folder"):
        archive.pack(tmp_path / "none", tmp_path / "b.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file"):
        archive.pack(tmp_path / "empty", tmp_path / "b.zip")


@given(
    rows=st.lists(
        st.fixed_dictionaries({"title": st.text(), "nrec": st.integers() | st.none()}), max_size=5
    )
)
def test_read_json_lines_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "rows.jsonl"
    files.write_json_lines(path, rows)
    assert files.read_json_lines(path) == rows


@given(st.binary(max_size=200), st.integers(0, 300))
@example(b"[" * 100_000, 0)
def test_read_json_and_json_lines_of_damaged_files_raise_at_most_data_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, end: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "rows.jsonl"
    files.write_json_lines(path, [{"title": "表特", "nrec": number} for number in range(5)])
    path.write_bytes(path.read_bytes()[:end] + noise)
    with contextlib.suppress(DataError):
        assert all(isinstance(row, dict) for row in files.read_json_lines(path))
    with contextlib.suppress(DataError):
        files.read_json(path)


@given(DAMAGES)
def test_read_json_lines_of_damaged_rows_gives_all_fields_or_data_error(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    path = tmp_path_factory.mktemp("json") / "rows.jsonl"
    files.write_json_lines(path, [{"title": "表特", "nrec": number} for number in range(3)])
    path.write_bytes(damage.of(path.read_bytes()))
    with contextlib.suppress(DataError):
        for row in files.read_json_lines(path, ["title", "nrec"]):
            assert row.keys() == {"title", "nrec"}


def test_read_json_lines_of_a_cut_line_raises_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": ')
    with pytest.raises(DataError, match="line 2"):
        files.read_json_lines(path)


def test_read_json_lines_of_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dvc repro"):
        files.read_json_lines(tmp_path / "none.jsonl")


def test_digest_tree_follows_contents_and_not_the_order_of_writing(tmp_path: Path) -> None:
    fill(tmp_path / "one", {"a": b"1", "b/c": b"2"})
    fill(tmp_path / "two", {"b/c": b"2", "a": b"1"})
    assert files.digest_tree(tmp_path / "one") == files.digest_tree(tmp_path / "two")
    fill(tmp_path / "two", {"a": b"3"})
    assert files.digest_tree(tmp_path / "one") != files.digest_tree(tmp_path / "two")


def test_resuming_gives_each_key_a_folder_under_the_main_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with workdir.resuming("train", {"rate": 1, "digest": "a"}) as one:
        assert one.parent == tmp_path / ".resume"
    with workdir.resuming("train", {"digest": "a", "rate": 1}) as same:
        assert same == one
    with workdir.resuming("train", {"digest": "b", "rate": 1}) as other:
        assert other != one
    assert workdir.cache_dir("pages") == tmp_path / ".cache/pages"


def test_write_metrics_ends_with_the_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files.write_metrics("crawl", {"rows": 3})
    assert list(json.loads(Path("metrics/crawl.json").read_text(encoding="utf-8"))) == [
        "rows",
        "seconds",
    ]


def test_resuming_keeps_the_work_after_a_failure_and_removes_it_after_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt), workdir.resuming("generate", 1) as work:
        (work / "000000.png").write_bytes(b"done")
        raise KeyboardInterrupt
    with workdir.resuming("generate", 1) as work:
        assert (work / "000000.png").read_bytes() == b"done"
    assert not work.exists()


@pytest.mark.parametrize("before", [DVC_LOCK, None])
@pytest.mark.parametrize("after", [DVC_LOCK.replace("-1", "-2"), None])
def test_resuming_until_recorded_keeps_the_work_until_dvc_records_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, after: str | None
) -> None:
    clone, lock = tmp_path / "clone", Path("dvc.lock")
    clone.mkdir()
    monkeypatch.chdir(clone)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    if before:
        lock.write_text(before)

    def work_on(content: bytes) -> Path:
        with workdir.resuming("train", 1, until_recorded=True) as work:
            assert [path.read_bytes() for path in work.iterdir()] == [content] * bool(content)
            (work / "state.pt").write_bytes(b"whole")
            workdir.remove_recorded_work()
            assert work.exists(), "another stage's start takes nothing from one that is at work"
        return work

    work_on(b"")
    workdir.remove_recorded_work()  # dvc was killed, and the stage starts again
    if before:  # another stage is noted, or git writes the file anew
        lock.write_text(DVC_LOCK.replace("crawl-1", "crawl-2"))
        workdir.remove_recorded_work()
    work = work_on(b"whole")
    (tmp_path / ".resume/other").mkdir()
    (tmp_path / ".resume/other/done.json").mkdir()  # damage stops nothing
    if after:
        lock.write_text(after)
    else:
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(clone)  # of an experiment that has ended
    workdir.remove_recorded_work()
    assert not work.exists()


def test_resuming_without_until_recorded_or_without_dvc_removes_the_work_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with workdir.resuming("crawl", 1) as work:
        pass
    assert not work.exists()
    monkeypatch.delenv("DVC_ROOT")
    monkeypatch.chdir(tmp_path)
    with workdir.resuming("train", 1, until_recorded=True) as work:
        pass
    assert not work.exists()


def test_resuming_in_two_processes_lets_the_second_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path("src").resolve()
    monkeypatch.chdir(tmp_path)
    program = textwrap.dedent("""
        from pttfaces import workdir
        with workdir.resuming("train", 1) as work:
            print("inside", len(list(work.iterdir())), flush=True)
    """)
    with workdir.resuming("train", 1) as work:
        (work / "state.pt").write_bytes(b"mine")
        child = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(source)},
        )
        assert child.stderr is not None
        assert b"waiting for another process" in child.stderr.readline()
        assert child.poll() is None
    assert child.communicate(timeout=60)[0] == b"inside 0\n"


def test_write_text_to_a_folder_s_path_raises_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; give the path of a file"):
        files.write_text(tmp_path, "text")
    assert not list(tmp_path.parent.glob("*.tmp"))
