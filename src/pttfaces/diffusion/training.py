"""The training loop, to be read top to bottom, and its recipe.

Every draw is a function of (seed, step): which pictures, flips, timesteps, noise and dropout. So
all state is weights, optimiser and a step count, and a resumed run ends with the same weights, bit
for bit on a CPU. Knows nothing of experiment tracking, params.yaml or the stages' folders.
"""

import copy
import math
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator, PartialState
from diffusers import UNet2DModel

from pttfaces import pictures
from pttfaces.diffusion import data, memory, models, resume, sampling, schedule, validation
from pttfaces.diffusion.data import Pictures
from pttfaces.diffusion.draws import Purpose, generator, number
from pttfaces.diffusion.ema import Ema
from pttfaces.diffusion.network import Architecture, build
from pttfaces.diffusion.sampling import Sampler
from pttfaces.diffusion.schedule import NoiseProcess
from pttfaces.errors import DataError, ParamsError
from pttfaces.progress import progress

LEAVES = {"best_model": "ddpm/best_model", "last": "ddpm/last", "checkpoints": "checkpoints"}
"""Folders that `train` leaves in its work folder → where they belong in a folder of models."""

_GRID_STEPS = 20
_LESS_MEMORY = (
    "halve train.batch_size and double train.gradient_accumulation, which trains the same"
)


@dataclass(frozen=True)
class Recipe:
    """How to train; the fields are params.yaml's `train` keys of the same names."""

    seed: int
    epochs: int
    batch_size: int
    gradient_accumulation: int
    learning_rate: float
    lr_schedule: Literal["cosine", "linear", "constant"]
    warmup_steps: int
    max_grad_norm: float
    precision: Literal["fp32", "fp16", "bf16"]
    min_snr_gamma: float | None
    ema: float | None
    flip: bool
    select_by: Literal["train_loss", "val_loss"]
    sample_every: int
    sample_images: int
    checkpoint_every: int
    keep_checkpoints: int
    save_every_minutes: float

    @property
    def pictures_an_update(self) -> int:
        return self.batch_size * self.gradient_accumulation


@dataclass(frozen=True)
class Task:
    """What to train, how, and on what; holdout may be empty where train_loss selects."""

    architecture: Architecture
    process: NoiseProcess
    recipe: Recipe
    train_set: Pictures
    holdout: Pictures


@dataclass(frozen=True)
class EpochReport:
    """One epoch. train_loss: mean weighted loss; val_loss: see `validation`, None without holdout;
    learning_rate: at its last step; grad_norm: mean, before clipping; images_per_s: of its steps;
    is_best: no epoch before was better; grid: the picture of samples, where some were drawn."""

    epoch: int
    train_loss: float
    val_loss: float | None
    learning_rate: float
    grad_norm: float
    images_per_s: float
    is_best: bool
    grid: Path | None


@dataclass(frozen=True)
class Trained:
    """reports: of all epochs, also those before a kill; best: the one that best_model is from;
    precision, device: what was really used; parameters: weights of the network."""

    reports: list[EpochReport]
    best: EpochReport
    precision: str
    device: str
    parameters: int

    def figures(self, task: Task) -> dict[str, Any]:
        """What is worth comparing between trainings."""
        last = self.reports[-1]
        return {
            "epochs": last.epoch,
            "best_epoch": self.best.epoch,
            "train_loss": self.best.train_loss,
            "val_loss": self.best.val_loss,
            "last_train_loss": last.train_loss,
            "last_val_loss": last.val_loss,
            "images_per_s": round(
                sum(report.images_per_s for report in self.reports) / len(self.reports), 2
            ),
            "pictures": len(task.train_set),
            "held_out": len(task.holdout),
            "parameters": self.parameters,
            "device": self.device,
            "precision": self.precision,
            "select_by": task.recipe.select_by,
            "data_digest": task.train_set.digest,
        }

    def summary(self) -> str:
        """One line for a person."""
        val = "" if self.best.val_loss is None else f", validation loss {self.best.val_loss:.4f}"
        return (
            f"train: {self.parameters / 1e6:.1f} million weights, {self.reports[-1].epoch} epochs; "
            f"best is epoch {self.best.epoch} (training loss {self.best.train_loss:.4f}{val})"
        )


def train(task: Task, work: Path, on_epoch: Callable[[EpochReport], None]) -> Trained:
    """Trains, or goes on from the state in `work`, a folder for this task's `determinants` alone.

    Leaves there best_model/, last/, checkpoints/epoch-0010/ … and grids/epoch-0010.png …; calls
    `on_epoch` after each epoch that this process finishes. An epoch is as many whole updates as the
    pictures suffice for; the rest of its random order is left out.

    DataError: too few pictures. ParamsError: the loss is not finite, or memory does not suffice.
    """
    process, recipe, train_set = task.process, task.recipe, task.train_set
    epoch_steps = updates_an_epoch(task)
    steps = recipe.epochs * epoch_steps
    precision = _precision(recipe)
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision)
    device = accelerator.device
    network = build(task.architecture, recipe.seed).to(device)
    ema = Ema(network, recipe.ema) if recipe.ema is not None else None
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01, fused=True)
    model, optimizer = accelerator.prepare(network, optimizer)
    parts = _parts(network, optimizer, ema, accelerator)
    state = resume.restore(work / "state.pt", parts)

    signal = schedule.alpha_bar(process)  # (T,)
    alphas = signal.sqrt().float().to(device)
    sigmas = (1 - signal).sqrt().float().to(device)
    weights = schedule.loss_weights(process, recipe.min_snr_gamma).float().to(device)  # (T,)
    losses, norms = torch.zeros(2, device=device)  # sums over the epoch: read once, at its end
    losses += state.loss_sum
    norms += state.norm_sum
    saved = time.monotonic()

    enough = memory.enough_for(f"train.batch_size {recipe.batch_size}", _LESS_MEMORY)
    with progress("train", steps, " steps", initial=state.step) as bar, enough:
        while state.step < steps:
            epoch = state.step // epoch_steps + 1
            order = torch.randperm(  # (N,)
                len(train_set), generator=generator(recipe.seed, Purpose.ORDER, epoch)
            )
            began, first = time.monotonic(), state.step
            model.train()
            while state.step < epoch * epoch_steps:
                rate = learning_rate(recipe, state.step, steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                torch.manual_seed(number(recipe.seed, Purpose.DROPOUT, state.step))
                for part in range(recipe.gradient_accumulation):
                    batch = state.step * recipe.gradient_accumulation + part
                    start = batch * recipe.batch_size % (epoch_steps * recipe.pictures_an_update)
                    rows = order[start : start + recipe.batch_size]  # (B,)
                    x0 = data.batch(train_set.pixels, rows, device)  # (B, 3, H, W)
                    flips, t, noise = _draw(recipe, process, x0, batch)  # (B,), (B,), (B, 3, H, W)
                    x0 = data.mirrored(x0, flips)
                    alpha, sigma = alphas[t][:, None, None, None], sigmas[t][:, None, None, None]
                    target = schedule.target(process, x0, noise, alpha, sigma)  # (B, 3, H, W)
                    prediction = model(alpha * x0 + sigma * noise, t).sample  # (B, 3, H, W)
                    error = (prediction - target).square().mean((1, 2, 3))  # (B,)
                    loss = (weights[t] * error).mean() / recipe.gradient_accumulation
                    accelerator.backward(loss)
                    losses += loss.detach()
                norm = accelerator.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
                norms += norm.nan_to_num(0, 0, 0)  # fp16's scaler skips a step that overflowed
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if ema:
                    ema.update(network, state.step)
                state.step += 1
                bar.update(1)
                due = time.monotonic() - saved > 60 * recipe.save_every_minutes
                if due and state.step % epoch_steps:  # an epoch's end is saved with its report
                    state.loss_sum, state.norm_sum = _finite(losses, epoch), norms.item()
                    resume.save(work / "state.pt", state, parts)
                    saved = time.monotonic()

            train_loss = _finite(losses, epoch) / epoch_steps  # waits for the device
            seconds = time.monotonic() - began
            judged = ema.network if ema else network.eval()
            val_loss = validation.x0_error(judged, process, task.holdout, recipe.batch_size)
            report = EpochReport(
                epoch=epoch,
                train_loss=train_loss,
                val_loss=val_loss,
                learning_rate=rate,
                grad_norm=norms.item() / epoch_steps,
                images_per_s=(state.step - first) * recipe.pictures_an_update / seconds,
                is_best=_is_best(recipe, state.reports, train_loss, val_loss),
                grid=_grid(task, judged, epoch, work),
            )
            if report.is_best:
                state.best_weights = copy.deepcopy(judged.state_dict())
            state.reports.append(_plain(report))
            _checkpoint(task, judged, report, work)
            losses.zero_()
            norms.zero_()
            state.loss_sum = state.norm_sum = 0.0
            on_epoch(report)  # before the state is saved: a kill may repeat a report, not lose one
            resume.save(work / "state.pt", state, parts)
            saved = time.monotonic()
            bar.set_postfix_str(f"epoch {epoch}, loss {train_loss:.4f}", refresh=False)

    (work / "checkpoints").mkdir(exist_ok=True)
    reports = [_report(values, work) for values in state.reports]
    best = [report for report in reports if report.is_best][-1]
    judged = ema.network if ema else network
    models.save(work / "last", judged, process, _facts(reports[-1], train_set, judged))
    judged.load_state_dict(state.best_weights)
    models.save(work / "best_model", judged, process, _facts(best, train_set, judged))
    return Trained(reports, best, precision, device.type, judged.num_parameters())


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """AdamW's rate at `step` of `steps`: a linear rise over warmup_steps, then the schedule's fall.

    The same as diffusers' `get_scheduler`, but a function of the step alone.
    """
    if step < recipe.warmup_steps:
        return recipe.learning_rate * step / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, steps - recipe.warmup_steps)
    fall = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return recipe.learning_rate * fall[recipe.lr_schedule]


def determinants(task: Task) -> dict[str, Any]:
    """Everything that decides the trained weights: a saved state belongs to these values alone."""
    recipe = asdict(task.recipe)
    del recipe["save_every_minutes"]
    return {
        "architecture": asdict(task.architecture),
        "process": asdict(task.process),
        "recipe": recipe,
        "train": task.train_set.digest,
        "holdout": task.holdout.digest,
        **resume.surroundings(),
    }


def _draw(
    recipe: Recipe, process: NoiseProcess, x0: torch.Tensor, batch: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flips (B,) bool, timesteps (B,) and noise (B, 3, H, W) of a batch, on the device of x0."""

    def source(purpose: Purpose) -> torch.Generator:
        return generator(recipe.seed, purpose, batch, x0.device)

    size, device = len(x0), x0.device
    share = 0.5 if recipe.flip else 0.0
    flips = torch.rand(size, generator=source(Purpose.FLIPS), device=device) < share
    t = torch.randint(
        process.timesteps, (size,), generator=source(Purpose.TIMESTEPS), device=device
    )
    noise = torch.randn(x0.shape, generator=source(Purpose.NOISE), device=device)
    return flips, t, noise.to(memory_format=torch.channels_last)


def updates_an_epoch(task: Task) -> int:
    """Weight updates of one pass over the pictures; DataError where they do not suffice for one."""
    recipe, count, need = task.recipe, len(task.train_set), task.recipe.pictures_an_update
    if count < need:
        factors = f"train.batch_size {recipe.batch_size}"
        if recipe.gradient_accumulation > 1:
            factors += f" times train.gradient_accumulation {recipe.gradient_accumulation}"
        cure = f"lower train.batch_size to at most {max(1, count // recipe.gradient_accumulation)}"
        raise DataError(
            f"there are {count} training pictures, fewer than one update takes ({factors} is "
            f"{need}); {cure}, or add pictures."
        )
    if recipe.select_by == "val_loss" and not len(task.holdout):
        raise DataError(
            "train.select_by is val_loss, but no picture was held out; set train.select_by to "
            "train_loss, or raise curate.holdout."
        )
    return count // need


def _precision(recipe: Recipe) -> str:
    """The arithmetic that will really be used; says so where it is not the one asked for."""
    device = PartialState().device.type
    if device == "cpu" and recipe.precision != "fp32":
        print(
            f"train: {recipe.precision} on a CPU is float32; going on with fp32.", file=sys.stderr
        )
        return "fp32"
    return recipe.precision


def _parts(network: UNet2DModel, optimizer: Any, ema: Ema | None, accelerator: Any) -> dict:
    parts = {"network": network, "optimizer": optimizer}
    if ema:
        parts["ema"] = ema.network
    if accelerator.scaler is not None:
        parts["scaler"] = accelerator.scaler
    return parts


def _is_best(
    recipe: Recipe, reports: list[dict[str, Any]], train_loss: float, val_loss: float | None
) -> bool:
    loss = {"train_loss": train_loss, "val_loss": val_loss}[recipe.select_by]
    assert loss is not None
    return all(loss < report[recipe.select_by] for report in reports)


def _due(epoch: int, every: int, recipe: Recipe) -> bool:
    return epoch % every == 0 or epoch == recipe.epochs


def _grid(task: Task, network: UNet2DModel, epoch: int, work: Path) -> Path | None:
    """Samples from the same starting noise at every sampling epoch, so that one sees it learn."""
    process, recipe = task.process, task.recipe
    if not _due(epoch, recipe.sample_every, recipe):
        return None
    sampler = Sampler("dpmsolver++", min(_GRID_STEPS, process.timesteps), "trailing")
    images = sampling.sample(network, process, sampler, recipe.seed, range(recipe.sample_images))
    path = work / "grids" / f"epoch-{epoch:04d}.png"
    pictures.save_png(path, pictures.grid(images, scale=2 if images.shape[1] <= 128 else 1))
    return path


def _checkpoint(task: Task, network: UNet2DModel, report: EpochReport, work: Path) -> None:
    recipe = task.recipe
    if not recipe.keep_checkpoints or not _due(report.epoch, recipe.checkpoint_every, recipe):
        return
    folder = work / "checkpoints"
    facts = _facts(report, task.train_set, network)
    folder.mkdir(exist_ok=True)
    models.save(folder / f"epoch-{report.epoch:04d}", network, task.process, facts)
    for old in sorted(folder.glob("epoch-*"))[: -recipe.keep_checkpoints]:
        shutil.rmtree(old)


def _facts(report: EpochReport, train_set: Pictures, network: UNet2DModel) -> dict[str, Any]:
    """The lines of a model card."""
    facts = {
        "training pictures": len(train_set),
        "digest of the training pictures": train_set.digest,
        "weights": network.num_parameters(),
        "epoch": report.epoch,
        "training loss": f"{report.train_loss:.6f}",
    }
    if report.val_loss is not None:
        facts["validation loss"] = f"{report.val_loss:.6f}"
    return facts


def _plain(report: EpochReport) -> dict[str, Any]:
    return {**asdict(report), "grid": report.grid.name if report.grid else None}


def _report(values: dict[str, Any], work: Path) -> EpochReport:
    grid = work / "grids" / values["grid"] if values["grid"] else None
    return EpochReport(**{**values, "grid": grid})


def _finite(losses: torch.Tensor, epoch: int) -> float:
    total = losses.item()
    if not math.isfinite(total):
        raise ParamsError(
            f"the training loss of epoch {epoch} is not a finite number; lower train.learning_rate "
            "or raise train.warmup_steps, and with train.precision fp16 try bf16 or fp32."
        )
    return total
