"""The data set as Hugging Face's `datasets` reads it."""

from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from candidates_support import candidate, filtered
from PIL import Image

from pttfaces import files
from pttfaces.curation import dataset_card
from pttfaces.tables import DatasetRow


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def write_dataset(folder: Path, *splits: str) -> list[DatasetRow]:
    """A data set with an image for each of the splits, "" for a crop that is left out."""
    candidates = [
        candidate(index, article="M.1704074641.A.0F3", yaw=-1.5 * index, sharpness=300.0)
        for index in range(len(splits))
    ]
    rows = [
        replace(row, split=split) for row, split in zip(filtered(candidates), splits, strict=True)
    ]
    for split in ("train", "holdout"):
        files.clean_folder(folder / split)
    for index, row in enumerate(rows):
        if row.split:
            Image.new("RGB", (8, 8), (index, 0, 0)).save(folder / row.split / row.crop)
    dataset_card.write(folder, rows)
    return rows


def test_load_dataset_gives_train_and_validation_with_their_metadata(tmp_path: Path) -> None:
    rows = write_dataset(tmp_path / "set", "train", "holdout", "", "train")
    loaded = datasets.load_dataset(str(tmp_path / "set"))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 2, "validation": 1}
    shown = [int(np.asarray(each["image"])[0, 0, 0]) for each in loaded["train"]]
    assert shown == [0, 3]
    assert loaded["train"]["yaw"] == [rows[0].yaw, rows[3].yaw]
    assert loaded["validation"]["sharpness"] == [300.0]
    for path in (tmp_path / "set").rglob("*"):
        if path.is_file():
            assert not any(word in path.read_bytes() for word in (b"M.1704", b"by-", b"i.example"))


def test_load_dataset_without_held_out_images_gives_train_alone(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", "train", "train")
    assert list(datasets.load_dataset(str(tmp_path / "set"))) == ["train"]
