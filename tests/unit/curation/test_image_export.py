from dataclasses import replace
from pathlib import Path

import numpy as np
from candidates_support import candidate, params
from faces_support import Portrait
from PIL import Image

from pttfaces import files, images
from pttfaces.curation import image_export
from pttfaces.faces import quality


def test_downscale_averages_pixels_without_aliasing(portraits: list[Portrait]) -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert image_export.downscale(Image.fromarray(stripes), 64).std() < 3
    face = portraits[0].pixels[:256, :256]
    small = image_export.downscale(Image.fromarray(face), 64)
    areas = face.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - areas).mean() < 4
    assert np.array_equal(image_export.downscale(Image.fromarray(face), 256), face)


def test_make_images_measures_what_it_writes_and_passes_over_denied_crops(tmp_path: Path) -> None:
    """One crop gives no image, one is denied and has no file any more."""
    found = [candidate(number, sharpness=3.0) for number in range(4)]
    found[3] = replace(found[3], reason="denied")
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::9, ::7, 0] = 255
    for one in found[:3]:
        images.save_png(tmp_path / "crops" / one.crop.crop, Image.fromarray(stripes))

    def make(path: Path) -> np.ndarray | None:
        return None if path.name == found[1].crop.crop else np.asarray(images.read_image(path))

    target = files.clean_folder(tmp_path / "train")
    made = image_export.make_images(found, tmp_path / "crops", target, make, params())
    assert [one.reason for one in made] == ["", "no face when cropped again", "", "denied"]
    written = [found[index].crop.crop for index in (0, 2)]
    assert sorted(path.name for path in target.iterdir()) == written
    assert np.array_equal(images.read_rgb([target / written[0]])[0], stripes)
    face = quality.face_mask(64, 0.65)
    expected = round(quality.face_sharpness(stripes, face), 2)
    assert [one.sharpness for one in made] == [expected, expected, expected, 3.0]
    assert made[0].colour == quality.colour(stripes)
    assert made[3] == found[3]


def test_make_images_at_the_crop_s_sharpness_makes_none_of_what_is_left_out(
    tmp_path: Path,
) -> None:
    """A second detection costs more than everything else."""
    found = [candidate(1), candidate(2, sharpness=3.0)]
    asked = []

    def make(path: Path) -> np.ndarray:
        asked.append(path.name)
        return np.zeros((4, 4, 3), np.uint8)

    chosen = params(sharpness_at="crop")
    assert image_export.make_images(found, tmp_path, tmp_path, make, chosen) == found
    assert asked == [found[0].crop.crop]
