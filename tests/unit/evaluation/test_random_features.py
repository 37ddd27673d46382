"""The random network's distance orders noise, blur and missing variety as an eye would."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from pttfaces.evaluation import fid
from pttfaces.evaluation.random_features import RandomVGG

KINDS = 8


def drawn(count: int, seed: int, kinds: int = KINDS) -> np.ndarray:
    """(N, 64, 64, 3) uint8: an oval with eyes and a mouth, of one of `kinds` pairs of colours."""
    rng = np.random.default_rng(seed)
    colours = np.random.default_rng(99).uniform(40, 220, (KINDS, 2, 3))
    y, x = np.mgrid[0:64, 0:64] / 64
    images = np.zeros((count, 64, 64, 3))
    for image in images:
        back, front = colours[rng.integers(kinds)] + rng.normal(0, 15, (2, 3))
        (cx, cy), (rx, ry) = rng.normal(0.5, 0.05, 2), rng.uniform((0.22, 0.3), (0.32, 0.4))
        image[:] = back + (x[..., None] - 0.5) * rng.normal(0, 40)
        image[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] = front
        for side in (-0.1, 0.1):
            image[((x - cx - side) / 0.05) ** 2 + ((y - cy + 0.06) / 0.03) ** 2 < 1] = 20
        image[((x - cx) / 0.1) ** 2 + ((y - cy - 0.18) / 0.025) ** 2 < 1] = (150, 40, 40)
    return np.clip(images + rng.normal(0, 3, images.shape), 0, 255).astype(np.uint8)


def features(network: RandomVGG, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        batches = torch.from_numpy(images).permute(0, 3, 1, 2).split(32)
        return torch.cat([network(batch / 255) for batch in batches]).numpy()


@pytest.fixture(scope="module")
def distance_of() -> Callable[[np.ndarray], float]:
    """Images → their distance to 256 drawn ones."""
    network = RandomVGG(64)
    real = fid.statistics(features(network, drawn(256, 1)))
    return lambda images: fid.frechet_distance(fid.statistics(features(network, images)), real)


def grows(values: list[float]) -> bool:
    return all(later > 1.02 * earlier for earlier, later in pairwise(values))


def test_random_vgg_distance_grows_with_noise_blur_and_missing_kinds(
    distance_of: Callable[[np.ndarray], float],
) -> None:
    images = drawn(128, 2)
    noise = np.random.default_rng(5).normal(size=images.shape)
    noisy = [np.clip(images + noise * level, 0, 255) for level in (0, 16, 32, 64)]
    assert grows([distance_of(p.astype(np.uint8)) for p in noisy])
    blurred = [gaussian_filter(images.astype(float), (0, s, s, 0)) for s in (0, 0.5, 1, 2, 4)]
    assert grows([distance_of(p.astype(np.uint8)) for p in blurred])
    assert grows([distance_of(drawn(128, 2, kinds)) for kinds in (8, 4, 2, 1)])


def test_random_vgg_layers_keep_the_signal() -> None:
    network, x = RandomVGG(192), torch.from_numpy(drawn(32, 0)).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        x = 4 * x - 2
        for layer in network.layers:
            x = layer(x)
            assert 0.1 < x.std() < 10


def test_random_vgg_of_one_seed_is_the_same_network_with_the_same_digest() -> None:
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, second, other = RandomVGG(64), RandomVGG(64), RandomVGG(64, seed=1)
    torch.testing.assert_close(first(image), second(image))
    assert first.digest == second.digest != other.digest
    # The same on every machine: scores of two machines carry the same name.
    assert first.digest.startswith("bf40a6f8")


@pytest.mark.parametrize(("side", "dims"), [(32, 64), (128, 768)])
def test_random_vgg_of_images_of_any_size_gives_the_configured_dimensions(
    side: int, dims: int
) -> None:
    assert RandomVGG(dims)(torch.rand(2, 3, side, side)).shape == (2, dims)
