"""Trains the network, in one loop with the order of diffusers' train_unconditional.py.

Every draw is a function of (seed, step): the order of images, flips, timesteps, noise and dropout.
So the state is weights, optimizer and a step count; a resumed training ends with the same weights,
bit for bit on a CPU; and several processes, each with its share of an update's images, train the
same.
"""

import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from pttfaces import images
from pttfaces.config import Generate, Params, Train
from pttfaces.diffusion import devices, distributed, memory, model_folder, unet
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.diffusion.rng import Stream, generator_for, seed_for
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.errors import DataError, ParamsError
from pttfaces.progress import progress
from pttfaces.sampling import samplers
from pttfaces.tables import Epoch
from pttfaces.training import data, validation
from pttfaces.training.checkpoint import Checkpoint, TrainingState, cpu_copy
from pttfaces.training.data import ImageSet
from pttfaces.training.ema import Ema

CACHE_VERSION = 1
"""Raise it with every change of code after which an unfinished training must not be resumed."""

_GRID_STEPS = 20
_USE_LESS_MEMORY = (
    "halve train.batch_size and double train.gradient_accumulation, which trains the same, or free "
    "memory and run the same command again: it resumes from the last saved step"
)

OnEpoch = Callable[[Epoch, bool, Path | None], None]
"""Called with an epoch's row, whether it is the best so far, and its grid of samples, if any."""


@dataclass(frozen=True)
class TrainResult:
    """epochs: all, also those before an interruption; metrics: what is worth comparing between
    trainings."""

    epochs: list[Epoch]
    metrics: dict[str, Any]


def train(
    params: Params, train_set: ImageSet, holdout: ImageSet, work: Path, on_epoch: OnEpoch
) -> TrainResult:
    """Trains, or resumes from the state in `work`, a folder for this training's `resume_key` alone.

    Leaves there best_model/, last/, checkpoints/epoch-0010/ … and grids/epoch-0010.png …; calls
    `on_epoch` after each epoch that this process finishes. holdout: may be empty where train_loss
    selects. An epoch is as many whole updates as there are images for; the rest of its random order
    is left out. Several processes call it with the same arguments; the main one writes and reports.

    DataError: too few images. ParamsError: the loss is not finite, or memory runs out.
    """
    options, update_size = params.train, params.train.images_per_update  # U images
    epoch_steps = steps_per_epoch(options, train_set, holdout)
    total_steps, micro_batches = options.epochs * epoch_steps, _micro_batches(options)
    trainer, processes = Trainer(params), distributed.num_processes()
    device, schedule = trainer.device, trainer.schedule
    checkpoint = Checkpoint(work, trainer.parts())
    state = checkpoint.restore()
    alphas, sigmas, weights = _per_timestep(schedule, options, device)
    # Sums over the epoch, on the device, which is asked for them at its end.
    loss_sum, norm_sum = torch.tensor([state.loss_sum, state.norm_sum], device=device)
    last_save = time.monotonic()
    done = state.step == total_steps or _has_stalled(options, state.epochs)

    bar_total = total_steps * update_size if distributed.is_main_process() else 0
    with (
        progress("train", bar_total, " images", state.step * update_size) as bar,
        memory.explain_shortage(f"train.batch_size {options.batch_size}", _USE_LESS_MEMORY),
        checkpoint,
    ):
        while not done:
            epoch = state.step // epoch_steps + 1
            shuffle = generator_for(params.seed, Stream.ORDER, epoch)
            order = torch.randperm(len(train_set), generator=shuffle)  # (N,)
            started, first_step = time.monotonic(), state.step
            unet.set_training(trainer.unet)
            while state.step < epoch * epoch_steps:
                lr = learning_rate(options, state.step, total_steps)
                start = state.step % epoch_steps * update_size
                rows = order[start : start + update_size]  # (U,)
                # flips, timesteps: (U,); noise: (U, 3, H, W)
                flips, timesteps, noise = _draw(
                    params, state.step, train_set.pixels.shape[1:], device
                )
                for part in micro_batches:  # B = U / accumulation / processes of the images
                    t = timesteps[part]  # (B,)
                    clean_images = data.batch(train_set.pixels, rows[part], device, flips[part])
                    alpha, sigma = alphas[t], sigmas[t]  # (B, 1, 1, 1)
                    target = schedule.target(clean_images, noise[part], alpha, sigma)
                    noisy_images = alpha * clean_images + sigma * noise[part]  # (B, 3, H, W)
                    last = part is micro_batches[-1]
                    with nullcontext() if last else trainer.accelerator.no_sync(trainer.model):
                        model_output = trainer.model(noisy_images, t).sample  # (B, 3, H, W)
                        error = (model_output - target).square().mean((1, 2, 3))  # (B,)
                        # Processes average their gradients, so each has its part of the mean.
                        loss = (weights[t] * error).sum() * processes / update_size
                        trainer.accelerator.backward(loss)
                    loss_sum += distributed.mean(loss.detach())
                norm_sum += trainer.step(lr, state.step)
                state.step += 1
                bar.update(update_size)
                due = time.monotonic() - last_save > 60 * options.save_every_minutes
                if due and state.step % epoch_steps and distributed.is_main_process():
                    state.loss_sum, state.norm_sum = _check_finite(loss_sum, epoch), norm_sum.item()
                    checkpoint.save(state)
                    last_save = time.monotonic()

            train_loss = _check_finite(loss_sum, epoch) / epoch_steps
            grad_norm = norm_sum.item() / epoch_steps
            speed = (state.step - first_step) * update_size / (time.monotonic() - started)
            devices.check_loss_scale(trainer.accelerator.scaler, epoch)
            eval_model = trainer.eval_model()
            val_loss = validation.x0_error(eval_model, holdout, _device_batch_size(options))
            row = Epoch(epoch, train_loss, val_loss, lr, grad_norm, speed)
            state.epochs.append(row)
            state.loss_sum = state.norm_sum = 0.0
            loss_sum.zero_()
            norm_sum.zero_()
            done = state.step == total_steps or _has_stalled(options, state.epochs)
            if distributed.is_main_process():
                grid = None
                if done or epoch % options.sample_every == 0:
                    grid = _save_grid(params, eval_model, epoch, work)
                if is_best := best_epoch(options, state.epochs) is row:
                    state.best_weights = cpu_copy(eval_model.unet.state_dict())
                if done or epoch % options.checkpoint_every == 0:
                    _save_checkpoint(params, train_set, eval_model, row, work)
                # Before the state is saved: a kill may repeat a report, and loses none.
                on_epoch(row, is_best, grid)
                checkpoint.save(state)
                last_save = time.monotonic()
            bar.set_postfix_str(f"epoch {epoch} of {options.epochs}, loss {train_loss:.4f}", False)
    return _finish(params, train_set, holdout, trainer, state, work)


class Trainer:
    """What a training changes: the network, its average and the optimizer, on this process's
    device.

    unet: the network itself; model: the same, as accelerate wraps it for several processes.
    """

    def __init__(self, params: Params) -> None:
        options, self.device = params.train, distributed.device()
        memory.keep_freed_memory()
        self.schedule = NoiseSchedule.from_params(params)
        self.precision = devices.choose_precision(options.precision)
        mixed = "no" if self.precision == "fp32" else self.precision
        self.accelerator = Accelerator(mixed_precision=mixed)
        memory_format = devices.memory_format(self.device)
        new = unet.build(params.model, params.image_size, params.seed)
        self.unet = new.to(self.device, memory_format=memory_format)
        self.ema_model = Ema(self.unet, options.ema) if options.ema is not None else None
        self.weights, self.max_grad_norm = list(self.unet.parameters()), options.max_grad_norm
        self.optimizer = torch.optim.AdamW(self.weights, weight_decay=0.01, fused=True)
        self.model = self.accelerator.prepare(self.unet)
        unet.set_training(self.unet)
        if options.compile:
            devices.compile_for_gpu(self.unet, _device_batch_size(options))

    def parts(self) -> dict[str, Any]:
        """What a saved state holds the `state_dict()` of."""
        parts = {"unet": self.unet, "optimizer": self.optimizer}
        if self.ema_model:
            parts["ema"] = self.ema_model.unet
        if self.accelerator.scaler is not None:
            parts["scaler"] = self.accelerator.scaler
        return parts

    def eval_model(self) -> DiffusionModel:
        """The model that is validated, sampled from and kept: the averaged one, if there is one."""
        return DiffusionModel(
            self.ema_model.unet if self.ema_model else self.unet.eval(), self.schedule
        )

    def step(self, lr: float, step: int) -> torch.Tensor:
        """Updates the weights by their gradients; the gradients' norm before clipping, a scalar."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        scaler = self.accelerator.scaler
        if scaler is None:
            norm = self.clip_gradients()
            self.optimizer.step()
        else:  # fp16's: it skips an update that overflowed
            scaler.unscale_(self.optimizer)
            norm = self.clip_gradients()
            scaler.step(self.optimizer)
            scaler.update()
        for weight in self.weights:
            weight.grad = None
        if self.ema_model:
            self.ema_model.step(step)
        return norm.nan_to_num(0, 0, 0)

    def clip_gradients(self) -> torch.Tensor:
        """`clip_grad_norm_` without its walk through all modules, and without a multiplication by 1
        where reading the norm costs nothing and shows that there is nothing to clip."""
        # Each .grad makes a Python object.
        norm = get_total_norm(
            [grad for weight in self.weights if (grad := weight.grad) is not None]
        )
        free = devices.reads_are_free(self.device)
        if not free or self.max_grad_norm / (norm + 1e-6) < 1:
            clip_grads_with_norm_(self.weights, self.max_grad_norm, norm)
        return norm


def resume_key(params: Params, train_set: ImageSet, holdout: ImageSet) -> dict[str, Any]:
    """Everything that decides the trained weights: a saved state belongs to these values alone."""
    return {
        "cache_version": CACHE_VERSION,
        "seed": params.seed,
        "image_size": params.image_size,
        "noise_schedule": params.noise_schedule,
        "model": params.model.model_dump(),
        "train": _decisive_options(params.train),
        "training_images": train_set.digest,
        "held_out_images": holdout.digest,
        "processes": distributed.num_processes(),
        **devices.environment(),
    }


def _decisive_options(options: Train) -> dict[str, Any]:
    """The keys of `train` that decide the weights."""
    return options.model_dump(exclude={"save_every_minutes", "register_model"})


def steps_per_epoch(options: Train, train_set: ImageSet, holdout: ImageSet) -> int:
    """Weight updates of one pass over the images.

    DataError: too few for one update, or none held out where val_loss selects. ParamsError: more
    processes than images in a batch.
    """
    count, needed = len(train_set), options.images_per_update
    if count < needed:
        factors = f"train.batch_size {options.batch_size}"
        if options.gradient_accumulation > 1:
            factors += f" times train.gradient_accumulation {options.gradient_accumulation}"
        fitting = max(1, count // options.gradient_accumulation)
        raise DataError(
            f"there are {count} training images, fewer than one update takes ({factors} is "
            f"{needed}); lower train.batch_size to at most {fitting}, or add images."
        )
    processes = distributed.num_processes()
    if options.batch_size < processes:
        raise ParamsError(
            f"{processes} processes cannot share batches of train.batch_size {options.batch_size}; "
            f"raise it, or start at most {options.batch_size} processes."
        )
    if options.select_by == "val_loss" and not len(holdout):
        raise DataError(
            "train.select_by is val_loss, but no image is held out; set train.select_by to "
            "train_loss, or let curate hold some out: with curate.holdout above 0 and images of "
            "more than one article."
        )
    return count // needed


def learning_rate(options: Train, step: int, total_steps: int) -> float:
    """AdamW's rate at `step`: a linear rise over warmup_steps, then the fall of lr_schedule.

    The same as diffusers' `get_scheduler`, but a function of the step alone.
    """
    if step < options.warmup_steps:
        return options.learning_rate * step / options.warmup_steps
    done = (step - options.warmup_steps) / max(1, total_steps - options.warmup_steps)
    fall = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return options.learning_rate * fall[options.lr_schedule]


def best_epoch(options: Train, epochs: list[Epoch]) -> Epoch:
    """The epoch of the lowest `select_by`; of equals the first."""
    return min(epochs, key=lambda row: getattr(row, options.select_by))


def _has_stalled(options: Train, epochs: list[Epoch]) -> bool:
    """Whether the best epoch is at least `early_stop` epochs back."""
    if options.early_stop is None or not epochs:
        return False
    return epochs[-1].epoch - best_epoch(options, epochs).epoch >= options.early_stop


def _per_timestep(
    schedule: NoiseSchedule, options: Train, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """α and σ at each timestep, (T, 1, 1, 1), and the loss weight there, (T,); float32."""
    alpha_bar = schedule.alpha_bar()[:, None, None, None]
    weights = schedule.loss_weights(options.min_snr_gamma)
    alphas, sigmas = alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()
    return alphas.to(device), sigmas.to(device), weights.float().to(device)


def _micro_batches(options: Train) -> list[slice]:
    """Which of an update's images this process takes, batch by batch."""
    processes = distributed.num_processes()
    stride = options.gradient_accumulation * processes
    starts = range(distributed.process_index(), stride, processes)
    return [slice(start, None, stride) for start in starts]


def _device_batch_size(options: Train) -> int:
    """Images of a batch that this process holds."""
    return -(-options.batch_size // distributed.num_processes())


def _draw(
    params: Params, step: int, shape: torch.Size, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flips (U,) bool, timesteps (U,) and noise (U, 3, H, W) of an update's images.

    Also seeds the dropout, if any, which is each process's own.
    """
    options, size = params.train, params.train.images_per_update

    def stream(which: Stream) -> torch.Generator:
        return generator_for(params.seed, which, step, device)

    if params.model.dropout:
        index = step * distributed.num_processes() + distributed.process_index()
        torch.manual_seed(seed_for(params.seed, Stream.DROPOUT, index))
    share = 0.5 if options.flip else 0.0
    flips = torch.rand(size, generator=stream(Stream.FLIPS), device=device) < share
    timesteps = torch.randint(
        options.timesteps, (size,), generator=stream(Stream.TIMESTEPS), device=device
    )
    noise = torch.randn((size, *shape), generator=stream(Stream.NOISE), device=device)
    return flips, timesteps, noise


def _save_grid(params: Params, model: DiffusionModel, epoch: int, work: Path) -> Path:
    """Samples from the same starting noise at every sampling epoch, so that one sees it learn."""
    count = params.train.sample_images
    options = Generate(
        num_images=count, batch_size=count, sampler="dpmsolver++", timestep_spacing="trailing"
    )
    steps = min(_GRID_STEPS, params.train.timesteps)
    samples = samplers.sample(model, options, steps, params.seed, range(count))
    path = work / "grids" / f"epoch-{epoch:04d}.png"
    images.save_png(path, images.grid(samples, scale=2 if samples.shape[1] <= 128 else 1))
    return path


def _save_checkpoint(
    params: Params, train_set: ImageSet, model: DiffusionModel, row: Epoch, work: Path
) -> None:
    if not params.train.keep_checkpoints:
        return
    folder = work / "checkpoints"
    folder.mkdir(exist_ok=True)
    facts = _facts(params, train_set, model, row)
    model_folder.save_model(folder / f"epoch-{row.epoch:04d}", model, facts)
    for old in sorted(folder.glob("epoch-*"))[: -params.train.keep_checkpoints]:
        shutil.rmtree(old)


def _finish(
    params: Params,
    train_set: ImageSet,
    holdout: ImageSet,
    trainer: Trainer,
    state: TrainingState,
    work: Path,
) -> TrainResult:
    """Writes the last model and the best."""
    last, best = state.epochs[-1], best_epoch(params.train, state.epochs)
    model = trainer.eval_model()
    if distributed.is_main_process():
        (work / "checkpoints").mkdir(exist_ok=True)
        model_folder.save_model(work / "last", model, _facts(params, train_set, model, last))
        model.unet.load_state_dict(state.best_weights)
        model_folder.save_model(work / "best_model", model, _facts(params, train_set, model, best))
    speeds = [row.images_per_s for row in state.epochs]
    metrics = {
        "epochs": last.epoch,
        "best_epoch": best.epoch,
        "train_loss": best.train_loss,
        "val_loss": best.val_loss,
        "last_train_loss": last.train_loss,
        "last_val_loss": last.val_loss,
        "images_per_s": round(sum(speeds) / len(speeds), 2),
        "pictures": len(train_set),
        "held_out": len(holdout),
        "parameters": model.unet.num_parameters(),
        "device": trainer.device.type,
        "processes": distributed.num_processes(),
        "precision": trainer.precision,
        "select_by": params.train.select_by,
        "data_digest": train_set.digest,
    }
    return TrainResult(state.epochs, metrics)


def _facts(
    params: Params, train_set: ImageSet, model: DiffusionModel, row: Epoch
) -> dict[str, Any]:
    """The lines of a model card."""
    facts = {
        "training images": len(train_set),
        "digest of the training images": train_set.digest,
        "network": _join_items(params.model.model_dump()),
        "noise schedule": params.noise_schedule,
        "training": _join_items(_decisive_options(params.train)),
        "seed": params.seed,
        "weights": model.unet.num_parameters(),
        "epoch": row.epoch,
        "training loss": f"{row.train_loss:.6f}",
    }
    if row.val_loss is not None:
        facts["validation loss"] = f"{row.val_loss:.6f}"
    return facts


def _join_items(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _check_finite(loss_sum: torch.Tensor, epoch: int) -> float:
    value = loss_sum.item()
    if not math.isfinite(value):
        raise ParamsError(
            f"the training loss of epoch {epoch} is not a finite number; lower train.learning_rate "
            "or raise train.warmup_steps, and with train.precision fp16 try bf16 or fp32. Saved "
            "progress is kept."
        )
    return value
