"""pytorch-fid's features from a weights file: the same numbers, and a checked file only."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import settings
import torch
import torchvision
from PIL import Image
from pytorch_fid import inception as theirs

from pttfaces import files
from pttfaces.config import Evaluate
from pttfaces.errors import DataError, WeightsError
from pttfaces.evaluation import features, inception
from pttfaces.evaluation.image_folder import ImageFolder, open_folder


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a weights file was unpickled",))


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights of the right shape that keep the signal, in the real file's old format."""
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    network = inception._fid_inception().to_empty(device="cpu")
    random = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight, generator=random)
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.reset_parameters()
    torch.nn.init.zeros_(network.fc.bias)
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)
    yield path
    path.unlink()  # 95 MB


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(2):
        coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((64, 64)).save(folder / f"{index}.png")
    return open_folder(folder, "")


def inception_options(path: Path, sha256: str | None, dims: int = 64) -> Evaluate:
    changes = {"weights": str(path), "weights_sha256": sha256, "dims": dims, "batch_size": 2}
    return settings.group("evaluate", features="inception", **changes)


def test_inception_features_of_all_dimensions_equal_pytorch_fid_s(
    weights_file: Path, images: ImageFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = torch.load(weights_file, weights_only=True)
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: state)
    monkeypatch.setitem(inception.SHA256_PREFIXES, "inception", files.digest_file(weights_file)[:8])
    pixels = torch.from_numpy(next(images.batches(2))).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        maps = theirs.InceptionV3([0, 1, 2, 3]).eval()(pixels)
    for expected in (features_map.mean(dim=(2, 3)).numpy() for features_map in maps):
        dims = expected.shape[1]
        ours = features.make_extractor(inception_options(weights_file, None, dims), tmp_path)
        found = ours.embed(images).rows
        assert expected.std() > 0.01
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.std())
    assert dims == 2048
    assert ours.distance_name == "fid"
    assert ours.digest == files.digest_file(weights_file)


def test_make_extractor_of_other_weights_with_their_digest_gives_no_fid(
    weights_file: Path, tmp_path: Path
) -> None:
    known = files.digest_file(weights_file)[:12]
    other = features.make_extractor(inception_options(weights_file, known), tmp_path)
    assert (other.distance_name, other.kid_name) == ("inception_distance", "inception_kid")
    with pytest.raises(WeightsError, match="0123abcd"):
        features.make_extractor(inception_options(weights_file, "0123abcd"), tmp_path)


def test_make_extractor_of_weights_with_another_digest_raises_weights_error(
    weights_file: Path,
) -> None:
    with pytest.raises(WeightsError, match="6726825d"):
        features.make_extractor(inception_options(weights_file, None), weights_file.parent)


def test_find_weights_when_missing_raises_with_where_to_put_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And with how to do without them."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    nobody_listens = "http://127.0.0.1:9/pt_inception-2015-12-05-6726825d.pth"
    monkeypatch.setitem(inception.URLS, "inception", nobody_listens)
    with pytest.raises(WeightsError) as caught:
        inception.find_weights("inception", None)
    kept = tmp_path / "hub" / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    assert str(kept) in str(caught.value)
    assert "evaluate.features=random" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load_inception_of_a_file_of_something_else_raises_weights_error(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match=r"other\.pth does not hold the weights"):
        inception.load_inception(path, 64)
    torch.save({"weight": Trap()}, path)
    with pytest.raises(WeightsError, match=r"other\.pth does not hold the weights"):
        inception.load_inception(path, 64)
    path.write_bytes(b"hello")
    with pytest.raises(WeightsError, match=r"other\.pth does not hold the weights"):
        inception.load_inception(path, 64)


def test_torchvision_s_weights_give_its_own_features_under_another_name(
    images: ImageFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Features of torchvision's network itself, whose poolings count no padding less."""
    theirs_network = torchvision.models.Inception3(init_weights=False).eval()
    path = tmp_path / "inception_v3.pth"
    torch.save(theirs_network.state_dict(), path)
    monkeypatch.setitem(inception.SHA256_PREFIXES, "torchvision", files.digest_file(path)[:8])
    options = inception_options(path, None, dims=2048).model_copy(
        update={"features": "torchvision"}
    )
    ours = features.make_extractor(options, tmp_path)
    assert (ours.distance_name, ours.kid_name) == ("fid_torchvision", "kid_torchvision")
    pixels = torch.from_numpy(next(images.batches(2))).permute(0, 3, 1, 2) / 255
    theirs_network.fc = torch.nn.Identity()
    with torch.inference_mode():
        large = torch.nn.functional.interpolate(pixels, (299, 299), mode="bilinear")
        expected = theirs_network(2 * large - 1).numpy()
    np.testing.assert_allclose(ours.embed(images).rows, expected, rtol=1e-3, atol=1e-5)
    known = files.digest_file(path)[:12]
    monkeypatch.undo()
    with pytest.raises(WeightsError, match="is not the expected weights file"):
        features.make_extractor(options, tmp_path)
    other = features.make_extractor(options.model_copy(update={"weights_sha256": known}), tmp_path)
    assert other.distance_name == "inception_distance"


def test_statistics_without_a_label_are_taken_for_pytorch_fid_s_only(
    weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of pytorch-fid name no network; with other weights they would be another distance."""
    plain = tmp_path / "plain.npz"
    np.savez(plain, mu=np.zeros(64), sigma=np.eye(64))
    known = files.digest_file(weights_file)
    other = features.make_extractor(inception_options(weights_file, known[:12]), tmp_path)
    with pytest.raises(DataError, match="does not say that it was made with the network"):
        other.statistics(plain)
    monkeypatch.setitem(inception.SHA256_PREFIXES, "inception", known[:8])
    published = features.make_extractor(inception_options(weights_file, None), tmp_path)
    assert published.statistics(plain).mu.shape == (64,)
