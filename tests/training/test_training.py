"""Trainings of tiny networks: what comes out, resume after a kill, what a person is told."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_training as tiny
import torch
from diffusers import DDPMPipeline, UNet2DModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from pttfaces import files
from pttfaces.diffusion import devices, model_folder
from pttfaces.diffusion import unet as network
from pttfaces.diffusion.schedule import NoiseProcess, snr
from pttfaces.diffusion.unet import Architecture
from pttfaces.errors import DataError, ParamsError
from pttfaces.sampling import samplers
from pttfaces.sampling.samplers import Sampler
from pttfaces.training import checkpoint, data, loop, validation


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def quiet(report: loop.EpochReport) -> None:
    pass


def train(folder: Path, **changes: object) -> tuple[loop.Trained, Path]:
    work = folder / "work"
    work.mkdir(parents=True)
    return loop.train(tiny.task(folder, **changes), work, quiet), work


@pytest.mark.parametrize("seen", [True, False], ids=["on a CPU", "on a device to wait for"])
@pytest.mark.parametrize("limit", [0.1, 1e9], ids=["clipped", "left alone"])
def test_gradients_are_clipped_as_torch_clips_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, seen: bool
) -> None:
    monkeypatch.setattr(devices, "reads_are_free", lambda device: seen)
    learner = loop._Learner(tiny.task(tmp_path, max_grad_norm=limit))
    noise = torch.Generator().manual_seed(1)
    for weights in learner.weights:
        weights.grad = torch.randn(weights.shape, generator=noise).to(weights.device)
    theirs = [weights.detach().clone() for weights in learner.weights]
    for mine, other in zip(learner.weights, theirs, strict=True):
        other.grad = mine.grad.clone()
    assert learner._clip() == torch.nn.utils.clip_grad_norm_(theirs, limit) > 0.1
    for mine, other in zip(learner.weights, theirs, strict=True):
        assert torch.equal(mine.grad, other.grad)


def test_fp16_s_scaler_changes_no_update_but_leaves_out_one_that_overflowed(tmp_path: Path) -> None:
    task = tiny.task(tmp_path, max_grad_norm=0.1)
    plain, scaled = loop._Learner(task), loop._Learner(task)
    scaler = scaled.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    noise = torch.Generator().manual_seed(1)

    def updated(share: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Both learners' norms of an update by the same gradients, those of the second scaled."""
        for mine, other in zip(plain.weights, scaled.weights, strict=True):
            mine.grad = share * torch.randn(mine.shape, generator=noise)
            other.grad = scaler.scale(mine.grad)
        return plain.update(1e-3, 0), scaled.update(1e-3, 0)

    scaler.scale(torch.zeros(()))  # as the loss' scaling does: makes its tensors
    first, second = updated(1.0)
    assert first == second > 0.1
    for mine, other in zip(plain.weights, scaled.weights, strict=True):
        assert torch.equal(mine, other)
    before = [weights.detach().clone() for weights in scaled.weights]
    assert updated(float("inf"))[1] == 0
    assert all(map(torch.equal, before, scaled.weights))
    assert scaler.get_scale() == 2.0**9


def test_a_training_leaves_models_grids_and_reports(tmp_path: Path) -> None:
    task, work, seen = tiny.task(tmp_path), tmp_path / "work", []
    work.mkdir()
    trained = loop.train(task, work, seen.append)
    assert [report.epoch for report in seen] == [1, 2, 3]
    assert seen == trained.reports
    assert trained.best.val_loss == min(report.val_loss for report in seen)
    assert [p.name for p in sorted((work / "grids").iterdir())] == [
        "epoch-0002.png",
        "epoch-0003.png",
    ]
    assert [p.name for p in (work / "checkpoints").iterdir()] == ["epoch-0003"]
    assert (trained.device, trained.precision) == ("cpu", "fp32")
    json.dumps(trained.figures(task), allow_nan=False)
    assert "best is epoch" in trained.summary()


def test_a_model_folder_is_a_diffusers_pipeline_with_a_card(tmp_path: Path) -> None:
    trained, work = train(tmp_path)
    pipeline = DDPMPipeline.from_pretrained(work / "best_model")
    pipeline.set_progress_bar_config(disable=True)
    sampled = pipeline(batch_size=1, num_inference_steps=2, output_type="np").images
    assert sampled.shape == (1, 16, 16, 3)
    card = (work / "best_model" / "README.md").read_text(encoding="utf-8")
    for words in (data.load(tmp_path / "train", 16).digest, f"epoch: {trained.best.epoch}"):
        assert words in card
    assert "pictures of people" in card
    assert "license: other" in card
    assert "learning_rate 0.001" in card
    loaded = model_folder.load(work / "best_model", "cpu")
    assert loaded.process == tiny.COSINE
    found = validation.x0_error(
        loaded.network, loaded.process, data.load(tmp_path / "holdout", 16), 4
    )
    assert found == pytest.approx(trained.best.val_loss, rel=1e-5)


def test_the_same_training_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        (tmp_path / name).mkdir()
        _, work = train(tmp_path / name, epochs=1, seed=seed)
        digests.append(files.digest_tree(work / "best_model"))
    assert digests[0] == digests[1] != digests[2]


def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    epochs = 8
    undisturbed = tiny.task(tmp_path, epochs=epochs)
    (tmp_path / "whole").mkdir()
    whole = loop.train(undisturbed, tmp_path / "whole", quiet)

    command = [sys.executable, tiny.__file__, str(tmp_path), str(epochs)]
    paths = os.pathsep.join(sys.path)
    child = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for _ in range(3):
        assert child.stdout.readline(), "the child ended before it could be killed"
    time.sleep(0.05)
    child.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    child.wait()
    child.stdout.close()
    state = torch.load(tmp_path / "work" / "state.pt", weights_only=True)["progress"]
    assert 0 < state["step"] < epochs * 4, "it was to be killed half-way"

    resumed = loop.train(undisturbed, tmp_path / "work", quiet)

    def without_speed(reports: list[loop.EpochReport]) -> list[dict]:
        return [asdict(replace(r, images_per_s=0, grid=None)) for r in reports]

    assert without_speed(resumed.reports) == without_speed(whole.reports)
    for folder in ("best_model", "last", "grids"):
        assert files.digest_tree(tmp_path / "work" / folder) == files.digest_tree(
            tmp_path / "whole" / folder
        )


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_state_is_told_and_the_training_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    task, (_, work) = tiny.task(tmp_path, epochs=1), train(tmp_path, epochs=1)
    undisturbed = files.digest_tree(work / "best_model")
    content = bytearray((work / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (work / "state.pt").write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    loop.train(task, work, quiet)
    assert "state.pt is damaged" in capsys.readouterr().err
    assert files.digest_tree(work / "best_model") == undisturbed


def test_accumulated_gradients_equal_a_larger_batch(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", no_dropout=True)
    parts, _ = train(tmp_path / "parts", no_dropout=True, batch_size=2, gradient_accumulation=2)
    for one, other in zip(whole.reports, parts.reports, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-4)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-3)


def test_an_update_larger_than_the_data_is_told(tmp_path: Path) -> None:
    task = tiny.task(tmp_path, batch_size=2, gradient_accumulation=10)
    with pytest.raises(DataError, match=r"lower train\.batch_size to at most 1"):
        loop.train(task, tmp_path / "work", quiet)


class HostReads(TorchDispatchMode):
    """Counts how often a tensor's value is read by Python: on a GPU each waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch of eight updates reads as many values as one of two, on a device to wait for."""
    monkeypatch.setattr(devices, "reads_are_free", lambda device: False)
    counts = []
    for pictures in (8, 32):
        task = tiny.task(tmp_path / str(pictures), pictures, epochs=1, select_by="train_loss")
        work = tmp_path / f"work-{pictures}"
        work.mkdir()
        with HostReads() as reads:
            loop.train(replace(task, holdout=data.load(tmp_path, 16)), work, quiet)
        counts.append(reads.count)
    assert counts[0] == counts[1] > 0


def test_a_training_that_gets_no_better_ends_early(tmp_path: Path) -> None:
    stuck: dict[str, object] = {"learning_rate": 1e-30, "ema": None, "epochs": 9, "early_stop": 2}
    trained, work = train(tmp_path, **stuck)
    assert [report.is_best for report in trained.reports] == [True, False, False]
    assert trained.reports[-1].grid == work / "grids" / "epoch-0003.png"
    assert [p.name for p in (work / "checkpoints").iterdir()] == ["epoch-0003"]
    again = loop.train(tiny.task(tmp_path, **stuck), work, quiet)
    assert again.reports == trained.reports


@pytest.mark.timeout(900)
def test_eight_pictures_are_learnt_by_heart(tmp_path: Path) -> None:
    eight = tiny.draw_pictures(tmp_path / "eight", 8)
    repeated = replace(eight, pixels=eight.pixels.repeat(8, 1, 1, 1))  # 8 updates an epoch
    recipe = replace(
        tiny.RECIPE,
        epochs=40,
        batch_size=8,
        learning_rate=4e-3,
        flip=False,
        sample_every=40,
        keep_checkpoints=0,
    )
    shape = Architecture(16, (16, 32, 32), 1, (False, False, False), 0.0)
    work = tmp_path / "work"
    work.mkdir()
    task = loop.Task(shape, tiny.COSINE, recipe, repeated, eight)
    reports = loop.train(task, work, quiet).reports
    assert reports[-1].train_loss < 0.05
    model = model_folder.load(work / "last", "cpu")
    sampler = Sampler("dpmsolver++", 20, "trailing")
    samples = samplers.sample(model.network, model.process, sampler, 0, range(16))
    known = eight.pixels.permute(0, 2, 3, 1).numpy().reshape(8, -1).astype(float)
    drawn = samples.reshape(16, -1).astype(float)
    nearest = np.sqrt(((drawn[:, None] - known) ** 2).mean(2)).min(1)  # (16,)
    apart = np.sqrt(((known[:, None] - known) ** 2).mean(2))  # (8, 8)
    assert np.median(nearest) < 0.75 * np.median(apart[apart > 0])


def test_validation_loss_is_the_same_number_twice_and_for_any_batch(tmp_path: Path) -> None:
    held_out = tiny.draw_pictures(tmp_path, 11)
    unet = network.build(tiny.ARCHITECTURE, seed=1).eval()
    first = validation.x0_error(unet, tiny.COSINE, held_out, 4)
    assert validation.x0_error(unet, tiny.COSINE, held_out, 4) == first
    assert validation.x0_error(unet, tiny.COSINE, held_out, 11) == pytest.approx(first, rel=1e-5)
    assert validation.x0_error(unet, tiny.COSINE, data.load(tmp_path / "none", 16), 4) is None


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_levels_of_the_validation_are_those_of_the_process(schedule: str) -> None:
    process = NoiseProcess(schedule, 1000, "epsilon", False)  # type: ignore[arg-type]
    at = validation.timestep_at(process, snr(process).log()[[10, 500, 900]])
    assert at.tolist() == pytest.approx([10, 500, 900], abs=1e-3)


def test_half_precision_on_a_cpu_is_told_and_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, _ = train(tmp_path, epochs=1, precision="fp16")
    assert trained.precision == "fp32"
    assert "fp16 on a CPU is float32" in capsys.readouterr().err


def test_too_few_pictures_and_a_missing_holdout_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there are 3 training pictures.*at most 3"):
        train(tmp_path, count=3)
    task = tiny.task(tmp_path / "two", held_out=0)
    with pytest.raises(DataError, match=r"curate\.holdout"):
        loop.train(task, tmp_path, quiet)


def test_a_loss_that_is_not_finite_ends_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"epoch \d+ is not a finite number; lower"):
        train(tmp_path, learning_rate=1e20, warmup_steps=0)


def test_fp16_that_overflows_for_good_ends_in_a_sentence() -> None:
    devices.check_scale(None, 1)
    devices.check_scale(torch.amp.GradScaler("cpu", init_scale=1.0), 1)
    with pytest.raises(ParamsError, match=r"epoch 7\) and does not recover; set train\.precision"):
        devices.check_scale(torch.amp.GradScaler("cpu", init_scale=0.5), 7)


def test_a_network_that_cannot_be_compiled_goes_on_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    unet = network.build(replace(tiny.ARCHITECTURE, dropout=0.0), seed=1)
    noisy, t = torch.randn(2, 3, 16, 16), torch.tensor([3.0, 700.0])
    expected = unet(noisy, t).sample

    def broken(*_: object) -> None:
        raise RuntimeError("no compiler found")

    devices.compile_in_place(unet, 2, backend=broken)
    said = capsys.readouterr().err
    assert "no compiler found" in said
    assert "going on without" in said
    assert torch.equal(unet(noisy, t).sample, expected)
    devices.compile_in_place(unet, 2, backend="eager")
    assert capsys.readouterr().err == ""
    assert torch.allclose(unet(noisy, t).sample, expected, atol=1e-5)


def test_what_was_compiled_beforehand_is_what_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable:
        graphs.append(graph)
        return graph.forward

    def compiled(unet: UNet2DModel, batch_size: int) -> None:
        devices.compile_in_place(unet, batch_size, backend)  # type: ignore[arg-type]
        assert graphs
        graphs.clear()

    monkeypatch.setattr(devices, "compile_for_gpu", compiled)
    train(tmp_path, count=4, epochs=2, compile=True, sample_every=99)
    assert not graphs


def test_attention_is_torch_s_own() -> None:
    unet = network.build(tiny.ARCHITECTURE, seed=1)
    kinds = {type(part.processor) for part in unet.modules() if isinstance(part, Attention)}
    assert kinds == {AttnProcessor2_0}


def test_a_lack_of_memory_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(data, "batch", too_much)
    with pytest.raises(ParamsError, match=r"train\.batch_size 4 .*halve train\.batch_size"):
        train(tmp_path)


def test_after_a_lack_of_memory_a_training_goes_on_from_its_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, taken = tiny.task(tmp_path), data.batch
    (tmp_path / "whole").mkdir()
    (tmp_path / "work").mkdir()
    loop.train(task, tmp_path / "whole", quiet)
    calls = iter(range(10**6))

    def too_much_in_epoch_2(*values: Any) -> torch.Tensor:
        if next(calls) == 6:  # an epoch is 4 updates
            raise torch.OutOfMemoryError
        return taken(*values)

    monkeypatch.setattr(data, "batch", too_much_in_epoch_2)
    with pytest.raises(ParamsError, match="goes on from the last saved step"):
        loop.train(task, tmp_path / "work", quiet)
    seen: list[int] = []
    loop.train(task, tmp_path / "work", lambda report: seen.append(report.epoch))
    assert seen == [2, 3]
    for leaf in ("best_model", "last"):
        whole, resumed = (files.digest_tree(tmp_path / name / leaf) for name in ("whole", "work"))
        assert whole == resumed


def test_pictures_that_do_not_fit_are_mapped_and_train_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    in_memory = tiny.draw_pictures(tmp_path / "train", 18)
    monkeypatch.setattr(data, "IN_MEMORY", 0)
    mapped = data.load(tmp_path / "train", 16)
    assert (mapped.digest, mapped.pixels.tolist()) == (in_memory.digest, in_memory.pixels.tolist())
    digests = []
    for name, pictures in (("a", in_memory), ("b", mapped)):
        (tmp_path / name).mkdir()
        task = loop.Task(
            tiny.ARCHITECTURE, tiny.COSINE, replace(tiny.RECIPE, epochs=1), pictures, pictures
        )
        loop.train(task, tmp_path / name, quiet)
        digests.append(files.digest_tree(tmp_path / name / "last"))
    assert digests[0] == digests[1]
    assert list((tmp_path / ".cache/pixels").iterdir()) == []  # mapped, and gone with the process


def test_pictures_of_another_size_or_kind_are_named(tmp_path: Path) -> None:
    tiny.draw_pictures(tmp_path, 2, size=12)
    with pytest.raises(DataError, match=r"000\.png is 12×12.*16×16"):
        data.load(tmp_path, 16)
    (tmp_path / "000.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"000\.png cannot be decoded"):
        data.load(tmp_path, 12)


def test_the_digest_is_of_pixels_and_names(tmp_path: Path) -> None:
    first = tiny.draw_pictures(tmp_path, 3).digest
    path = tmp_path / "001.png"
    pixels = np.asarray(Image.open(path))
    Image.fromarray(pixels).save(path, compress_level=0)
    assert data.load(tmp_path, 16).digest == first
    Image.fromarray(255 - pixels).save(path)
    assert data.load(tmp_path, 16).digest != first


def test_batches_hold_pixels_from_minus_one_to_one_and_mirror_what_is_said(tmp_path: Path) -> None:
    pictures = tiny.draw_pictures(tmp_path, 4)
    batch = data.batch(pictures.pixels, torch.tensor([2, 0]), "cpu")
    assert batch.shape == (2, 3, 16, 16)
    assert torch.equal(((batch + 1) * 127.5).round().to(torch.uint8), pictures.pixels[[2, 0]])
    rows, flips = torch.tensor([2, 0]), torch.tensor([True, False])
    flipped = data.batch(pictures.pixels, rows, "cpu", flips)
    assert torch.equal(flipped[0], batch[0].flip(2))
    assert torch.equal(flipped[1], batch[1])


def test_what_decides_the_weights_decides_the_resume_folder(tmp_path: Path) -> None:
    task = tiny.task(tmp_path)
    same = loop.determinants(tiny.task(tmp_path, save_every_minutes=1))
    assert same == loop.determinants(task)
    assert loop.determinants(tiny.task(tmp_path, learning_rate=2e-3)) != same
    torch.set_num_threads(2)
    assert loop.determinants(task) != same


def test_a_training_that_begins_anew_says_why(tmp_path: Path) -> None:
    task, folders = (
        tiny.task(tmp_path),
        [tmp_path / ".resume" / name for name in ("train-a", "train-b")],
    )
    for folder in folders:
        folder.mkdir(parents=True)
    before = loop.determinants(task)
    assert checkpoint.why_anew(folders[0], before) is None
    (folders[0] / "state.pt").write_bytes(b"half-done")
    assert checkpoint.why_anew(folders[0], before) is None
    other = replace(task, recipe=replace(task.recipe, learning_rate=0.5))
    said = checkpoint.why_anew(folders[1], {**loop.determinants(other), "code": "new"})
    assert said is not None
    assert "train-a, half-done, belongs to another configuration" in said
    assert "recipe.learning_rate was 0.001 and is 0.5" in said
    assert "code was" in said
    assert said.count(" was ") == 2
