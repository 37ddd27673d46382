"""Measures the training images, while they are made."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pttfaces.curation.candidates import Candidate
from pttfaces.curation.filters import is_denied
from pttfaces.curation.image_export import MakeImage, write_images
from pttfaces.denylist import DenyList
from pttfaces.faces import quality
from pttfaces.progress import progress


class MeasuringMaker:
    """Makes images as `make` does, and measures each: name → sharpness inside the face, colour.

    face: (S, S) bool, where it is in an image, of `quality.face_mask`.
    """

    def __init__(self, make: MakeImage, face: np.ndarray) -> None:
        self._make, self._face = make, face
        self.sharpness: dict[str, float] = {}
        self.colour: dict[str, float] = {}

    def __call__(self, path: Path) -> np.ndarray | None:
        image = self._make(path)
        if image is not None:
            self.sharpness[path.name] = round(quality.face_sharpness(image, self._face), 2)
            self.colour[path.name] = quality.colour(image)
        return image

    def measured(self, candidate: Candidate) -> Candidate:
        """The candidate with the measures of its image, if there is one."""
        name = candidate.crop.crop
        if name not in self.sharpness:
            return candidate
        return replace(candidate, sharpness=self.sharpness[name], colour=self.colour[name])


def make_images(
    candidates: Sequence[Candidate], crops: Path, target: Path, make: MakeImage, deny: DenyList
) -> dict[str, bool]:
    """Writes the images of all crops that are not denied; names → whether there is one.

    crops, target, make: as in `write_images`.
    """
    names = [each.crop.crop for each in candidates if not is_denied(each, deny)]
    made = {}
    with progress("measure", len(names), " crops") as bar:
        for name, is_made in write_images(names, crops, target, make):
            made[name] = is_made
            bar.update()
    return made
