"""Nearest neighbours against brute force, and what the figures on copying say."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pttfaces.evaluation import memorization
from pttfaces.evaluation.image_folder import ImageFolder, open_folder
from pttfaces.evaluation.memorization import Memorization, Nearest, nearest


def figures_of(samples: Nearest, real: Nearest | None) -> dict[str, float]:
    """Figures where the samples' distances to held-out images do not matter."""
    return Memorization(samples, None if real is None else samples, real).figures()


def smooth_images(count: int, seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((64, 64))) for c in coarse])


def folder_of(path: Path, images: np.ndarray) -> ImageFolder:
    path.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(path / f"{index:04}.png")
    return open_folder(path, "")


def test_nearest_across_block_borders_finds_what_brute_force_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memorization, "_QUERIES", 7)
    monkeypatch.setattr(memorization, "_KEYS", 5)
    rng = np.random.default_rng(0)
    views = [rng.normal(size=(23, 6)).astype(np.float32) for _ in range(2)]
    keys = rng.normal(size=(31, 6)).astype(np.float32)
    exact = np.min([np.linalg.norm(v[:, None] - keys[None], axis=2) for v in views], axis=0)
    found = nearest(views, keys)
    np.testing.assert_array_equal(found.index, exact.argmin(axis=1))
    np.testing.assert_allclose(found.first, np.sort(exact, axis=1)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found.second, np.sort(exact, axis=1)[:, 1], rtol=1e-6)


def test_nearest_of_an_exact_copy_far_from_the_origin_is_at_distance_zero() -> None:
    keys = np.random.default_rng(0).integers(0, 256, (40, 3072), np.uint8)
    found = nearest([keys[[3, 17]]], keys)
    assert found.index.tolist() == [3, 17]
    assert found.first.tolist() == [0, 0]


def test_nearest_of_a_single_key_has_no_second() -> None:
    found = nearest([np.zeros((2, 3))], np.ones((1, 3)))
    assert found.first == pytest.approx([3**0.5] * 2)
    assert np.isinf(found.second).all()
    assert figures_of(found, None)["near_one_picture"] == 0


def test_compare_pixels_finds_mirrored_and_noisy_copies_and_no_fresh_image(
    tmp_path: Path,
) -> None:
    trained = smooth_images(120, 0)
    noisy = trained[:40].astype(int) + np.random.default_rng(9).integers(-6, 7, trained[:40].shape)
    copied = np.clip(noisy, 0, 255).astype(np.uint8)
    copied[::2] = copied[::2, :, ::-1]
    trained_folder = folder_of(tmp_path / "trained", trained)
    held_out = folder_of(tmp_path / "held_out", smooth_images(30, 2))

    def compared(name: str, images: np.ndarray) -> Memorization:
        samples = folder_of(tmp_path / name, images)
        return memorization.compare_pixels(samples, trained_folder, held_out)

    caught = compared("copied", copied)
    assert caught.trained.index.tolist() == list(range(40))
    figures = caught.figures()
    assert figures["closer_than_holdout"] == 1
    assert figures["near_one_picture"] == 1
    assert figures["median"] < 3 < 20 < figures["holdout_median"]  # colour levels
    fresh = compared("fresh", smooth_images(40, 1)).figures()
    assert fresh["closer_than_holdout"] < 0.2
    assert fresh["near_one_picture"] == 0


def test_closer_than_holdout_of_real_images_is_one_in_twenty() -> None:
    rng = np.random.default_rng(0)
    keys, held_out, samples = (rng.normal(size=(count, 8)) for count in (500, 2000, 2000))
    figures = figures_of(nearest([samples], keys), nearest([held_out], keys))
    assert figures["closer_than_holdout"] == pytest.approx(0.05, abs=0.015)


def test_nearest_sheet_shows_the_closest_pairs_first(tmp_path: Path) -> None:
    images = smooth_images(20, 0)
    samples = np.concatenate([smooth_images(3, 5), images[[7]]])
    sampled = folder_of(tmp_path / "samples", samples)
    trained = folder_of(tmp_path / "trained", images)
    kinds = {"pixels": memorization.compare_pixels(sampled, trained, None)}
    sheet = np.asarray(memorization.nearest_sheet(sampled, trained, kinds))
    rows, columns = np.where((sheet[:120, :, :] != sheet[5, 5]).any(axis=2))
    left = sheet[28 : 28 + 64, 2 : 2 + 64]
    right = sheet[28 : 28 + 64, 68 : 68 + 64]
    assert rows.size
    assert columns.size
    np.testing.assert_array_equal(left, images[7])
    np.testing.assert_array_equal(right, images[7])


@pytest.mark.parametrize("held_out", [5, 18, 37, 200])
def test_closer_than_holdout_of_real_images_is_unbiased_for_any_number_held_out(
    held_out: int,
) -> None:
    """Distances of held-out images and of samples from one distribution, many times over."""
    rng, shares = np.random.default_rng(held_out), []
    for _ in range(600):
        real, made = (
            memorization.Nearest(np.zeros(count, int), distances, distances + 1)
            for count in (held_out, 300)
            for distances in [rng.exponential(size=count) + 5]
        )
        found = memorization.Memorization(made, made, real)
        shares.append(found.figures()["closer_than_holdout"])
    expected = max(0.05, 1 / (held_out + 1))
    assert found.expected_closer == expected
    assert np.mean(shares) == pytest.approx(expected, abs=4 * np.std(shares) / 600**0.5)
