"""Image files and grids: every pixel in its place, unchanged."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pttfaces import images
from pttfaces.errors import DataError


def squares(count: int, side: int = 4) -> np.ndarray:
    values = np.arange(count, dtype=np.uint8) + 100
    return np.broadcast_to(values[:, None, None, None], (count, side, side, 3)).copy()


def test_grid_holds_every_image_in_reading_order() -> None:
    image = np.asarray(images.grid(squares(5), columns=3, scale=2))
    assert image.shape == (2 * 10 + 2, 3 * 10 + 2, 3)
    assert [int(image[4, 4 + 10 * column, 0]) for column in range(3)] == [100, 101, 102]
    assert [int(image[14, 4 + 10 * column, 0]) for column in range(2)] == [103, 104]


def test_sheet_captions_each_section_even_an_empty_one() -> None:
    empty = np.zeros((0, 4, 4, 3), np.uint8)
    image = images.sheet([("kept: 2", squares(2)), ("dropped: 0", empty)], columns=4)
    assert image.width >= 4 * 6
    assert (np.asarray(image)[-24:] > 200).any()  # the second caption


def test_read_rgb_gives_back_what_save_png_has_written(tmp_path: Path) -> None:
    given = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, pixels in zip(paths, given, strict=True):
        images.save_png(path, Image.fromarray(pixels))
    assert np.array_equal(images.read_rgb(paths), given)


def test_read_rgb_of_another_size_or_broken_bytes_raises_data_error(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    noise = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    images.save_png(paths[0], Image.fromarray(noise[:, :8]))
    images.save_png(paths[1], Image.fromarray(noise))
    with pytest.raises(DataError, match=r"b\.png is 9×8 pixels, expected 8×8; make it again"):
        images.read_rgb(paths)
    with pytest.raises(DataError, match=r"a\.png is 8×8 pixels, expected 9×8; cut it\."):
        images.read_rgb(paths, (9, 8), "cut it")
    whole = paths[1].read_bytes()
    for broken in (b"", b"<html>", whole[:40], whole[:150], whole[:12] + b"\xff" * 9 + whole[21:]):
        paths[1].write_bytes(broken)
        with pytest.raises(DataError, match=r"b\.png cannot be decoded"):
            images.read_rgb(paths[1:])


def test_read_rgb_of_no_image_is_an_empty_array() -> None:
    assert images.read_rgb([]).shape == (0, 1, 1, 3)
    assert images.read_rgb([], (6, 4)).shape == (0, 4, 6, 3)
