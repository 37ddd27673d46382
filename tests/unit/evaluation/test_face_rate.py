"""face_rate: the share of images in which a detector sees a face with both eyes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pttfaces.evaluation.face_rate import face_rate
from pttfaces.evaluation.image_folder import ImageFolder, open_folder


@dataclass
class Seen:
    eyes_found: int


def eyes_by_brightness(image: np.ndarray) -> list[Seen]:
    """Finds nothing in the dark, an eye at half light, two in the light; wants large images."""
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    level = image.mean()
    return [] if level < 50 else [Seen(1)] if level < 150 else [Seen(0), Seen(2)]


def folder_of(path: Path, levels: list[int]) -> ImageFolder:
    path.mkdir()
    for index, level in enumerate(levels):
        Image.new("RGB", (16, 16), (level,) * 3).save(path / f"{index:05}.png")
    return open_folder(path, "")


def test_face_rate_counts_only_faces_with_both_eyes(tmp_path: Path) -> None:
    images = folder_of(tmp_path / "p", [0, 0, 100, 200, 200])
    assert face_rate(images, eyes_by_brightness) == pytest.approx(2 / 5)
