from functools import partial
from pathlib import Path

import numpy as np
from candidates_support import NOBODY, candidate, copies_of, look, options
from faces_support import Portrait
from PIL import Image

from pttfaces import files, images
from pttfaces.curation import filters, image_export


def test_downscale_averages_pixels_without_aliasing(portraits: list[Portrait]) -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert image_export.downscale(Image.fromarray(stripes), 64).std() < 3
    face = portraits[0].pixels[:256, :256]
    small = image_export.downscale(Image.fromarray(face), 64)
    areas = face.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - areas).mean() < 4
    assert np.array_equal(image_export.downscale(Image.fromarray(face), 256), face)


def test_write_images_when_a_crop_gives_none_reports_it_and_writes_the_rest(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    names = ["a.png", "b.png"]
    for name, portrait in zip(names, portraits, strict=False):
        crop = Image.fromarray(portrait.pixels[:256, :256])
        files.write_bytes(tmp_path / "crops" / name, images.png_bytes(crop))
    made = image_export.write_images(
        names,
        tmp_path / "crops",
        files.clean_folder(tmp_path / "train"),
        lambda path: None if path.name == "a.png" else image_export.downscale_file(path, 64),
    )
    assert list(made) == [("a.png", False), ("b.png", True)]
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["b.png"]
    assert images.read_rgb([tmp_path / "train/b.png"]).shape == (1, 64, 64, 3)


def test_export_crops_when_an_original_gives_no_image_uses_its_copy(
    tmp_path: Path,
) -> None:
    """Of a chain of look-alikes first both ends are made, then the middle alone."""
    sizes = {"original": (300.0, 0), "middle": (200.0, 20), "end": (100.0, 40), "other": (1.0, 200)}
    crops = [
        candidate(0, crop=name, face_px=size, phash=look(f"{2**bits - 1:064x}"))
        for name, (size, bits) in sizes.items()
    ]
    target, requested = files.clean_folder(tmp_path / "train"), []

    def make(path: Path) -> np.ndarray | None:
        requested.append(path.name)
        return None if path.name == "original" else np.zeros((4, 4, 3), np.uint8)

    copies = copies_of(crops, 20)
    filter_crops = partial(filters.filter_crops, crops, options(), 0, NOBODY, copies)
    rows = image_export.export_crops(filter_crops, tmp_path, target, make)
    reasons = {row.crop: row.reason for row in rows}
    assert [name for name, reason in reasons.items() if not reason] == ["middle", "other"]
    assert reasons["end"] == "duplicate"
    assert sorted(path.name for path in target.iterdir()) == ["middle", "other"]
    assert sorted(requested) == ["end", "middle", "original", "other"], "each once"
