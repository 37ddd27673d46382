"""Measures crops at the size of the training images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pttfaces.curation.candidates import Candidate
from pttfaces.curation.filters import is_denied
from pttfaces.curation.image_export import downscale_file
from pttfaces.denylist import DenyList
from pttfaces.faces import quality
from pttfaces.faces.parallel import ordered_map
from pttfaces.progress import progress


def measure_images(
    candidates: Sequence[Candidate], crops: Path, side: int, face_factor: float, deny: DenyList
) -> list[Candidate]:
    """The candidates with their colour and, inside the face, their sharpness at `side` pixels;
    denied ones unchanged.

    crops: their folder; face_factor: as `crop.face_factor`. On all cores.
    """
    face = quality.face_mask(side, face_factor)

    def measure(candidate: Candidate) -> Candidate:
        if is_denied(candidate, deny):
            return candidate
        image = downscale_file(crops / candidate.crop.crop, side)
        sharpness = round(quality.face_sharpness(image, face), 2)
        return replace(candidate, sharpness=sharpness, colour=quality.colour(image))

    measured = []
    with progress("measure", len(candidates), " crops") as bar:
        for _, candidate in ordered_map(measure, candidates):
            measured.append(candidate)
            bar.update()
    return measured
