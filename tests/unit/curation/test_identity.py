"""With a network of SFace's interface: its own weights are no part of the project."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import settings
from candidates_support import candidate, copies_of, denied_by, params
from faces_support import Portrait
from PIL import Image, ImageEnhance
from tiny_onnx import face_network

from pttfaces import config, files, images
from pttfaces.curation import filters, identity, splits
from pttfaces.denylist import DenyList
from pttfaces.errors import WeightsError
from pttfaces.faces import alignment


@pytest.fixture
def parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Params:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    network = face_network()
    files.write_bytes("sface.onnx", network)
    monkeypatch.setattr(identity, "SHA256", files.digest_bytes(network))
    return params(identity="sface", identity_weights="sface.onnx", same_person=0.9)


@pytest.fixture
def crops(tmp_path: Path, portraits: list[Portrait]) -> Path:
    """Two crops of one face, of which one is darker, and two of others."""
    cropper, folder = alignment.FaceCropper(settings.group("crop")), tmp_path / "crops"
    for number, portrait in enumerate((*portraits[:3], portraits[0])):
        aligned = cropper.crop(portrait.pixels, portrait.landmarks)
        assert aligned
        image = Image.fromarray(aligned.pixels)
        image = ImageEnhance.Brightness(image).enhance(0.8) if number == 3 else image
        images.save_png(folder / candidate(number).crop.crop, image)
    return folder


def test_pairs_of_people_finds_two_crops_of_a_face_again_from_the_cache(
    parameters: config.Params, crops: Path
) -> None:
    found = [candidate(number, f"M.170407464{number}.A") for number in range(4)]
    for _ in range(2):
        pairs = identity.pairs_of_people(found, crops, parameters)
        assert pairs.tolist() == [[0, 3]]
    cached = [path for path in Path(".cache/identity").rglob("*") if path.is_file()]
    assert len(cached) == 4
    for path in cached:
        path.write_bytes(path.read_bytes()[:-4])  # cut by a full disk
    denied = denied_by(DenyList.of(["article:M.1704074643.A"]), found)
    assert not len(identity.pairs_of_people(denied, crops, parameters))
    assert identity.pairs_of_people(found, crops, parameters).tolist() == [[0, 3]]


def test_make_recognizer_without_the_published_file_says_what_to_do(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "other.onnx", face_network())
    group = settings.group("curate", identity_weights=str(tmp_path / "other.onnx"))
    with pytest.raises(WeightsError, match=r"SFace: .*other\.onnx is not the expected weights"):
        identity.make_recognizer(settings.params(curate=group))


def test_similar_features_compares_all_with_all_across_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identity, "_BLOCK", 3)
    angles = np.radians([0, 80, 10, 170, 85, 5, 175])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    close = np.abs(angles[:, None] - angles) <= np.radians(10.5)
    expected = np.argwhere(np.triu(close, 1))
    assert identity.similar_features(features, float(np.cos(np.radians(10.5)))).tolist() == (
        expected.tolist()
    )


def test_group_crops_of_one_person_in_two_articles_are_one_group() -> None:
    found = [candidate(number, f"M.{number}") for number in range(4)]
    same_person = np.array([[0, 2], [2, 3]])
    groups = splits.group_crops(found, same_person)
    assert len({groups[found[index].crop.crop] for index in (0, 2, 3)}) == 1
    assert len(set(groups.values())) == 2


def test_filter_crops_with_max_per_person_keeps_the_sharpest() -> None:
    found = [
        replace(candidate(number), sharpness=sharpness)
        for number, sharpness in enumerate((300.0, 900.0, 200.0, 600.0, 150.0))
    ]
    same_person = np.array([[0, 1], [1, 3]])
    rows = filters.filter_crops(found, params(max_per_person=2), copies_of(found, 0), same_person)
    assert [row.reason for row in rows] == [filters.FREQUENT, "", "", "", ""]
