"""Makes the data set's images from the crops that stay."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from pttfaces import images
from pttfaces.faces.parallel import ordered_map
from pttfaces.progress import progress
from pttfaces.tables import DatasetRow

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


def export_crops(
    filter_crops: Callable[[Collection[str]], list[DatasetRow]],
    crops: Path,
    target: Path,
    make: MakeImage,
    made_before: Mapping[str, bool] = MappingProxyType({}),
) -> list[DatasetRow]:
    """Writes the image of every crop that `filter_crops` keeps; returns its final rows.

    filter_crops: names of crops that give no image → the rows. It is called again whenever there
    are more of them, because a duplicate may take the place of such a crop. crops, target, make: as
    in `write_images`; made_before: its results for images that are there already.
    """
    made = {name for name, is_made in made_before.items() if is_made}
    without_face = made_before.keys() - made
    while True:
        rows = filter_crops(without_face)
        kept = {row.crop for row in rows if not row.reason}
        new = [row.crop for row in rows if not row.reason and row.crop not in made]
        with progress("curate", len(new), " crops") as bar:
            for name, is_made in write_images(new, crops, target, make):
                (made if is_made else without_face).add(name)
                bar.update()
        if without_face.isdisjoint(kept):
            for name in made - kept:  # as duplicates of what took the place of another crop
                (target / name).unlink()
            return rows


def write_images(
    names: Sequence[str], crops: Path, target: Path, make: MakeImage
) -> Iterator[tuple[str, bool]]:
    """Writes the data set's images as PNG files into `target`; yields (name, whether it is made).

    names: of the files in the folder `crops`; target: an empty folder. On all cores, in the order
    of the names.
    """

    def write(name: str) -> bool:
        pixels = make(crops / name)
        if pixels is None:
            return False
        # Not atomic: after a kill the folder is made again, and syncing each file takes longer than
        # everything else.
        (target / name).write_bytes(images.png_bytes(Image.fromarray(pixels), _PNG_LEVEL))
        return True

    return ordered_map(write, names)
