"""The Fréchet distance against closed forms and pytorch-fid's own function; statistics files."""

import contextlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import DAMAGES, Damage
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pytorch_fid.fid_score import calculate_frechet_distance, compute_statistics_of_path

from pttfaces.errors import DataError
from pttfaces.evaluation import fid
from pttfaces.evaluation.fid import Statistics, frechet_distance, statistics


def random_features(count: int, dims: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dims, dims)) / np.sqrt(dims)
    return rng.normal(size=(count, dims)) @ mixing + rng.normal(size=dims)


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form() -> None:
    mu1, mu2 = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, -1.0])
    std1, std2 = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 0.5])
    found = frechet_distance(Statistics(mu1, np.diag(std1**2)), Statistics(mu2, np.diag(std2**2)))
    assert found == pytest.approx(np.square(mu1 - mu2).sum() + np.square(std1 - std2).sum())


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
@settings(max_examples=25, deadline=None)
@given(dims=st.integers(2, 24), seed=st.integers(0, 1000))
def test_frechet_distance_of_any_features_agrees_with_pytorch_fid(dims: int, seed: int) -> None:
    first = statistics(random_features(10 * dims + 10, dims, seed))
    second = statistics(random_features(12 * dims + 10, dims, seed + 1))
    theirs = calculate_frechet_distance(first.mu, first.sigma, second.mu, second.sigma)
    assert frechet_distance(first, second) == pytest.approx(theirs, rel=1e-6, abs=1e-6)
    assert frechet_distance(second, first) == pytest.approx(theirs, rel=1e-6, abs=1e-6)


def test_statistics_of_features_are_their_mean_and_covariance() -> None:
    """As those of pytorch-fid."""
    features = random_features(50, 7, 0)
    found = statistics(features.astype(np.float32))
    np.testing.assert_allclose(found.mu, features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.sigma, np.cov(features, rowvar=False), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [40, 2000])
def test_frechet_distance_of_a_set_from_itself_is_zero(count: int) -> None:
    """Also with fewer rows than dimensions."""
    found = statistics(random_features(count, 256, 3) * 10)
    assert frechet_distance(found, found) < 1e-6


def test_frechet_distance_when_both_covariances_are_singular_finds_a_shift() -> None:
    features = random_features(40, 256, 3)
    moved = statistics(features + 0.5)
    assert frechet_distance(statistics(features), moved) == pytest.approx(256 * 0.25, rel=1e-9)


def test_frechet_distance_to_a_constant_set_is_that_to_a_point() -> None:
    features = random_features(500, 8, 1)
    point = statistics(np.zeros((5, 8)))
    expected = np.square(features.mean(axis=0)).sum() + np.trace(np.cov(features, rowvar=False))
    assert frechet_distance(statistics(features), point) == pytest.approx(expected)
    assert frechet_distance(point, statistics(features)) == pytest.approx(expected)


def test_floor_of_more_images_is_lower_and_gives_their_number() -> None:
    features = random_features(4000, 32, 0)
    few, count = fid.floor(features, 100)
    many, _ = fid.floor(features, 1500)
    assert count == 100
    assert 0 < many < few / 3
    assert fid.floor(features[:300], 250)[1] == 150


def test_write_npz_and_read_npz_exchange_statistics_with_pytorch_fid(tmp_path: Path) -> None:
    ours = statistics(random_features(90, 64, 0))
    fid.write_npz(tmp_path / "ours.npz", ours, rows=np.zeros((2, 2)))
    mu, sigma = compute_statistics_of_path(str(tmp_path / "ours.npz"), None, 1, 64, "cpu")
    np.testing.assert_array_equal(mu, ours.mu)
    np.testing.assert_array_equal(sigma, ours.sigma)
    np.savez_compressed(tmp_path / "theirs.npz", mu=mu, sigma=sigma)  # as its save_fid_stats does
    back, beside = fid.read_npz(tmp_path / "theirs.npz", 64)
    assert frechet_distance(back, ours) < 1e-9
    assert beside == {}


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a statistics file was unpickled",))


def test_read_npz_of_pickled_damaged_and_foreign_files_raises_data_error(tmp_path: Path) -> None:
    """In one line, and without unpickling."""
    path = tmp_path / "stats.npz"
    eye, zero = np.eye(64), np.zeros(64)
    whole = io.BytesIO()
    np.savez(whole, mu=zero, sigma=eye)
    trap = np.array([Trap()], dtype=object)
    contents = {
        "pickled array": lambda: np.savez(path, mu=trap, sigma=eye),
        "bare pickle": lambda: path.write_bytes(pickle.dumps(Trap())),
        "no archive": lambda: path.write_bytes(b"hello"),
        "empty": lambda: path.write_bytes(b""),
        "half": lambda: path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2]),
        "one bit": lambda: path.write_bytes(flipped(whole.getvalue())),
        "other names": lambda: np.savez(path, mean=zero, cov=eye),
        "a single array": lambda: path.write_bytes(npy(eye)),
        "text": lambda: np.savez(path, mu=np.array(["a"] * 64), sigma=eye),
        "not finite": lambda: np.savez(path, mu=zero, sigma=eye * np.nan),
    }
    for name, make in contents.items():
        make()
        with pytest.raises(DataError) as caught:
            fid.read_npz(path, 64)
        assert "stats.npz" in str(caught.value), name
        assert "\n" not in str(caught.value), name


def test_read_npz_of_other_dimensions_raises_with_both_and_the_key(tmp_path: Path) -> None:
    fid.write_npz(tmp_path / "big.npz", Statistics(np.zeros(192), np.eye(192)))
    with pytest.raises(DataError, match=r"\(192,\).*\(64,\).*evaluate\.dims"):
        fid.read_npz(tmp_path / "big.npz", 64)
    with pytest.raises(DataError, match="does not exist"):
        fid.read_npz(tmp_path / "none.npz", 64)


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


WHOLE = io.BytesIO()
np.savez(WHOLE, mu=np.arange(64.0), sigma=np.eye(64))
SHORTER = (WHOLE.getvalue().rindex(b"<f8") + 2.5) / len(WHOLE.getvalue())  # f8 becomes f4


@given(DAMAGES)
@example(Damage(SHORTER, ord("8") ^ ord("4")))
def test_read_npz_of_a_damaged_file_gives_the_same_values_or_data_error(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    path.write_bytes(damage.of(WHOLE.getvalue()))
    with contextlib.suppress(DataError):
        values, _ = fid.read_npz(path, 64)
        assert (values.mu == np.arange(64.0)).all()
        assert (values.sigma == np.eye(64)).all()
