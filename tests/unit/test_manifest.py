"""The list of a data set's images, and `pttfaces pack`, which writes it for one's own images."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pttfaces import archive, files, manifest, tables
from pttfaces.errors import DataError

PACK = [sys.executable, "-m", "pttfaces", "pack"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files.write_text(tmp_path / "dvc.yaml", "")  # a checkout, to `pttfaces`
    for name in ("train/a.png", "train/b.png", "holdout/c.png", "notes.txt"):
        files.write_bytes(tmp_path / name, name.encode())
    assert manifest.write_manifest(tmp_path) == 3
    return tmp_path


def test_write_manifest_lists_each_image_with_its_digest(folder: Path) -> None:
    """A folder as its manifest lists it passes the check."""
    table = tables.read_csv(folder / "manifest.csv")
    assert list(table["picture"]) == ["holdout/c.png", "train/a.png", "train/b.png"]
    assert table["sha256"][0] == files.digest_bytes(b"holdout/c.png")
    manifest.check_manifest(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "train/b.png").write_bytes(b"another"),
        lambda folder: (folder / "train/b.png").unlink(),
        lambda folder: (folder / "holdout/b.png").write_bytes(b"new"),
        lambda folder: (folder / "train/b.png").rename(folder / "holdout/b.png"),
    ],
    ids=["changed", "missing", "more", "moved"],
)
def test_check_manifest_of_a_changed_folder_names_the_difference(
    folder: Path, change: Callable[[Path], object]
) -> None:
    change(folder)
    with pytest.raises(DataError, match=r"differs from its manifest\.csv.*/b\.png.*--manifest"):
        manifest.check_manifest(folder)


def test_check_manifest_of_many_differences_names_three(tmp_path: Path) -> None:
    for number in range(5):
        files.write_bytes(tmp_path / f"{number}.png", b"")
    manifest.write_manifest(tmp_path)
    for path in tmp_path.glob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"0\.png, 1\.png, 2\.png and 2 more"):
        manifest.check_manifest(tmp_path)


def test_check_manifest_of_a_damaged_manifest_raises_data_error(folder: Path) -> None:
    """A missing one is no error."""
    path = folder / "manifest.csv"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError):
        manifest.check_manifest(folder)
    path.unlink()
    manifest.check_manifest(folder)


@pytest.mark.parametrize(
    ("names", "target", "warning"),
    [
        (
            ["dataset/train/a.png", "dataset/manifest.csv"],
            "data/dataset",
            "dataset is one: move it",
        ),
        (["train/A.PNG"], "data/dataset", "put the images into data/dataset/train as .png"),
        (["000000.png"], "data/dataset", "put the images into data/dataset/train as .png"),
        ([], "./data/dataset", "put the images into data/dataset/train as .png"),
        (["000000.png"], "look", None),
        (["files/md5/ab/cdef", "commits.bundle"], "bag", None),
        (["train/a.png", "holdout/b.png"], "data/dataset", None),
    ],
)
def test_pack_unpack_of_an_archive_that_is_no_data_set_warns(
    tmp_path: Path, names: list[str], target: str, warning: str | None
) -> None:
    files.write_text(tmp_path / "dvc.yaml", "")  # a checkout, to `pttfaces`
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        for name in names:
            bundle.writestr(name, b"1")
    command = [*PACK, "--unpack", "a.zip", target]
    ended = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    expected = f"{Path(target)}: {len(names)} files from a.zip\n"
    assert (ended.returncode, ended.stdout) == (0, expected)
    assert len(ended.stderr.splitlines()) == (warning is not None)
    assert (warning or "") in ended.stderr
    assert ("data/dataset has no train/*.png" in ended.stderr) == (warning is not None)


def test_pack_manifest_of_one_s_own_images_makes_them_a_data_set(folder: Path) -> None:
    def pack(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*PACK, *arguments]
        return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)

    (folder / "manifest.csv").unlink()
    ended = pack("--manifest", ".")
    assert (ended.returncode, ended.stdout) == (0, "manifest.csv: 3 images\n")
    manifest.check_manifest(folder)
    archive.pack(folder, folder / "with.zip")
    (folder / "manifest.csv").unlink()
    archive.pack(folder, folder / "without.zip")
    for name in ("with", "without"):
        assert pack("--unpack", f"{name}.zip", name).returncode == 0
        manifest.check_manifest(folder / name)
        assert len(tables.read_csv(folder / name / "manifest.csv")) == 3
    for wrong in (["--manifest", "train", "other"], ["train"], ["--unpack", "train"]):
        assert pack(*wrong).returncode == 2
    (folder / "none").mkdir()
    refused = pack("--manifest", "none")
    assert refused.returncode == 2
    assert "has no PNG" in refused.stderr
