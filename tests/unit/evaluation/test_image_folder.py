"""Folders of images: what is read, and the sentences for what cannot be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytorch_fid.fid_score import IMAGE_EXTENSIONS

from pttfaces.errors import DataError
from pttfaces.evaluation.image_folder import check_same_size, open_folder, open_if_any


def draw(
    path: Path, size: tuple[int, int] = (8, 8), colour: tuple[int, ...] = (10, 20, 30)
) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", size, colour).save(path)


def test_open_folder_gives_images_in_order_and_leaves_out_other_files(
    tmp_path: Path,
) -> None:
    """In batches, by their indices, and evenly spread."""
    for index in range(5):
        draw(tmp_path / f"{index}.png", colour=(index, 0, 0))
    (tmp_path / "README.txt").write_text("not an image")
    draw(tmp_path / "below" / "6.png")
    found = open_folder(tmp_path, "")
    batches = list(found.batches(2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert np.concatenate(batches)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert found.read(np.array([3, 1]))[:, 0, 0, 0].tolist() == [3, 1]
    assert [path.name for path in found.spread(2).paths] == ["0.png", "4.png"]


def test_digest_of_a_folder_follows_its_content(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        draw(tmp_path / folder / "1.png")
    draw(tmp_path / "c" / "1.png", colour=(0, 0, 0))
    a, b, c = (open_folder(tmp_path / name, "").digest for name in "abc")
    assert a == b != c


def test_open_folder_without_an_image_raises_with_what_to_do(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="holds no image; draw some"):
            open_folder(folder, "draw some")
        assert open_if_any(folder) is None


def test_open_folder_of_images_of_two_sizes_raises_data_error(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", size=(9, 8))
    with pytest.raises(DataError, match=r"b\.png is 9×8 and a\.png is 8×8"):
        open_folder(tmp_path, "")


def test_check_same_size_of_folders_of_two_sizes_raises_data_error(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "1.png")
    draw(tmp_path / "b" / "1.png", size=(16, 16))
    with pytest.raises(DataError, match=r"8×8.*16×16"):
        check_same_size(open_folder(tmp_path / "a", ""), open_folder(tmp_path / "b", ""))


def test_open_folder_and_batches_when_an_image_is_unreadable_raise_data_error(
    tmp_path: Path,
) -> None:
    draw(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2\.png cannot be decoded"):
        open_folder(tmp_path, "")
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "2.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:100])
    with pytest.raises(DataError, match=r"2\.png cannot be decoded"):
        list(open_folder(tmp_path, "").batches(2))


def test_skipped_by_pytorch_fid_counts_files_that_it_does_not_read(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.JPG", "c.Png", "d.png", "e.txt"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG")
    images = open_folder(tmp_path, "")
    theirs = {path for ending in IMAGE_EXTENSIONS for path in tmp_path.glob(f"*.{ending}")}
    assert len(images) == 4
    assert images.skipped_by_pytorch_fid == len(set(images.paths) - theirs) == 2


def test_digest_reads_the_images_once(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    images = open_folder(tmp_path, "")
    digest = images.digest
    (tmp_path / "a.png").unlink()
    assert images.digest == digest
