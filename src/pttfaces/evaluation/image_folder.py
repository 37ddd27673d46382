"""A folder of pictures of one size, read in batches, so that memory does not grow with its number.

Knows files and pixels; nothing of features or scores.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pttfaces.errors import DataError
from pttfaces.images import read_rgb, read_size

# What pytorch-fid reads, so that both see the same files.
_EXTENSIONS = {".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Pictures:
    """The pictures right in one folder (not below it), sorted by name.

    size: (width, height) in pixels, the same for all.
    """

    folder: Path
    paths: tuple[Path, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """All pictures in order, as (B, H, W, 3) uint8, B ≤ batch_size. DataError: not readable."""
        for start in range(0, len(self), batch_size):
            yield read_rgb(self.paths[start : start + batch_size], self.size)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The pictures at `indices` as (len(indices), H, W, 3) uint8."""
        return read_rgb([self.paths[index] for index in indices], self.size)

    def spread(self, most: int) -> "Pictures":
        """At most `most` of these pictures, evenly spread over the folder."""
        if len(self) <= most:
            return self
        chosen = np.linspace(0, len(self) - 1, most).round().astype(int)
        return Pictures(self.folder, tuple(self.paths[index] for index in chosen), self.size)

    def digest(self) -> str:
        """SHA-256 over the files' bytes, in order; names do not count."""
        whole = hashlib.sha256()
        for path in self.paths:
            whole.update(hashlib.sha256(path.read_bytes()).digest())
        return whole.hexdigest()


def open_folder(folder: str | Path, remedy: str) -> Pictures:
    """The pictures of `folder`.

    remedy: what to do where there is none, as the end of a sentence.
    DataError: no folder, no picture in it, one that is not readable, or pictures of two sizes.
    """
    folder = Path(folder)
    paths = _paths(folder)
    if not paths:
        raise DataError(f"{folder} holds no picture; {remedy}.")
    first = read_size(paths[0])
    for path in paths[1:]:
        size = read_size(path)
        if size != first:
            raise DataError(
                f"{path} is {size[0]}×{size[1]} and {paths[0].name} is {first[0]}×{first[1]}; "
                "only pictures of one size can be scored together: make them equal."
            )
    return Pictures(folder, paths, first)


def open_if_any(folder: str | Path) -> Pictures | None:
    """As `open_folder`, but None where there is no picture."""
    folder = Path(folder)
    return open_folder(folder, "") if _paths(folder) else None


def check_same_size(samples: Pictures, others: Pictures) -> None:
    """DataError where two folders hold pictures of different sizes."""
    if samples.size != others.size:
        (width, height), (other_width, other_height) = samples.size, others.size
        raise DataError(
            f"{samples.folder} holds pictures of {width}×{height} and {others.folder} of "
            f"{other_width}×{other_height}; resizing moves the scores more than most models do, so "
            "give both one size (run `dvc repro` after a change of image_size)."
        )


def _paths(folder: Path) -> tuple[Path, ...]:
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(path for path in names if path.suffix.lower() in _EXTENSIONS)
