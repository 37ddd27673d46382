import io
from pathlib import Path

import numpy as np
from faces_support import Portrait
from PIL import Image

from pttfaces import files, pictures
from pttfaces.faces import dataset


def test_a_picture_is_made_smaller_without_aliasing(portraits: list[Portrait]) -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert dataset.downscale(stripes, 64).std() < 3
    face = portraits[0].pixels[:256, :256]
    small = dataset.downscale(face, 64)
    areas = face.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - areas).mean() < 4
    assert np.array_equal(dataset.downscale(face, 256), face)


def test_pictures_are_written_and_what_gives_none_is_told(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    names = ["a.png", "b.png"]
    for name, portrait in zip(names, portraits, strict=False):
        crop = Image.fromarray(portrait.pixels[:256, :256])
        files.write_bytes(tmp_path / "crops" / name, pictures.png_bytes(crop))
    smaller = dataset.Downscaler(64)
    made = dataset.make_all(
        names,
        tmp_path / "crops",
        files.clean_folder(tmp_path / "train"),
        lambda path: None if path.name == "a.png" else smaller(path),
    )
    assert list(made) == [("a.png", False), ("b.png", True)]
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["b.png"]
    assert pictures.read_rgb([tmp_path / "train/b.png"]).shape == (1, 64, 64, 3)


def test_a_contact_sheet_shows_a_sample_of_each_section(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    crop = pictures.png_bytes(Image.fromarray(portraits[0].pixels[:256, :256]))
    names = [f"{number}.png" for number in range(60)]
    for name in names:
        files.write_bytes(tmp_path / name, crop)
    sheet = dataset.contact_sheet([("kept", names), ("blurred", names[:3]), ("no", [])], tmp_path)
    rows = sheet.height // 96
    assert rows == 5, "48 of 60 in four rows, and three in one"


def test_the_chart_is_the_same_picture_every_time() -> None:
    chart = dataset.blur_chart([5.0, 80.0, 120.0, 9000.0], 100)
    assert chart == dataset.blur_chart([5.0, 80.0, 120.0, 9000.0], 100)
    assert Image.open(io.BytesIO(chart)).size == (800, 400)
