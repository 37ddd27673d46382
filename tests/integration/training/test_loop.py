"""Trainings of tiny networks: what comes out, resuming after a kill, messages."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import settings
import tiny_training as tiny
import torch
from accelerate import Accelerator
from diffusers import DDPMPipeline, UNet2DModel
from diffusers.optimization import get_scheduler
from torch.utils._python_dispatch import TorchDispatchMode

from pttfaces import files
from pttfaces.diffusion import devices, model_folder
from pttfaces.diffusion import unet as unet_module
from pttfaces.errors import DataError, ParamsError
from pttfaces.sampling import samplers
from pttfaces.tables import Epoch
from pttfaces.training import checkpoint, data, loop, validation


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def quiet(row: Epoch, is_best: bool, grid: Path | None) -> None:
    pass


def train(
    folder: Path, count: int = 18, held_out: int = 5, **changes: Any
) -> tuple[loop.TrainResult, Path]:
    work = folder / "work"
    work.mkdir(parents=True)
    sets = tiny.draw_sets(folder, count, held_out)
    return loop.train(tiny.params(**changes), *sets, work, quiet), work


def weights_of(work: Path) -> list[torch.Tensor]:
    return list(model_folder.load_model(work / "last", "cpu").unet.parameters())


def test_train_clips_gradients(tmp_path: Path) -> None:
    """Clipped to nearly nothing, they leave AdamW its weight decay alone."""
    changes: dict[str, Any] = {"max_grad_norm": 1e-20, "ema": None, "epochs": 1}
    result, work = train(tmp_path, lr_schedule="constant", warmup_steps=0, **changes)
    assert result.epochs[0].grad_norm > 0.1
    for trained, initial in zip(weights_of(work), tiny.build(seed=3).parameters(), strict=True):
        assert torch.allclose(trained, initial * (1 - 1e-3 * 0.01) ** 4, rtol=1e-6, atol=1e-9)


class Scaling(Accelerator):
    """What accelerate does in fp16, on a CPU: it scales losses. Some gradients overflow."""

    init_scale = 2.0**10
    overflows: tuple[int, ...] = ()  # calls of `backward`, from 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=self.init_scale)
        self.calls = itertools.count()

    def backward(self, loss: torch.Tensor, **options: Any) -> None:
        factor = math.inf if next(self.calls) in self.overflows else 1.0
        super().backward(loss * factor, **options)

    def unscale_gradients(self, optimizer: Any = None) -> None:
        self.scaler.unscale_(self._optimizers[0].optimizer)


def test_train_in_fp16_with_a_scaler_makes_the_same_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: dict[str, Any] = {"gradient_accumulation": 2, "batch_size": 2, "max_grad_norm": 0.1}
    plain, plain_work = train(tmp_path / "plain", **parts)
    monkeypatch.setattr(loop, "Accelerator", Scaling)
    scaled, scaled_work = train(tmp_path / "scaled", **parts)
    assert all(map(torch.equal, weights_of(plain_work), weights_of(scaled_work)))
    assert [row.grad_norm for row in scaled.epochs] == [row.grad_norm for row in plain.epochs]


def test_train_in_fp16_skips_an_update_that_overflowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "Accelerator", Scaling)
    monkeypatch.setattr(Scaling, "overflows", (0, 1, 2, 3))
    result, work = train(tmp_path)
    assert [row.grad_norm > 0 for row in result.epochs] == [False, True, True]
    saved = torch.load(work / "state.pt", weights_only=False)
    assert saved["state"]["step"] == 12
    assert saved["optimizer"]["state"][0]["step"] == 8
    assert saved["scaler"]["scale"] == 2.0**6


def test_train_in_fp16_that_keeps_overflowing_raises_params_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "Accelerator", Scaling)
    monkeypatch.setattr(Scaling, "init_scale", 0.5)
    with pytest.raises(ParamsError, match=r"epoch 1\) and does not recover; set train\.precision"):
        train(tmp_path)


def test_train_leaves_models_grids_and_metrics(tmp_path: Path) -> None:
    work, seen = tmp_path / "work", []
    work.mkdir()
    result = loop.train(
        tiny.params(), *tiny.draw_sets(tmp_path), work, lambda *values: seen.append(values)
    )
    rows = [row for row, _, _ in seen]
    assert [row.epoch for row in rows] == [1, 2, 3]
    assert rows == result.epochs
    assert [grid.name if grid else None for _, _, grid in seen] == [
        None,
        "epoch-0002.png",
        "epoch-0003.png",
    ]
    lowest = min(row.val_loss for row in rows)
    assert result.metrics["val_loss"] == lowest
    assert [row.epoch for row, is_best, _ in seen if is_best][-1] == result.metrics["best_epoch"]
    assert [p.name for p in sorted((work / "grids").iterdir())] == [
        "epoch-0002.png",
        "epoch-0003.png",
    ]
    assert [p.name for p in (work / "checkpoints").iterdir()] == ["epoch-0003"]
    assert (result.metrics["device"], result.metrics["precision"]) == ("cpu", "fp32")
    json.dumps(result.metrics, allow_nan=False)


def test_train_leaves_a_model_folder_that_diffusers_opens_with_a_card(tmp_path: Path) -> None:
    result, work = train(tmp_path)
    pipeline = DDPMPipeline.from_pretrained(work / "best_model")
    pipeline.set_progress_bar_config(disable=True)
    sampled = pipeline(batch_size=1, num_inference_steps=2, output_type="np").images
    assert sampled.shape == (1, 16, 16, 3)
    card = (work / "best_model" / "README.md").read_text(encoding="utf-8")
    digest, best = data.load_images(tmp_path / "train", 16).digest, result.metrics["best_epoch"]
    for words in (digest, f"epoch: {best}"):
        assert words in card
    assert "images of people" in card
    assert "license: other" in card
    assert "learning_rate 0.001" in card
    loaded = model_folder.load_model(work / "best_model", "cpu")
    assert loaded.schedule == tiny.COSINE
    found = validation.x0_error(loaded, data.load_images(tmp_path / "holdout", 16), 4)
    assert found == pytest.approx(result.metrics["val_loss"], rel=1e-5)


def test_train_with_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """Another seed gives others."""
    digests = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        _, work = train(tmp_path / name, epochs=1, seed=seed)
        digests.append(files.digest_tree(work / "best_model"))
    assert digests[0] == digests[1] != digests[2]


def test_train_when_killed_resumes_to_the_undisturbed_weights(tmp_path: Path) -> None:
    epochs = 8
    params, sets = tiny.params(epochs=epochs), tiny.draw_sets(tmp_path)
    (tmp_path / "whole").mkdir()
    whole = loop.train(params, *sets, tmp_path / "whole", quiet)

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
    state = torch.load(tmp_path / "work" / "state.pt", weights_only=False)["state"]
    assert 0 < state["step"] < epochs * 4, "it was to be killed half-way"

    resumed = loop.train(params, *sets, tmp_path / "work", quiet)

    def without_speed(result: loop.TrainResult) -> list[Epoch]:
        return [replace(row, images_per_s=0) for row in result.epochs]

    assert without_speed(resumed) == without_speed(whole)
    for folder in ("best_model", "last", "grids"):
        assert files.digest_tree(tmp_path / "work" / folder) == files.digest_tree(
            tmp_path / "whole" / folder
        )


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_train_with_a_damaged_state_warns_and_starts_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    _, work = train(tmp_path, epochs=1)
    undisturbed = files.digest_tree(work / "best_model")
    content = bytearray((work / "state.pt").read_bytes())
    half = len(content) // 2
    for index in range(half, half + 512):  # a sector: a single byte may be padding
        content[index] ^= 1
    (work / "state.pt").write_bytes(content[:half] if damage == "cut" else content)
    loop.train(tiny.params(epochs=1), *tiny.draw_sets(tmp_path), work, quiet)
    assert "state.pt is damaged; starting over" in capsys.readouterr().err
    assert files.digest_tree(work / "best_model") == undisturbed


def test_train_with_accumulated_gradients_equals_a_larger_batch(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", no_dropout=True)
    parts, _ = train(tmp_path / "parts", no_dropout=True, batch_size=2, gradient_accumulation=2)
    for one, other in zip(whole.epochs, parts.epochs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-4)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRADIENT_ACCUMULATION_STEPS", "4"),
        ("MIXED_PRECISION", "bf16"),
        ("DYNAMO_BACKEND", "AOT_EAGER"),
        ("USE_FSDP", "true"),
    ],
)
def test_train_takes_no_arithmetic_from_the_environment(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
) -> None:
    train(tmp_path / "plain", epochs=1)
    monkeypatch.setenv(f"ACCELERATE_{name}", value)
    train(tmp_path / "other", epochs=1)
    one, other = (
        files.digest_tree(tmp_path / folder / "work/last") for folder in ("plain", "other")
    )
    assert one == other
    assert capsys.readouterr().err.count(f"params.yaml decides, not ACCELERATE_{name}=") == 1
    assert os.environ[f"ACCELERATE_{name}"] == value


def half_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Path:
    """The work folder of a training that ended in its second epoch of three."""
    sets, work, real_batch = tiny.draw_sets(tmp_path), tmp_path / "work", data.batch
    work.mkdir()
    calls = iter(range(10**6))

    def interrupted(*values: Any) -> torch.Tensor:
        if next(calls) == 6:
            raise KeyboardInterrupt
        return real_batch(*values)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(data, "batch", interrupted)
        loop.train(tiny.params(**changes), *sets, work, quiet)
    return work


def test_train_with_resume_any_goes_on_with_other_precision_and_threads_and_notes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From bf16 to fp16, whose scaler has no saved state."""
    work = half_trained(tmp_path, monkeypatch, resume="any")
    torch.set_num_threads(2)
    monkeypatch.setattr(loop, "Accelerator", Scaling)
    seen: list[int] = []
    params, sets = tiny.params(resume="any"), tiny.draw_sets(tmp_path)
    result = loop.train(params, *sets, work, lambda row, *_: seen.append(row.epoch))
    assert seen == [2, 3]
    assert result.changes == ["at step 4: threads 1, now 2"]
    noted = "in another environment, at step 4: threads 1, now 2"
    assert f"train: resuming {noted}." in capsys.readouterr().err
    card = (work / "best_model/README.md").read_text(encoding="utf-8")
    assert "- resumed in another environment: at step 4: threads 1, now 2" in card


def test_train_with_resume_same_starts_over_where_another_environment_had_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = half_trained(tmp_path, monkeypatch)
    torch.set_num_threads(2)
    seen: list[int] = []
    sets = tiny.draw_sets(tmp_path)
    result = loop.train(tiny.params(), *sets, work, lambda row, *_: seen.append(row.epoch))
    assert seen == [1, 2, 3]
    assert result.changes == []
    said = capsys.readouterr().err
    assert "starting over: the unfinished training also ran elsewhere (threads 1, now 2)" in said


def test_train_with_an_update_larger_than_the_data_raises_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lower train\.batch_size to at most 1"):
        train(tmp_path, batch_size=2, gradient_accumulation=10)


class HostReads(TorchDispatchMode):
    """Counts how often a tensor's value is read by Python: on a GPU each waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_train_step_never_waits_for_the_device(tmp_path: Path) -> None:
    """An epoch of eight updates reads as many values as one of two."""
    counts = []
    for count in (8, 32):
        with HostReads() as reads:
            train(tmp_path / str(count), count, held_out=0, epochs=1, select_by="train_loss")
        counts.append(reads.count)
    assert counts[0] == counts[1] > 0


def test_train_that_gets_no_better_ends_early(tmp_path: Path) -> None:
    stuck: dict[str, Any] = {"learning_rate": 1e-30, "ema": None, "epochs": 9, "early_stop": 2}
    (tmp_path / "work").mkdir()
    params, sets, work = tiny.params(**stuck), tiny.draw_sets(tmp_path), tmp_path / "work"
    seen: list[tuple[int, bool, Path | None]] = []
    result = loop.train(
        params, *sets, work, lambda row, is_best, grid: seen.append((row.epoch, is_best, grid))
    )
    assert [is_best for _, is_best, _ in seen] == [True, False, False]
    assert seen[-1][2] == work / "grids" / "epoch-0003.png"
    assert [p.name for p in (work / "checkpoints").iterdir()] == ["epoch-0003"]
    again = loop.train(params, *sets, work, quiet)
    assert again.epochs == result.epochs


@pytest.mark.parametrize(
    ("losses", "early_stop", "best", "stalled"),
    [
        ([3.0], 1, 1, False),
        ([3.0, 2.0, 2.0], 2, 2, False),
        ([3.0, 2.0, 2.0, 2.5], 2, 2, True),
        ([3.0, 4.0, 1.0], 1, 3, False),
        ([3.0, float("nan")], 1, 1, True),
        ([3.0, 4.0, 5.0], None, 1, False),
    ],
)
def test_best_epoch_is_the_first_of_the_lowest_loss(
    losses: list[float], early_stop: int | None, best: int, stalled: bool
) -> None:
    options = settings.group("train", select_by="train_loss", early_stop=early_stop, epochs=99)
    epochs = [Epoch(number, loss, None, 0, 0, 0) for number, loss in enumerate(losses, 1)]
    assert loop.best_epoch(options, epochs).epoch == best
    assert loop.is_finished(options, epochs) == stalled
    assert not loop.is_finished(options, [])


@pytest.mark.timeout(900)
def test_train_on_eight_images_memorizes_them(tmp_path: Path) -> None:
    eight = tiny.draw_images(tmp_path / "eight", 8)
    repeated = replace(eight, pixels=eight.pixels.repeat(8, 1, 1, 1))  # 8 updates an epoch
    params = tiny.params(
        epochs=40, batch_size=8, learning_rate=4e-3, flip=False, sample_every=40, keep_checkpoints=0
    )
    shape: dict[str, Any] = {"channels": [16, 32, 32], "attention": [False] * 3, "dropout": 0.0}
    params = params.model_copy(update={"model": tiny.MODEL.model_copy(update=shape)})
    work = tmp_path / "work"
    work.mkdir()
    result = loop.train(params, repeated, eight, work, quiet)
    assert result.epochs[-1].train_loss < 0.05
    model = model_folder.load_model(work / "last", "cpu")
    options = settings.group("generate", sampler="dpmsolver++", timestep_spacing="trailing")
    samples = samplers.sample(model, options, 20, 0, range(16))
    known = eight.pixels.permute(0, 2, 3, 1).numpy().reshape(8, -1).astype(float)
    drawn = samples.reshape(16, -1).astype(float)
    nearest = np.sqrt(((drawn[:, None] - known) ** 2).mean(2)).min(1)  # (16,)
    apart = np.sqrt(((known[:, None] - known) ** 2).mean(2))  # (8, 8)
    assert np.median(nearest) < 0.75 * np.median(apart[apart > 0])


def test_train_in_half_precision_on_a_cpu_uses_fp32_and_records_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, _ = train(tmp_path, precision="fp16", epochs=1)
    assert result.metrics["precision"] == "fp32"
    assert "fp16 is not supported on a CPU; using fp32" in capsys.readouterr().err


def test_train_with_too_few_images_or_no_holdout_raises_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there are 3 training images.*at most 3"):
        train(tmp_path, count=3)
    with pytest.raises(DataError, match=r"curate\.holdout"):
        train(tmp_path / "two", held_out=0)


def test_train_when_only_the_gradient_is_not_finite_saves_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clipping by such a norm makes all weights NaN: a saved state would end every later run."""

    def build(*arguments: Any) -> UNet2DModel:
        unet = unet_module.build(*arguments)
        next(unet.parameters()).register_hook(lambda grad: grad * math.inf)
        return unet

    monkeypatch.setattr(loop, "build_unet", build)
    with pytest.raises(ParamsError, match="epoch 1 or its gradient is not finite"):
        train(tmp_path, save_every_minutes=1e-9)
    assert not (tmp_path / "work/state.pt").exists()


def test_train_without_ema_keeps_the_newest_weights(tmp_path: Path) -> None:
    """As an average that forgets all but the newest."""
    for name, ema in (("none", None), ("zero", 0.0)):
        train(tmp_path / name, ema=ema)
    weights = "work/last/unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "none" / weights).read_bytes() == (tmp_path / "zero" / weights).read_bytes()


def test_train_after_its_state_was_damaged_removes_checkpoints_of_later_epochs(
    tmp_path: Path,
) -> None:
    _, work = train(tmp_path, keep_checkpoints=1)
    (work / "checkpoints/epoch-9999").mkdir()
    (work / "state.pt").write_bytes(b"damaged")
    sets = tiny.draw_sets(tmp_path, 18, 5)
    loop.train(tiny.params(keep_checkpoints=1), *sets, work, quiet)
    assert "epoch-9999" not in {path.name for path in (work / "checkpoints").iterdir()}


def test_train_when_the_loss_is_not_finite_raises_params_error(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"epoch \d+ or its gradient is not finite; lower"):
        train(tmp_path, learning_rate=1e20, warmup_steps=0)


def test_train_with_compile_trains_what_was_compiled_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    def compiled(unet: UNet2DModel, batch_size: int) -> None:
        devices.compile_in_place(unet, batch_size, backend)  # type: ignore[arg-type]
        assert graphs
        graphs.clear()

    monkeypatch.setattr(devices, "compile_for_gpu", compiled)
    train(tmp_path, count=4, epochs=2, compile=True, sample_every=99)
    assert not graphs


def test_train_when_out_of_memory_raises_params_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(data, "batch", too_much)
    with pytest.raises(ParamsError, match=r"train\.batch_size 4; halve train\.batch_size"):
        train(tmp_path)


def test_train_after_running_out_of_memory_resumes_from_its_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, sets, real_batch = tiny.params(), tiny.draw_sets(tmp_path), data.batch
    (tmp_path / "whole").mkdir()
    (tmp_path / "work").mkdir()
    loop.train(params, *sets, tmp_path / "whole", quiet)
    calls = iter(range(10**6))

    def too_much_in_epoch_2(*values: Any) -> torch.Tensor:
        if next(calls) == 6:  # an epoch is 4 updates
            raise torch.OutOfMemoryError
        return real_batch(*values)

    monkeypatch.setattr(data, "batch", too_much_in_epoch_2)
    with pytest.raises(ParamsError, match="resumes from the last saved step"):
        loop.train(params, *sets, tmp_path / "work", quiet)
    seen: list[int] = []
    loop.train(params, *sets, tmp_path / "work", lambda row, *_: seen.append(row.epoch))
    assert seen == [2, 3]
    for leaf in ("best_model", "last"):
        whole, resumed = (files.digest_tree(tmp_path / name / leaf) for name in ("whole", "work"))
        assert whole == resumed


def test_resume_key_changes_with_all_that_decides_the_weights(tmp_path: Path) -> None:
    sets = tiny.draw_sets(tmp_path)
    key = checkpoint.resume_key(tiny.params(), *sets)
    assert (
        checkpoint.resume_key(tiny.params(save_every_minutes=1, register_model=False), *sets) == key
    )
    changes: list[dict[str, Any]] = [{"learning_rate": 2e-3}, {"seed": 4}, {"no_dropout": True}]
    for change in changes:
        assert checkpoint.resume_key(tiny.params(**change), *sets) != key
    assert checkpoint.resume_key(tiny.params(), sets[1], sets[1]) != key
    torch.set_num_threads(2)
    assert checkpoint.resume_key(tiny.params(), *sets) != key


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_learning_rate_is_that_of_diffusers(kind: str) -> None:
    options = settings.group("train", lr_schedule=kind, warmup_steps=5, learning_rate=1e-3)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    name = "constant_with_warmup" if kind == "constant" else kind
    expected = get_scheduler(name, optimizer, num_warmup_steps=5, num_training_steps=40)
    for step in range(40):
        found = loop.learning_rate(options, step, 40)
        assert found == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        expected.step()
