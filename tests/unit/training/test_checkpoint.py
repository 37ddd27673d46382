"""The state file of an unfinished training: restored whole or not at all."""

import errno
import os
from pathlib import Path

import pytest
import tiny_training as tiny
import torch
from damage import DAMAGES, Damage
from hypothesis import given

from pttfaces.diffusion import model_folder
from pttfaces.tables import Epoch
from pttfaces.training import checkpoint
from pttfaces.training.checkpoint import Checkpoint, TrainingState


def row(epoch: int) -> Epoch:
    return Epoch(epoch, 0.5, None, 1e-3, 1.0, 30.0)


@given(DAMAGES)
def test_checkpoint_load_of_a_damaged_file_restores_all_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    work = tmp_path_factory.mktemp("state")
    path, saved, fresh = work / "state.pt", torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    initial = fresh.weight.clone()
    with Checkpoint(work, 1, TrainingState(step=7, epochs=[row(1)]), unet=saved) as writer:
        writer.save()
    path.write_bytes(damage.of(path.read_bytes()))
    state = TrainingState()
    with Checkpoint(work, 1, state, unet=fresh) as reader:
        reader.load({})
    assert state.step in (0, 7)
    assert torch.equal(fresh.weight, saved.weight if state.step else initial)
    assert state.epochs == ([row(1)] if state.step else [])


def test_checkpoint_save_while_training_continues_writes_the_state_at_the_call(
    tmp_path: Path,
) -> None:
    layer = torch.nn.Linear(300, 300)
    optimizer = torch.optim.AdamW(layer.parameters())
    state = TrainingState()
    with Checkpoint(tmp_path, 1, state, unet=layer, optimizer=optimizer) as writer:
        for state.step in (1, 2, 3):
            layer(torch.ones(300)).sum().backward()
            optimizer.step()
            state.epochs.append(row(state.step))
            writer.save()
            weights = layer.weight.detach().clone()
            with torch.no_grad():
                layer.weight.zero_()
            optimizer.state.clear()
            state.epochs[-1] = row(99)
    fresh = torch.nn.Linear(300, 300)
    again = torch.optim.AdamW(fresh.parameters())
    restored = TrainingState()
    with Checkpoint(tmp_path, 1, restored, unet=fresh, optimizer=again) as reader:
        reader.load({})
    assert (restored.step, restored.epochs[-1]) == (3, row(3))
    assert torch.equal(fresh.weight, weights)
    assert len(again.state) == 2


def test_checkpoint_save_when_its_folder_is_a_file_raises_os_error(tmp_path: Path) -> None:
    """So a state that cannot be written ends the training."""
    (tmp_path / "file").touch()
    checkpoint = Checkpoint(tmp_path / "file", 1, TrainingState())
    with pytest.raises(FileExistsError), checkpoint as writer:
        writer.save()


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no file's size")
@pytest.mark.parametrize("saved", ["state", "model"])
def test_checkpoint_and_save_model_when_the_disk_fails_raise_os_error(
    tmp_path: Path, saved: str
) -> None:
    """Neither torch nor safetensors hides it."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    model = tiny.model()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as raised:
            if saved == "state":
                with Checkpoint(tmp_path, 1, TrainingState(), unet=model.unet) as writer:
                    writer.save()
            else:
                model_folder.save_model(tmp_path / "model", model, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.errno == errno.EFBIG


def test_explain_restart_when_the_configuration_changed_names_what_changed(tmp_path: Path) -> None:
    sets = tiny.draw_sets(tmp_path)
    folders = [tmp_path / ".resume" / name for name in ("train-a", "train-b")]
    for folder in folders:
        folder.mkdir(parents=True)
    before = checkpoint.resume_key(tiny.params(), *sets)
    assert checkpoint.explain_restart(folders[0], before) is None
    (folders[0] / "state.pt").write_bytes(b"unfinished")
    assert checkpoint.explain_restart(folders[0], before) is None
    other = checkpoint.resume_key(tiny.params(learning_rate=0.5), *sets)
    said = checkpoint.explain_restart(folders[1], {**other, "training_images": "f" * 64})
    digest = sets[0].digest[:8]
    assert said == (
        "starting over: the unfinished training used another configuration "
        "(train.learning_rate 0.001, now 0.5; "
        f"training_images {digest}, now ffffffff). Restore it to resume."
    )
    (folders[0] / "belongs_to.json").write_text('{"cache_version": 2, "threads": 1}\n')
    said = checkpoint.explain_restart(folders[1], other)
    assert said == (
        "starting over: the unfinished training is of another version of this program, and cannot "
        "be resumed."
    )


def test_explain_restart_when_the_environment_changed_names_train_resume(tmp_path: Path) -> None:
    sets = tiny.draw_sets(tmp_path)
    folders = [tmp_path / ".resume" / name for name in ("train-a", "train-b")]
    key = checkpoint.resume_key(tiny.params(), *sets)
    gpu = {**key["environment"], "device": "cuda NVIDIA A100 8.0", "precision": "bf16"}
    for folder in folders:
        folder.mkdir(parents=True)
    assert checkpoint.explain_restart(folders[0], {**key, "environment": gpu}) is None
    (folders[0] / "state.pt").write_bytes(b"unfinished")
    here = key["environment"]["device"]
    assert checkpoint.explain_restart(folders[1], key) == (
        "starting over: the unfinished training ran in another environment (precision bf16, now "
        f"fp32; device cuda NVIDIA A100 8.0, now {here}). Restore it to resume, or set "
        "train.resume to any."
    )


def test_resume_key_with_resume_any_is_that_of_the_newest_unfinished_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    sets, same, any_ = tiny.draw_sets(tmp_path), tiny.params(), tiny.params(resume="any")
    own = checkpoint.resume_key(same, *sets)
    assert checkpoint.resume_key(any_, *sets) == own
    elsewhere = {**own, "environment": {"device": "cuda", "precision": "bf16"}}
    for name, key in (("other", {**elsewhere, "seed": 9}), ("elsewhere", elsewhere)):
        folder = tmp_path / f".resume/train-{name}"
        folder.mkdir(parents=True)
        checkpoint.explain_restart(folder, key)
        (folder / "state.pt").write_bytes(b"unfinished")
    os.utime(tmp_path / ".resume/train-elsewhere/state.pt", (1, 1))
    assert checkpoint.resume_key(any_, *sets) == elsewhere
    assert checkpoint.resume_key(same, *sets) == own
    (tmp_path / ".resume/train-elsewhere/done.json").touch()
    assert checkpoint.resume_key(any_, *sets) == own
