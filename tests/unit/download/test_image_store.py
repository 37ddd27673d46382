"""The store of originals: the mtimes that it keeps save time and decide nothing, and what leaves it
comes back.
"""

import io
import os
from pathlib import Path

import pytest
from damage import DAMAGES, Damage
from hostile.site import image_bytes, options
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.denylist import DenyList
from pttfaces.download.result import ImageInfo
from pttfaces.download.store import ImageStore


def open_store(root: str | Path) -> ImageStore:
    return ImageStore(root, options(), DenyList())


def filled(root: Path, count: int) -> tuple[ImageStore, list[ImageInfo]]:
    """A store of small images."""
    store = open_store(root)
    return store, [store.save(io.BytesIO(image_bytes("PNG", seed))) for seed in range(count)]


@given(DAMAGES, st.booleans())
def test_store_has_with_damaged_mtimes_gives_the_same_answer(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage, changed: bool
) -> None:
    place = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(place))
        store, images = filled(place / "raw", 2)
        store.sweep({image.path for image in images})
        if changed:
            path = Path(place, "raw", images[0].path)
            path.write_bytes(path.read_bytes()[::-1])
            os.utime(path, ns=(1, 1))
        (mtimes,) = (place / ".cache/raw").iterdir()
        mtimes.write_bytes(damage.of(mtimes.read_bytes()))
        again = open_store(place / "raw")
        assert [again.has(image) for image in images] == [not changed, True]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_store_restore_of_a_swept_original_brings_it_back(project: Path) -> None:
    raw, originals = project / "data/raw", project / ".cache/originals"
    store, images = filled(raw, 3)
    paths = [image.path for image in images]
    inodes = [(raw / path).stat().st_ino for path in paths]
    (raw / "ab").mkdir(exist_ok=True)
    (raw / "ab/stray.jpg").write_bytes(b"x")
    for _ in range(2):
        store.sweep({paths[0]})
        assert (names(raw), names(originals)) == ({paths[0]}, set(paths[1:]))
        assert [store.has(image) or store.restore(image) for image in images] == [True] * 3
        assert (names(raw), names(originals)) == (set(paths), set())
    assert store.restored == 4
    assert [(raw / path).stat().st_ino for path in paths] == inodes  # moved, not copied


def test_store_restore_of_a_damaged_original_fails_and_deletes_it(project: Path) -> None:
    store, images = filled(project / "data/raw", 2)
    store.sweep(set())
    original = project / ".cache/originals" / images[0].path
    original.write_bytes(original.read_bytes()[::-1])
    assert [store.restore(image) for image in images] == [False, True]
    assert names(project / "data/raw") == {images[1].path}
    assert not names(project / ".cache/originals")


def test_store_delete_originals_deletes_by_digest(project: Path) -> None:
    store, images = filled(project / "data/raw", 2)
    store.sweep(set())
    store.delete_originals([images[0].sha256, "f" * 64])
    assert names(project / ".cache/originals") == {images[1].path}


def test_store_in_a_temporary_experiment_leaves_the_originals_in_place(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the main folder's."""
    store, (image,) = filled(project / "data/raw", 1)
    store.sweep(set())
    clone = project / ".dvc/tmp/exps/tmp1"
    clone.mkdir(parents=True)
    monkeypatch.chdir(clone)
    monkeypatch.setenv("DVC_ROOT", str(project))
    experiment = open_store("data/raw")
    assert experiment.restore(image)
    assert store.restore(image)
    experiment.sweep(set())
    assert not names(clone / "data/raw")
    assert not names(project / ".cache/originals")
