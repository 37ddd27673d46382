"""Makes the data set's images from the crops, and measures them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pttfaces import images
from pttfaces.config import Params
from pttfaces.curation.candidates import NO_FACE_AGAIN, Candidate
from pttfaces.curation.filters import find_fault
from pttfaces.faces import quality
from pttfaces.faces.parallel import ordered_map
from pttfaces.progress import progress

MakeImage = Callable[[Path], np.ndarray | None]
"""A crop's path → the data set's image, (S, S, 3) uint8 RGB; None for a crop that gives none."""

_PNG_LEVEL = 1  # half the time of the usual 6 for 3 % more bytes


def downscale(crop: Image.Image, side: int) -> np.ndarray:
    """An antialiased smaller square, (side, side, 3) uint8 RGB.

    By Lanczos over the crop's pixels: of the usual filters the one that keeps most detail with
    least aliasing, at any ratio. Averaging areas softens the finest detail, and unevenly where the
    ratio is not whole.
    """
    return np.asarray(crop.resize((side, side), Image.Resampling.LANCZOS))


def downscale_file(path: Path, side: int) -> np.ndarray:
    """As `downscale`, of a crop's file."""
    return downscale(images.read_image(path), side)


def make_images(
    candidates: Sequence[Candidate], crops: Path, target: Path, make: MakeImage, params: Params
) -> list[Candidate]:
    """Writes the images of the candidates that may stay as PNG files into `target`; returns all
    candidates, with the measures of their images, and NO_FACE_AGAIN where a crop gives none.

    crops: their folder; target: an empty folder. With curate.sharpness_at crop no image is
    measured, and none is made of a crop that stays out by its own measures.
    """
    measures = params.curate.sharpness_at == "image_size"
    face = quality.face_mask(params.image_size, params.crop.face_factor)

    def write(candidate: Candidate) -> Candidate:
        if candidate.reason or (not measures and find_fault(candidate, params)):
            return candidate
        path = crops / candidate.crop.crop
        pixels = make(path)
        if pixels is None:
            candidate = replace(candidate, reason=NO_FACE_AGAIN)
            pixels = downscale_file(path, params.image_size)
        else:
            # Not atomic: after a kill the folder is made again, and syncing each file takes longer
            # than everything else.
            (target / path.name).write_bytes(images.png_bytes(Image.fromarray(pixels), _PNG_LEVEL))
        if not measures:
            return candidate
        sharpness = round(quality.face_sharpness(pixels, face), 2)
        return replace(candidate, sharpness=sharpness, colour=quality.colour(pixels))

    made = []
    with progress("curate", len(candidates), " crops") as bar:
        for _, candidate in ordered_map(write, candidates):
            made.append(candidate)
            bar.update()
    return made
