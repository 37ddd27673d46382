from pathlib import Path

import numpy as np
from candidates_support import candidate
from PIL import Image

from pttfaces import files, images
from pttfaces.curation import measures
from pttfaces.denylist import DenyList
from pttfaces.faces import quality


def test_make_images_measures_what_it_writes_and_passes_over_denied_crops(tmp_path: Path) -> None:
    """One crop gives no image, one is denied and has no file any more."""
    found = [candidate(number, f"M.170407464{number}.A") for number in range(4)]
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::9, ::7, 0] = 255
    for one in found[:3]:
        images.save_png(tmp_path / "crops" / one.crop.crop, Image.fromarray(stripes))

    def make(path: Path) -> np.ndarray | None:
        return None if path.name == found[1].crop.crop else np.asarray(images.read_image(path))

    measure = measures.MeasuringMaker(make, quality.face_mask(64, 0.65))
    deny, target = DenyList.of(["article:M.1704074643.A"]), files.clean_folder(tmp_path / "train")
    made = measures.make_images(found, tmp_path / "crops", target, measure, deny)
    names = [one.crop.crop for one in found]
    assert made == {names[0]: True, names[1]: False, names[2]: True}
    assert sorted(path.name for path in target.iterdir()) == [names[0], names[2]]
    after = [measure.measured(one) for one in found]
    assert after[1] == found[1]
    assert after[3] == found[3]
    assert after[0].sharpness != found[0].sharpness
    assert after[0].colour == quality.colour(stripes)
