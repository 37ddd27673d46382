"""Samples in a folder: the same after a kill, from memory or from disk, for one seed or several."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import settings
import tiny_training as tiny
import torch
from damage import DAMAGES, Damage
from hypothesis import given
from PIL import Image

from pttfaces import files, images
from pttfaces.config import Precision
from pttfaces.diffusion import devices, model_folder
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.errors import ParamsError
from pttfaces.sampling import generation, samplers

OPTIONS = settings.group(
    "generate", sampler="ddpm", timestep_spacing="trailing", num_images=7, batch_size=3
)
STEPS, SEED = 5, 2


@pytest.fixture
def model(tmp_path: Path) -> DiffusionModel:
    folder = tmp_path / "model"
    model_folder.save_model(folder, tiny.model(), {"epoch": 1})
    return model_folder.load_model(folder, "cpu")


def test_generate_after_a_kill_keeps_finished_images_and_makes_the_same_rest(
    model: DiffusionModel, tmp_path: Path
) -> None:
    made = generation.generate(model, OPTIONS, STEPS, SEED, tmp_path / "whole")
    assert [path.name for path in made.paths] == [f"{i:06d}.png" for i in range(7)]
    whole = files.digest_tree(tmp_path / "whole")
    half = tmp_path / "half"
    generation.generate(model, OPTIONS, STEPS, SEED, half)
    (half / "000001.png").unlink()
    cut = half / "000006.png"  # as a full disk or a power cut may leave one
    cut.write_bytes(cut.read_bytes()[:-20])
    kept = half / "000004.png"  # its batch is whole
    os.utime(kept, (0, 0))
    generation.generate(model, OPTIONS, STEPS, SEED, half)
    assert files.digest_tree(half) == whole
    assert kept.stat().st_mtime == 0
    again = generation.generate(model, OPTIONS, STEPS, SEED, half)
    assert again.images_per_s == 0


def test_generate_seeds_gives_the_images_that_each_seed_gives_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    folder, seeds = tmp_path / "model", (3, 4)
    model_folder.save_model(folder, tiny.model(), {})
    made = generation.generate_seeds(folder, OPTIONS, STEPS, seeds)
    for seed, (work, _) in zip(seeds, made, strict=True):
        alone = tmp_path / str(seed)
        generation.generate(model_folder.load_model(folder, "cpu"), OPTIONS, STEPS, seed, alone)
        assert files.digest_tree(work) == files.digest_tree(alone)
    assert not list((tmp_path / ".resume").iterdir())


def test_generate_when_out_of_memory_raises_params_error(
    model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(samplers, "sample", too_much)
    with pytest.raises(ParamsError, match=r"generate\.batch_size 3; halve generate\.batch_size"):
        generation.generate(model, OPTIONS, STEPS, SEED, tmp_path / "none")


def test_generate_by_a_model_from_memory_or_from_disk_gives_the_same_images(
    model: DiffusionModel, tmp_path: Path
) -> None:
    for loaded, name in ((tiny.model(), "memory"), (model, "disk")):
        generation.generate(loaded, OPTIONS, STEPS, SEED, tmp_path / name)
    assert files.digest_tree(tmp_path / "memory") == files.digest_tree(tmp_path / "disk")
    with Image.open(tmp_path / "disk" / "000003.png") as image:
        assert np.asarray(image).shape == (16, 16, 3)


def test_resume_key_changes_with_all_that_decides_the_images() -> None:
    key = generation.resume_key(OPTIONS, STEPS, SEED, "digest")
    others: list[Any] = [
        (OPTIONS, STEPS, SEED, "other"),
        (OPTIONS, STEPS, SEED + 1, "digest"),
        (OPTIONS, STEPS + 1, SEED, "digest"),
        (OPTIONS.model_copy(update={"sampler": "ddim"}), STEPS, SEED, "digest"),
        (OPTIONS.model_copy(update={"precision": "bf16"}), STEPS, SEED, "digest"),
        (OPTIONS.model_copy(update={"batch_size": 4}), STEPS, SEED, "digest"),
    ]
    for other in others:
        assert generation.resume_key(*other) != key


@given(DAMAGES)
def test_is_whole_of_a_damaged_sample_is_true_only_with_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    """A sample that is not whole is sampled again."""
    path = tmp_path_factory.mktemp("sample") / "000000.png"
    pixels = np.random.default_rng(1).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    content = images.png_bytes(Image.fromarray(pixels))
    path.write_bytes(damage.of(content))
    if generation._is_whole(path):
        with Image.open(io.BytesIO(damage.of(content))) as image:
            assert (np.asarray(image) == pixels).all()


def test_sample_of_a_model_in_half_precision_is_the_same_image_up_to_rounding(
    tmp_path: Path,
) -> None:
    """The sampler's own arithmetic stays in float32; a CPU's bf16 stands for a GPU's."""
    model_folder.save_model(tmp_path / "model", tiny.model(), {})
    options = OPTIONS.model_copy(update={"sampler": "ddim"})

    def sample(precision: Precision) -> np.ndarray:
        loaded = model_folder.load_model(tmp_path / "model", "cpu", precision)
        return samplers.sample(loaded, options, STEPS, SEED, range(3)).astype(int)

    exact, rounded = sample("fp32"), sample("bf16")
    difference = np.abs(exact - rounded)
    assert 0 < difference.mean() < 3


def test_prepare_precision_on_a_cpu_is_fp32_and_says_which_stage_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert devices.prepare_precision("fp16", "generate") == "fp32"
    assert capsys.readouterr().err == "generate: fp16 is not supported on a CPU; using fp32.\n"
