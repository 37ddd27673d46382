"""Reads a folder of images of one size in batches, to bound memory."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pttfaces.errors import DataError
from pttfaces.images import read_rgb, read_size

# Those of pytorch-fid, which reads them in lower case only, on Linux.
_EXTENSIONS = {".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class ImageFolder:
    """The images right in one folder (not below it), sorted by name.

    size: (width, height) in pixels, the same for all.
    """

    folder: Path
    paths: tuple[Path, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def skipped_by_pytorch_fid(self) -> int:
        """Images that pytorch-fid would leave out, since their ending is not in lower case."""
        return sum(path.suffix not in _EXTENSIONS for path in self.paths)

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """All images in order, as (B, H, W, 3) uint8, B ≤ batch_size. DataError: not readable."""
        for start in range(0, len(self), batch_size):
            yield read_rgb(self.paths[start : start + batch_size], self.size)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices` as (len(indices), H, W, 3) uint8."""
        return read_rgb([self.paths[index] for index in indices], self.size)

    def spread(self, count: int) -> "ImageFolder":
        """At most `count` of these images, evenly spread over the folder."""
        if len(self) <= count:
            return self
        chosen = np.linspace(0, len(self) - 1, count).round().astype(int)
        return ImageFolder(self.folder, tuple(self.paths[index] for index in chosen), self.size)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the files' bytes, in order; names do not count. Reads them once."""
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def open_folder(folder: str | Path, remedy: str) -> ImageFolder:
    """The images of `folder`.

    remedy: what to do if there is none, as the end of a sentence.
    DataError: no folder, no image in it, one that is not readable, or images of two sizes.
    """
    folder = Path(folder)
    paths = _paths(folder)
    if not paths:
        raise DataError(f"{folder} holds no image; {remedy}.")
    first = read_size(paths[0])
    for path in paths[1:]:
        size = read_size(path)
        if size != first:
            raise DataError(
                f"{path} is {size[0]}×{size[1]} and {paths[0].name} is {first[0]}×{first[1]}; "
                "only images of one size can be scored together: resize them to one size."
            )
    return ImageFolder(folder, paths, first)


def open_if_any(folder: str | Path) -> ImageFolder | None:
    """As `open_folder`, but None where there are fewer than two images, the minimum for a score."""
    folder = Path(folder)
    return open_folder(folder, "") if len(_paths(folder)) > 1 else None


def check_same_size(samples: ImageFolder, others: ImageFolder) -> None:
    """DataError where two folders hold images of different sizes."""
    if samples.size != others.size:
        (width, height), (other_width, other_height) = samples.size, others.size
        raise DataError(
            f"{samples.folder} holds images of {width}×{height} and {others.folder} of "
            f"{other_width}×{other_height}; resizing changes the scores more than most changes to "
            "a model do, so make both the same size (run `dvc repro` after changing image_size)."
        )


def _paths(folder: Path) -> tuple[Path, ...]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(path for path in paths if path.suffix.lower() in _EXTENSIONS)
