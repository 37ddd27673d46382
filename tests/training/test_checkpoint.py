"""Half-done work on disk: a state that is not whole is none, and never a wrong one."""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch
from damage import DAMAGES, Damage
from hypothesis import given
from PIL import Image

from pttfaces import images
from pttfaces.diffusion import model_folder
from pttfaces.diffusion import unet as network
from pttfaces.sampling import generation
from pttfaces.training import checkpoint
from pttfaces.training.checkpoint import Progress


@given(DAMAGES)
def test_a_damaged_state_is_restored_as_it_was_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    path = tmp_path_factory.mktemp("state") / "state.pt"
    saved, fresh = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    begun = fresh.weight.clone()
    with checkpoint.saving(path, {"network": saved}) as saver:
        saver.save(Progress(step=7, reports=[{"epoch": 1}]))
    path.write_bytes(damage.of(path.read_bytes()))
    progress = checkpoint.restore(path, {"network": fresh})
    assert progress.step in (0, 7)
    assert torch.equal(fresh.weight, saved.weight if progress.step else begun)
    assert progress.reports == ([{"epoch": 1}] if progress.step else [])


def test_a_state_is_that_of_its_moment_though_the_training_goes_on(tmp_path: Path) -> None:
    layer = torch.nn.Linear(300, 300)
    optimizer = torch.optim.AdamW(layer.parameters())
    progress, parts = Progress(), {"network": layer, "optimizer": optimizer}
    with checkpoint.saving(tmp_path / "state.pt", parts) as saver:
        for progress.step in (1, 2, 3):
            layer(torch.ones(300)).sum().backward()
            optimizer.step()
            progress.reports.append({"epoch": progress.step})
            saver.save(progress)
            weights = layer.weight.detach().clone()
            with torch.no_grad():
                layer.weight.zero_()
            optimizer.state.clear()
            progress.reports[-1]["epoch"] = "later"
    fresh = torch.nn.Linear(300, 300)
    again = torch.optim.AdamW(fresh.parameters())
    restored = checkpoint.restore(tmp_path / "state.pt", {"network": fresh, "optimizer": again})
    assert (restored.step, restored.reports[-1]) == (3, {"epoch": 3})
    assert torch.equal(fresh.weight, weights)
    assert len(again.state) == 2


def test_a_state_that_cannot_be_written_ends_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    parts = {"network": torch.nn.Linear(3, 2)}
    with (
        pytest.raises(FileExistsError),
        checkpoint.saving(tmp_path / "file/state.pt", parts) as saver,
    ):
        saver.save(Progress())


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no file's size")
@pytest.mark.parametrize("saved", ["state", "model"])
def test_what_the_disk_says_is_not_hidden_by_torch_or_safetensors(
    tmp_path: Path, saved: str
) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    unet = network.build(tiny.ARCHITECTURE, seed=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as raised:
            if saved == "state":
                with checkpoint.saving(tmp_path / "state.pt", {"network": unet}) as saver:
                    saver.save(Progress())
            else:
                model_folder.save(tmp_path / "model", unet, tiny.COSINE, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.errno == errno.EFBIG


@given(DAMAGES)
def test_a_damaged_sample_is_made_anew(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    path = tmp_path_factory.mktemp("sample") / "000000.png"
    pixels = np.random.default_rng(1).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    content = images.png_bytes(Image.fromarray(pixels))
    path.write_bytes(damage.of(content))
    if generation._is_whole(path):
        with Image.open(io.BytesIO(damage.of(content))) as image:
            assert (np.asarray(image) == pixels).all()
