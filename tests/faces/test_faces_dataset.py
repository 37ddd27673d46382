import io
from functools import partial
from pathlib import Path

import numpy as np
from faces_support import Portrait
from PIL import Image

from pttfaces import files, images
from pttfaces.curation import export, filters
from pttfaces.curation.filters import Candidate, Limits, Source
from pttfaces.denylist import DenyList
from pttfaces.faces.quality import MEASURES


def test_a_picture_is_made_smaller_without_aliasing(portraits: list[Portrait]) -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert export.downscale(stripes, 64).std() < 3
    face = portraits[0].pixels[:256, :256]
    small = export.downscale(face, 64)
    areas = face.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - areas).mean() < 4
    assert np.array_equal(export.downscale(face, 256), face)


def test_pictures_are_written_and_what_gives_none_is_told(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    names = ["a.png", "b.png"]
    for name, portrait in zip(names, portraits, strict=False):
        crop = Image.fromarray(portrait.pixels[:256, :256])
        files.write_bytes(tmp_path / "crops" / name, images.png_bytes(crop))
    smaller = export.Downscaler(64)
    made = export.make_all(
        names,
        tmp_path / "crops",
        files.clean_folder(tmp_path / "train"),
        lambda path: None if path.name == "a.png" else smaller(path),
    )
    assert list(made) == [("a.png", False), ("b.png", True)]
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["b.png"]
    assert images.read_rgb([tmp_path / "train/b.png"]).shape == (1, 64, 64, 3)


def test_where_an_original_gives_no_picture_its_copy_does_and_that_one_s_copies_go(
    tmp_path: Path,
) -> None:
    """Of a chain of likenesses first both ends are made, then the middle alone."""
    sizes = {"original": (300.0, 0), "middle": (200.0, 20), "end": (100.0, 40), "other": (1.0, 200)}
    crops = [
        Candidate(name, 0, "", (Source("", "", name),), measured(size), f"{2**bits - 1:064x}")
        for name, (size, bits) in sizes.items()
    ]
    target, asked = files.clean_folder(tmp_path / "train"), []

    def make(path: Path) -> np.ndarray | None:
        asked.append(path.name)
        return None if path.name == "original" else np.zeros((4, 4, 3), np.uint8)

    choose = partial(filters.judge, crops, Limits(duplicate_bits=20), DenyList().denies)
    chosen = export.make_chosen(choose, tmp_path, target, make)
    reasons = {crop.crop: crop.reason for crop in chosen}
    assert [name for name, reason in reasons.items() if not reason] == ["middle", "other"]
    assert reasons["end"] == "duplicate"
    assert sorted(path.name for path in target.iterdir()) == ["middle", "other"]
    assert sorted(asked) == ["end", "middle", "original", "other"], "each once"


def measured(face_px: float) -> dict[str, float]:
    return dict.fromkeys(MEASURES, 0.0) | {"blur": 500.0, "face_px": face_px}


def test_a_contact_sheet_shows_a_sample_of_each_section(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    crop = images.png_bytes(Image.fromarray(portraits[0].pixels[:256, :256]))
    names = [f"{number}.png" for number in range(60)]
    for name in names:
        files.write_bytes(tmp_path / name, crop)
    sheet = export.contact_sheet([("kept", names), ("blurred", names[:3]), ("no", [])], tmp_path)
    rows = sheet.height // 96
    assert rows == 5, "48 of 60 in four rows, and three in one"


def test_the_chart_is_the_same_picture_every_time() -> None:
    chart = export.blur_chart([5.0, 80.0, 120.0, 9000.0], 100)
    assert chart == export.blur_chart([5.0, 80.0, 120.0, 9000.0], 100)
    assert Image.open(io.BytesIO(chart)).size == (800, 400)
