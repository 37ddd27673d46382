"""The training loop, to be read top to bottom, and its recipe.

Every draw is a function of (seed, update): which pictures, flips, timesteps, noise and dropout. So
all state is weights, optimiser and a step count, and a resumed run ends with the same weights, bit
for bit on a CPU; and several processes, each with its share of an update's pictures, train the
same. Knows nothing of experiment tracking, params.yaml or the stages' folders.
"""

import math
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from pttfaces import images as pictures
from pttfaces.diffusion import devices, distributed, memory, model_folder, schedule
from pttfaces.diffusion.rng import Purpose, generator, number
from pttfaces.diffusion.schedule import NoiseProcess
from pttfaces.diffusion.unet import Architecture, build, set_training
from pttfaces.errors import DataError, ParamsError
from pttfaces.progress import progress
from pttfaces.sampling import samplers
from pttfaces.sampling.samplers import Sampler
from pttfaces.training import checkpoint, data, validation
from pttfaces.training.data import Pictures
from pttfaces.training.ema import Ema

LEAVES = {"best_model": "ddpm/best_model", "last": "ddpm/last", "checkpoints": "checkpoints"}
"""Folders that `train` leaves in its work folder → where they belong in a folder of models."""

_GRID_STEPS = 20
_LESS_MEMORY = (
    "halve train.batch_size and double train.gradient_accumulation, which trains the same, or free "
    "memory and run the same command again: it goes on from the last saved step"
)


@dataclass(frozen=True)
class Recipe:
    """How to train; the fields are params.yaml's `train` keys of the same names.

    A batch is what all processes together hold at once, whatever their number.
    """

    seed: int
    epochs: int
    batch_size: int
    gradient_accumulation: int
    learning_rate: float
    lr_schedule: Literal["cosine", "linear", "constant"]
    warmup_steps: int
    max_grad_norm: float
    precision: Literal["fp32", "fp16", "bf16"]
    compile: bool
    min_snr_gamma: float | None
    ema: float | None
    flip: bool
    select_by: Literal["train_loss", "val_loss"]
    early_stop: int | None
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
    precision, device, processes: what was really used; parameters: weights of the network."""

    reports: list[EpochReport]
    best: EpochReport
    precision: str
    device: str
    processes: int
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
            "processes": self.processes,
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
    pictures suffice for; the rest of its random order is left out. Several processes enter with the
    same task and folder; the first one writes and reports for all.

    DataError: too few pictures. ParamsError: the loss is not finite, or memory does not suffice.
    """
    process, recipe, train_set = task.process, task.recipe, task.train_set
    epoch_steps, update = updates_an_epoch(task), recipe.pictures_an_update  # update: U pictures
    steps, shares, at_once = recipe.epochs * epoch_steps, _shares(recipe), _at_once(recipe)
    learner = _Learner(task)
    state = checkpoint.restore(work / "state.pt", learner.parts())
    alphas, sigmas, weights = _levels(task, learner.device)  # (T, 1, 1, 1) twice, and (T,)
    # Sums over the epoch, on the device, which is asked for them at its end.
    losses, norms = torch.tensor([state.loss_sum, state.norm_sum], device=learner.device)
    saved, ends = time.monotonic(), state.step == steps or _has_stalled(recipe, state.reports)

    total = steps * update if distributed.is_first() else 0
    enough = memory.enough_for(f"train.batch_size {recipe.batch_size}", _LESS_MEMORY)
    with (
        progress("train", total, " pictures", state.step * update) as bar,
        enough,
        checkpoint.saving(work / "state.pt", learner.parts()) as saver,
    ):
        while not ends:
            epoch = state.step // epoch_steps + 1
            shuffle = generator(recipe.seed, Purpose.ORDER, epoch)
            order = torch.randperm(len(train_set), generator=shuffle)  # (N,)
            began, first = time.monotonic(), state.step
            set_training(learner.network)
            while state.step < epoch * epoch_steps:
                rate = learning_rate(recipe, state.step, steps)
                start = state.step % epoch_steps * update
                rows = order[start : start + update]  # (U,)
                # flips, t: (U,); noise: (U, 3, H, W)
                flips, t, noise = _draw(task, state.step, learner.device)
                for share in shares:  # B = U / accumulation / processes of the pictures
                    own, at, eps = rows[share], t[share], noise[share]
                    x0 = data.batch(train_set.pixels, own, learner.device, flips[share])
                    alpha, sigma = alphas[at], sigmas[at]  # (B, 1, 1, 1)
                    target = schedule.target(process, x0, eps, alpha, sigma)  # (B, 3, H, W)
                    noisy = alpha * x0 + sigma * eps  # (B, 3, H, W)
                    with learner.apart(share is not shares[-1]):
                        prediction = learner.model(noisy, at).sample  # (B, 3, H, W)
                        error = (prediction - target).square().mean((1, 2, 3))  # (B,)
                        # Processes average their gradients, so each has its part of the mean.
                        loss = (weights[at] * error).sum() * distributed.count() / update
                        learner.accelerator.backward(loss)
                    losses += distributed.mean(loss.detach())
                norms += learner.update(rate, state.step)
                state.step += 1
                bar.update(update)
                due = time.monotonic() - saved > 60 * recipe.save_every_minutes
                if due and state.step % epoch_steps and distributed.is_first():  # else: see below
                    state.loss_sum, state.norm_sum = _finite(losses, epoch), norms.item()
                    saver.save(state)
                    saved = time.monotonic()

            train_loss, norm = _finite(losses, epoch) / epoch_steps, norms.item() / epoch_steps
            speed = (state.step - first) * update / (time.monotonic() - began)
            devices.check_scale(learner.accelerator.scaler, epoch)
            val_loss = validation.x0_error(learner.judged(), process, task.holdout, at_once)
            is_best = _is_best(recipe, state.reports, train_loss, val_loss)
            ends = state.step == steps or _has_stalled(recipe, state.reports, is_best)
            shown = ends or epoch % recipe.sample_every == 0
            grid = _grid(task, learner.judged(), epoch, work) if shown else None
            report = EpochReport(epoch, train_loss, val_loss, rate, norm, speed, is_best, grid)
            state.reports.append(_plain(report))
            state.loss_sum = state.norm_sum = 0.0
            losses.zero_()
            norms.zero_()
            if distributed.is_first():
                if is_best:
                    state.best_weights = checkpoint.copied(learner.judged().state_dict())
                if ends or epoch % recipe.checkpoint_every == 0:
                    _checkpoint(task, learner.judged(), report, work)
                on_epoch(report)  # before the state: a kill may repeat a report, not lose one
                saver.save(state)
                saved = time.monotonic()
            bar.set_postfix_str(f"epoch {epoch} of {recipe.epochs}, loss {train_loss:.4f}", False)
    return _finish(task, learner, state, work)


class _Learner:
    """What a training changes: the network, as this process' part of a distributed one, its
    average and the optimiser."""

    def __init__(self, task: Task) -> None:
        recipe, self.device = task.recipe, distributed.device()
        memory.keep_freed()
        self.precision = devices.precision(recipe.precision)
        mixed = "no" if self.precision == "fp32" else self.precision
        self.accelerator = Accelerator(mixed_precision=mixed)
        form = devices.memory_format(self.device)
        self.network = build(task.architecture, recipe.seed).to(self.device, memory_format=form)
        self.ema = Ema(self.network, recipe.ema) if recipe.ema is not None else None
        self.weights, self.max_grad_norm = list(self.network.parameters()), recipe.max_grad_norm
        self.optimizer = torch.optim.AdamW(self.weights, weight_decay=0.01, fused=True)
        self.model = self.accelerator.prepare(self.network)
        set_training(self.network)
        if recipe.compile:
            devices.compile_for_gpu(self.network, _at_once(recipe))

    def parts(self) -> dict[str, Any]:
        """What a saved state holds the `state_dict()` of."""
        parts = {"network": self.network, "optimizer": self.optimizer}
        if self.ema:
            parts["ema"] = self.ema.network
        if self.accelerator.scaler is not None:
            parts["scaler"] = self.accelerator.scaler
        return parts

    def judged(self) -> UNet2DModel:
        """The network that is validated, sampled from and kept, in evaluation mode."""
        return self.ema.network if self.ema else self.network.eval()

    def apart(self, more_to_come: bool) -> AbstractContextManager:
        """While more of the update is to come, processes keep their gradients to themselves."""
        return self.accelerator.no_sync(self.model) if more_to_come else nullcontext()

    def update(self, rate: float, step: int) -> torch.Tensor:
        """Moves the weights by their gradients; the gradients' norm before clipping, a scalar."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        scaler = self.accelerator.scaler
        if scaler is None:
            norm = self._clip()
            self.optimizer.step()
        else:  # fp16's: it skips an update that overflowed
            scaler.unscale_(self.optimizer)
            norm = self._clip()
            scaler.step(self.optimizer)
            scaler.update()
        for one in self.weights:
            one.grad = None
        if self.ema:
            self.ema.update(step)
        return norm.nan_to_num(0, 0, 0)

    def _clip(self) -> torch.Tensor:
        """`clip_grad_norm_`, but for a walk through all modules, and for a multiplication by 1
        where one may see for nothing that there is nothing to clip."""
        # Each .grad makes a Python object.
        norm = get_total_norm([grad for one in self.weights if (grad := one.grad) is not None])
        seen = devices.reads_are_free(self.device)
        if not seen or self.max_grad_norm / (norm + 1e-6) < 1:
            clip_grads_with_norm_(self.weights, self.max_grad_norm, norm)
        return norm


def _levels(task: Task, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """α and σ at each timestep, (T, 1, 1, 1), and the loss' weight there, (T,); float32."""
    signal = schedule.alpha_bar(task.process)[:, None, None, None]
    weights = schedule.loss_weights(task.process, task.recipe.min_snr_gamma)
    alphas, sigmas = signal.sqrt().float(), (1 - signal).sqrt().float()
    return alphas.to(device), sigmas.to(device), weights.float().to(device)


def _finish(task: Task, learner: _Learner, state: checkpoint.Progress, work: Path) -> Trained:
    """Writes the last model and the best."""
    reports = [_report(values, work) for values in state.reports]
    best = [report for report in reports if report.is_best][-1]
    judged = learner.judged()
    if distributed.is_first():
        (work / "checkpoints").mkdir(exist_ok=True)
        model_folder.save(work / "last", judged, task.process, _facts(task, reports[-1], judged))
        judged.load_state_dict(state.best_weights)
        model_folder.save(work / "best_model", judged, task.process, _facts(task, best, judged))
    count, parameters = distributed.count(), judged.num_parameters()
    return Trained(reports, best, learner.precision, learner.device.type, count, parameters)


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
    return {
        "architecture": asdict(task.architecture),
        "process": asdict(task.process),
        "recipe": _decisive(task.recipe),
        "train": task.train_set.digest,
        "holdout": task.holdout.digest,
        "processes": distributed.count(),
        **checkpoint.surroundings(),
    }


def _shares(recipe: Recipe) -> list[slice]:
    """Which of an update's pictures this process takes, batch by batch."""
    ours, each = distributed.index(), distributed.count()
    apart = recipe.gradient_accumulation * each
    return [slice(first, None, apart) for first in range(ours, apart, each)]


def _at_once(recipe: Recipe) -> int:
    """Pictures of a batch that this process holds."""
    return -(-recipe.batch_size // distributed.count())


def _draw(
    task: Task, step: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flips (U,) bool, timesteps (U,) and noise (U, 3, H, W) of an update's pictures.

    Also seeds the dropout, where there is one; it is the process' own.
    """
    recipe, shape = task.recipe, task.train_set.pixels.shape[1:]
    size = recipe.pictures_an_update

    def source(purpose: Purpose) -> torch.Generator:
        return generator(recipe.seed, purpose, step, device)

    if task.architecture.dropout:
        own = step * distributed.count() + distributed.index()
        torch.manual_seed(number(recipe.seed, Purpose.DROPOUT, own))
    share = 0.5 if recipe.flip else 0.0
    flips = torch.rand(size, generator=source(Purpose.FLIPS), device=device) < share
    t = torch.randint(
        task.process.timesteps, (size,), generator=source(Purpose.TIMESTEPS), device=device
    )
    noise = torch.randn((size, *shape), generator=source(Purpose.NOISE), device=device)
    return flips, t, noise


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
    if recipe.batch_size < distributed.count():
        raise ParamsError(
            f"{distributed.count()} processes are to share batches of train.batch_size "
            f"{recipe.batch_size}; raise it, or start at most {recipe.batch_size} processes."
        )
    if recipe.select_by == "val_loss" and not len(task.holdout):
        raise DataError(
            "train.select_by is val_loss, but no picture was held out; set train.select_by to "
            "train_loss, or see that curate holds some out: with curate.holdout above 0 and "
            "pictures of more than one series."
        )
    return count // need


def _is_best(
    recipe: Recipe, reports: list[dict[str, Any]], train_loss: float, val_loss: float | None
) -> bool:
    loss = {"train_loss": train_loss, "val_loss": val_loss}[recipe.select_by]
    assert loss is not None
    return all(loss < report[recipe.select_by] for report in reports)


def _has_stalled(recipe: Recipe, reports: list[dict[str, Any]], *newest: bool) -> bool:
    """Whether none of the last `early_stop` epochs was the best until then.

    newest: whether the epoch after those reported is, where there is one.
    """
    bests = [bool(report["is_best"]) for report in reports] + list(newest)
    return recipe.early_stop is not None and bool(bests) and not any(bests[-recipe.early_stop :])


def _grid(task: Task, network: UNet2DModel, epoch: int, work: Path) -> Path:
    """Samples from the same starting noise at every sampling epoch, so that one sees it learn."""
    process, recipe = task.process, task.recipe
    path = work / "grids" / f"epoch-{epoch:04d}.png"
    if not distributed.is_first():
        return path
    sampler = Sampler("dpmsolver++", min(_GRID_STEPS, process.timesteps), "trailing")
    images = samplers.sample(network, process, sampler, recipe.seed, range(recipe.sample_images))
    pictures.save_png(path, pictures.grid(images, scale=2 if images.shape[1] <= 128 else 1))
    return path


def _checkpoint(task: Task, network: UNet2DModel, report: EpochReport, work: Path) -> None:
    recipe = task.recipe
    if not recipe.keep_checkpoints:
        return
    folder = work / "checkpoints"
    facts = _facts(task, report, network)
    folder.mkdir(exist_ok=True)
    model_folder.save(folder / f"epoch-{report.epoch:04d}", network, task.process, facts)
    for old in sorted(folder.glob("epoch-*"))[: -recipe.keep_checkpoints]:
        shutil.rmtree(old)


def _facts(task: Task, report: EpochReport, network: UNet2DModel) -> dict[str, Any]:
    """The lines of a model card."""
    facts = {
        "training pictures": len(task.train_set),
        "digest of the training pictures": task.train_set.digest,
        "network": _listed(asdict(task.architecture)),
        "noise process": _listed(asdict(task.process)),
        "recipe": _listed(_decisive(task.recipe)),
        "weights": network.num_parameters(),
        "epoch": report.epoch,
        "training loss": f"{report.train_loss:.6f}",
    }
    if report.val_loss is not None:
        facts["validation loss"] = f"{report.val_loss:.6f}"
    return facts


def _decisive(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe decides the weights."""
    values = asdict(recipe)
    del values["save_every_minutes"]
    return values


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


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
            "or raise train.warmup_steps, and with train.precision fp16 try bf16 or fp32. What was "
            "saved before is kept."
        )
    return total
