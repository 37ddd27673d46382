"""`pttfaces forget --face` lists crops that may show the person of a photograph."""

from pathlib import Path

import numpy as np
import pytest
import settings
from click.testing import CliRunner
from faces_support import draw
from PIL import Image
from tiny_onnx import face_network

from pttfaces import cli, files, images
from pttfaces.curation import identity
from pttfaces.erasure import same_face
from pttfaces.errors import DataError
from pttfaces.faces import alignment


@pytest.fixture
def crops(repository: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of three people's crops in a repository whose network is a made one."""
    network = face_network()
    files.write_bytes("sface.onnx", network)
    monkeypatch.setattr(identity, "SHA256", files.digest_bytes(network))
    monkeypatch.setattr(same_face, "MIN_COSINE", 0.8)
    text = (
        Path("params.yaml")
        .read_text()
        .replace("identity_weights: null", "identity_weights: sface.onnx")
    )
    files.write_text("params.yaml", text)
    files.write_text("dvc.yaml", "stages: {}\n")
    cropper, names = alignment.FaceCropper(settings.group("crop")), []
    for seed in range(3):
        portrait = draw(seed)
        aligned = cropper.crop(portrait.pixels, portrait.landmarks)
        assert aligned
        names.append(f"{seed:016x}-0.png")
        images.save_png(Path("data/crops") / names[-1], Image.fromarray(aligned.pixels))
    return names


def test_forget_face_of_a_photograph_lists_its_person_s_crops_and_changes_nothing(
    crops: list[str],
) -> None:
    photograph = np.ascontiguousarray(draw(1).pixels[10:, 8:])
    images.save_png("me.png", Image.fromarray(photograph))
    ended = CliRunner().invoke(cli.commands, ["forget", "--face", "me.png"])
    assert ended.exit_code == 0, ended.output
    assert crops[1] in ended.output
    assert crops[0] not in ended.output
    assert "add --crop NAME" in ended.output
    assert not Path("data/denylist.txt").exists()


def test_forget_face_of_a_crop_lists_the_others(crops: list[str]) -> None:
    ended = CliRunner().invoke(cli.commands, ["forget", "--face", f"data/crops/{crops[2]}"])
    assert ended.exit_code == 0, ended.output
    assert f"1.00  {crops[2]}" in ended.output


def test_forget_face_of_a_file_without_a_face_is_one_sentence(crops: list[str]) -> None:
    images.save_png("sky.png", Image.new("RGB", (300, 300), "blue"))
    ended = CliRunner().invoke(cli.commands, ["forget", "--face", "sky.png"])
    assert "sky.png has no face that haar finds" in str(ended.exception)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.jpg", "No such file or directory"),
        ("data/crops", "Is a directory"),
        ("dvc.yaml", "not a picture"),
    ],
)
def test_forget_face_of_what_is_no_image_says_why(crops: list[str], name: str, reason: str) -> None:
    ended = CliRunner().invoke(cli.commands, ["forget", "--face", name])
    assert isinstance(ended.exception, DataError)
    assert f"{name} cannot be read ({reason}); name another photograph" in str(ended.exception)
    assert not list(Path(".cache").rglob("*.json")), "nothing is kept of whoever asks"
