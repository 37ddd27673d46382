"""Training images: decoding, digests, memory, batches."""

from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch
from PIL import Image

from pttfaces import files
from pttfaces.errors import DataError
from pttfaces.training import data, loop


def test_load_images_when_memory_is_too_small_maps_them_and_trains_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    in_memory = tiny.draw_images(tmp_path / "train", 18)
    monkeypatch.setattr(data, "MAX_IN_MEMORY", 0)
    mapped = data.load_images(tmp_path / "train", 16)
    assert (mapped.digest, mapped.pixels.tolist()) == (in_memory.digest, in_memory.pixels.tolist())
    digests = []
    for name, images in (("a", in_memory), ("b", mapped)):
        (tmp_path / name).mkdir()
        loop.train(tiny.params(epochs=1), images, images, tmp_path / name, lambda *_: None)
        digests.append(files.digest_tree(tmp_path / name / "last"))
    assert digests[0] == digests[1]
    assert list((tmp_path / ".cache/pixels").iterdir()) == []  # mapped, and gone with the process


def test_load_images_of_another_size_or_of_no_image_raises_data_error(tmp_path: Path) -> None:
    tiny.draw_images(tmp_path, 2, size=12)
    with pytest.raises(DataError, match=r"000\.png is 12×12.*16×16"):
        data.load_images(tmp_path, 16)
    (tmp_path / "000.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"000\.png cannot be decoded"):
        data.load_images(tmp_path, 12)


def test_digest_of_training_images_follows_pixels_and_not_their_encoding(tmp_path: Path) -> None:
    first = tiny.draw_images(tmp_path, 3).digest
    path = tmp_path / "001.png"
    pixels = np.asarray(Image.open(path))
    Image.fromarray(pixels).save(path, compress_level=0)
    assert data.load_images(tmp_path, 16).digest == first
    Image.fromarray(255 - pixels).save(path)
    assert data.load_images(tmp_path, 16).digest != first


def test_batch_holds_pixels_from_minus_one_to_one_and_mirrors_flips(tmp_path: Path) -> None:
    images = tiny.draw_images(tmp_path, 4)
    batch = data.batch(images.pixels, torch.tensor([2, 0]), "cpu")
    assert batch.shape == (2, 3, 16, 16)
    assert torch.equal(((batch + 1) * 127.5).round().to(torch.uint8), images.pixels[[2, 0]])
    rows, flips = torch.tensor([2, 0]), torch.tensor([True, False])
    flipped = data.batch(images.pixels, rows, "cpu", flips)
    assert torch.equal(flipped[0], batch[0].flip(2))
    assert torch.equal(flipped[1], batch[1])
