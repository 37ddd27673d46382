"""As many samples as a published score has: read once, a batch at a time."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import settings
import torch
from PIL import Image

from pttfaces.evaluation import image_folder, metrics
from pttfaces.evaluation.features import Extractor
from pttfaces.evaluation.image_folder import ImageFolder

MANY, FEW, BATCH = 10_000, 1_000, 50


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (MANY, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> ImageFolder:
    place = tmp_path_factory.mktemp("many")
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(place / f"{index:06}.png")
    return image_folder.open_folder(place, "")


class Seen:
    """A network whose features of an image are its first two pixels; notes what it was shown."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        return images[:, :, 0, :2].flatten(1)

    def extractor(self, cache: Path) -> Extractor:
        return Extractor(
            name="corner",
            dims=6,
            digest="network",
            cache_version="version",
            distance_name="corner_distance",
            kid_name="corner_kid",
            network=self,
            batch_size=BATCH,
            cache=cache,
        )


def corners(pixels: np.ndarray) -> np.ndarray:
    return pixels[:, 0, :2].transpose(0, 2, 1).reshape(len(pixels), 6) / 255


def test_statistics_of_ten_times_as_many_images_take_no_more_memory(
    tmp_path: Path, pixels: np.ndarray, many: ImageFolder
) -> None:
    peaks = []
    for images in (many.spread(FEW), many):
        network = Seen()
        tracemalloc.start()
        found = network.extractor(tmp_path).statistics(images)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert network.batches == [BATCH] * (len(images) // BATCH)
    assert peaks[1] < 1.5 * peaks[0]
    np.testing.assert_allclose(found.mu, corners(pixels).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.sigma, np.cov(corners(pixels), rowvar=False), atol=1e-6)


def test_compute_of_ten_thousand_samples_takes_one_pass_of_the_network(
    tmp_path: Path, pixels: np.ndarray, many: ImageFolder
) -> None:
    trained = ImageFolder(many.folder, many.paths[:FEW], many.size)
    network = Seen()
    sets = metrics.ImageSets(many, trained, trained, None)
    options = settings.group("evaluate")
    found = metrics.compute(sets, network.extractor(tmp_path), lambda image: [], options)
    assert sum(network.batches) == MANY + FEW
    assert max(network.batches) == BATCH
    assert (found.figures["generated"], found.figures["real"]) == (MANY, FEW)
    assert found.figures["copies"]["pixels"]["near_one_picture"] == pytest.approx(FEW / MANY)
    names = [path.name for path in many.paths]
    assert found.neighbours["sample"] == names
    assert found.neighbours["pixels_train"][:FEW] == names[:FEW]
