"""Samples in a folder: the same after a kill, and what a missing or foreign model says."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from PIL import Image

from pttfaces import files
from pttfaces.diffusion import model_folder
from pttfaces.diffusion import unet as network
from pttfaces.errors import DataError, ParamsError
from pttfaces.sampling import generation, samplers
from pttfaces.sampling.generation import Order
from pttfaces.sampling.samplers import Sampler

ORDER = Order(Sampler("ddpm", 5, "trailing"), seed=2, count=7, batch_size=3)


@pytest.fixture
def model(tmp_path: Path) -> model_folder.Model:
    folder = tmp_path / "model"
    model_folder.save(folder, network.build(tiny.ARCHITECTURE, seed=0), tiny.COSINE, {"epoch": 1})
    return model_folder.load(folder, "cpu")


def test_what_was_finished_before_a_kill_is_kept_and_the_rest_is_the_same(
    model: model_folder.Model, tmp_path: Path
) -> None:
    made = generation.generate(model, ORDER, tmp_path / "whole")
    assert [path.name for path in made.paths] == [f"{i:06d}.png" for i in range(7)]
    whole = files.digest_tree(tmp_path / "whole")
    half = tmp_path / "half"
    generation.generate(model, ORDER, half)
    (half / "000001.png").unlink()
    cut = half / "000006.png"  # as a full disk or a power cut may leave one
    cut.write_bytes(cut.read_bytes()[:-20])
    kept = half / "000004.png"  # its batch is whole
    os.utime(kept, (0, 0))
    generation.generate(model, ORDER, half)
    assert files.digest_tree(half) == whole
    assert kept.stat().st_mtime == 0
    again = generation.generate(model, ORDER, half)
    assert again.images_per_s == 0


def test_other_seeds_give_the_pictures_that_they_give_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    folder = tmp_path / "model"
    model_folder.save(folder, network.build(tiny.ARCHITECTURE, seed=0), tiny.COSINE, {})
    for seed, (work, _) in enumerate(generation.other_seeds(folder, ORDER, 3), ORDER.seed + 1):
        alone = tmp_path / str(seed)
        generation.generate(model_folder.load(folder, "cpu"), replace(ORDER, seed=seed), alone)
        assert files.digest_tree(work) == files.digest_tree(alone)
    assert seed == ORDER.seed + 2
    assert not list((tmp_path / ".resume").iterdir())


def test_a_lack_of_memory_ends_in_a_sentence(
    model: model_folder.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(samplers, "sample", too_much)
    with pytest.raises(ParamsError, match=r"generate\.batch_size 3 .*halve generate\.batch_size"):
        generation.generate(model, ORDER, tmp_path / "none")


def test_samples_from_memory_and_from_disk_are_the_same(tmp_path: Path) -> None:
    unet = network.build(tiny.ARCHITECTURE, seed=0).eval()
    in_memory = model_folder.Model(unet, tiny.COSINE)
    model_folder.save(tmp_path / "model", unet, tiny.COSINE, {})
    from_disk = model_folder.load(tmp_path / "model", "cpu")
    for model, name in ((in_memory, "memory"), (from_disk, "disk")):
        generation.generate(model, ORDER, tmp_path / name)
    assert files.digest_tree(tmp_path / "memory") == files.digest_tree(tmp_path / "disk")
    with Image.open(tmp_path / "disk" / "000003.png") as image:
        assert np.asarray(image).shape == (16, 16, 3)


def test_finished_pictures_belong_to_the_model_and_the_order() -> None:
    known = generation.determinants(ORDER, "digest")
    assert generation.determinants(ORDER, "other") != known
    other = Order(Sampler("ddpm", 6, "trailing"), seed=2, count=7, batch_size=3)
    assert generation.determinants(other, "digest") != known


def test_a_missing_half_or_foreign_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no model; train one"):
        model_folder.load(tmp_path / "nothing", "cpu")
    half = tmp_path / "half"
    model_folder.save(half, network.build(tiny.ARCHITECTURE, seed=0), tiny.COSINE, {})
    next((half / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(DataError, match="not a whole diffusers model"):
        model_folder.load(half, "cpu")
    foreign = tmp_path / "foreign"
    scheduler = DDPMScheduler(beta_schedule="scaled_linear")
    DDPMPipeline(network.build(tiny.ARCHITECTURE, seed=0), scheduler).save_pretrained(foreign)
    with pytest.raises(DataError, match="scaled_linear"):
        model_folder.load(foreign, "cpu")
