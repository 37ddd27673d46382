"""Trains the network in a single loop that follows diffusers' train_unconditional.py.

Every draw is a function of (seed, step): the order of images, flips, timesteps, noise and dropout.
So the state is weights, optimizer and a step count; a resumed training ends with the same weights,
bit for bit on a CPU; and several processes, each with its share of an update's images, train the
same up to rounding and dropout.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from pttfaces.config import Params, Train
from pttfaces.diffusion import devices, distributed, memory, threads
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.diffusion.rng import Stream, generator_for, seed_for
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.diffusion.unet import build as build_unet
from pttfaces.diffusion.unet import set_training
from pttfaces.errors import DataError, ParamsError
from pttfaces.progress import progress
from pttfaces.tables import Epoch
from pttfaces.training import data, validation
from pttfaces.training.checkpoint import Checkpoint, TrainingState, cpu_copy, environment
from pttfaces.training.data import ImageSet
from pttfaces.training.ema import Ema
from pttfaces.training.outputs import Outputs

_USE_LESS_MEMORY = (
    "halve train.batch_size and double train.gradient_accumulation, which gives the same training, "
    "or free memory and run the same command again: it resumes from the last saved step"
)

OnEpoch = Callable[[Epoch, bool, Path | None], None]
"""Called with an epoch's row, whether it is the best so far, and its grid of samples, if any."""


@dataclass(frozen=True)
class TrainResult:
    """epochs: all, also those before an interruption; metrics: what is worth comparing; changes: a
    line for each time that it went on in another environment."""

    epochs: list[Epoch]
    metrics: dict[str, Any]
    changes: list[str]


@distributed.settings_of_params_alone()
def train(
    params: Params, train_set: ImageSet, holdout: ImageSet, work: Path, on_epoch: OnEpoch
) -> TrainResult:
    """Trains, or resumes from the state in `work`, a folder for this training's `resume_key` alone.

    Leaves there best_model/, last/, checkpoints/epoch-0010/ … and grids/epoch-0010.png …; calls
    `on_epoch` after each epoch that this process finishes. holdout: may be empty if select_by is
    train_loss. An epoch is as many whole updates as there are images for; the rest of its random
    order is left out. Several processes call it with the same arguments; the main one writes and
    reports.

    DataError: too few images. ParamsError: the loss is not finite, or memory runs out.
    """
    options, update_size = params.train, params.train.images_per_update  # U images
    epoch_steps = steps_per_epoch(options, train_set, holdout)
    total_steps = options.epochs * epoch_steps

    memory.keep_freed_memory()
    precision = devices.prepare_precision(options.precision, "train")
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        gradient_accumulation_steps=options.gradient_accumulation,
    )
    device, processes = accelerator.device, accelerator.num_processes
    unet = build_unet(params.model, params.image_size, params.seed)
    unet.to(device, memory_format=devices.memory_format(device))
    ema_model = Ema(unet, options.ema or 0.0)  # before accelerate: evaluation is in float32
    weights = list(unet.parameters())  # listed once: to find them walks through all modules
    # torch's betas and weight decay, not train_unconditional.py's; the rate is set at each step.
    optimizer: Any = torch.optim.AdamW(weights, weight_decay=0.01, fused=True)
    model, optimizer = accelerator.prepare(unet, optimizer)
    set_training(unet)
    if options.compile:
        devices.compile_for_gpu(unet, math.ceil(options.batch_size / processes))

    schedule = NoiseSchedule.from_params(params)
    alpha_bar = schedule.alpha_bar()[:, None, None, None]  # (T, 1, 1, 1)
    alphas, sigmas = alpha_bar.sqrt().float().to(device), (1 - alpha_bar).sqrt().float().to(device)
    loss_weights = schedule.loss_weights(options.min_snr_gamma).float().to(device)  # (T,)

    eval_model = DiffusionModel(ema_model.unet, schedule)
    state = TrainingState()
    outputs = Outputs(work, params, train_set, eval_model, state)
    checkpoint = Checkpoint(
        work,
        options.save_every_minutes,
        state,
        unet=unet,
        optimizer=optimizer,
        ema=ema_model.unet,
        scaler=accelerator.scaler,
    )
    checkpoint.load(environment(options), options.resume)

    # Of an update's images, each process takes every n-th, in gradient_accumulation batches.
    stride = options.gradient_accumulation * processes
    starts = range(accelerator.process_index, stride, processes)
    micro_batches = [slice(start, None, stride) for start in starts]
    image_shape, flip_share = train_set.pixels.shape[1:], 0.5 if options.flip else 0.0

    def seeded(stream: Stream) -> dict[str, Any]:  # the keyword arguments of a draw
        generator = generator_for(params.seed, stream, state.step, device)
        return {"generator": generator, "device": device}

    bar_total = total_steps * update_size if accelerator.is_main_process else 0
    with (
        progress("train", bar_total, " images", state.step * update_size) as bar,
        memory.explain_shortage(f"train.batch_size {options.batch_size}", _USE_LESS_MEMORY),
        threads.yield_to_others(),
        checkpoint,
    ):
        # Each turn trains until its epoch ends or the state is due to be saved, and saves it.
        while not is_finished(options, state.epochs):
            epoch, started = len(state.epochs) + 1, time.monotonic()
            shuffle = generator_for(params.seed, Stream.ORDER, epoch)
            order = torch.randperm(len(train_set), generator=shuffle)  # (N,)
            for rows in order.split(update_size)[state.step % epoch_steps : epoch_steps]:  # (U,)
                flips = torch.rand(rows.shape, **seeded(Stream.FLIPS)) < flip_share
                timesteps = torch.randint(options.timesteps, rows.shape, **seeded(Stream.TIMESTEPS))
                noise = torch.randn((update_size, *image_shape), **seeded(Stream.NOISE))
                # Dropout alone draws from torch's global generator; each process has its own masks.
                dropout_index = state.step * processes + accelerator.process_index
                torch.manual_seed(seed_for(params.seed, Stream.DROPOUT, dropout_index))
                update_loss = torch.zeros((), device=device)
                for part in micro_batches:
                    with accelerator.accumulate(model):  # processes exchange gradients at the last
                        t = timesteps[part]  # (B,)
                        clean_images = data.batch(train_set.pixels, rows[part], device, flips[part])
                        alpha, sigma = alphas[t], sigmas[t]  # (B, 1, 1, 1)
                        noisy_images = alpha * clean_images + sigma * noise[part]  # (B, 3, H, W)
                        target = schedule.target(clean_images, noise[part], alpha, sigma)
                        model_output = model(noisy_images, t).sample  # (B, 3, H, W)
                        error = (model_output - target).square().mean((1, 2, 3))  # (B,)
                        # Processes average their gradients, so each has its part of the mean.
                        loss = (loss_weights[t] * error).sum() * processes / options.batch_size
                        accelerator.backward(loss)
                    update_loss += loss.detach()
                # Now and not when it is saved: the main process may save alone.
                state.loss_sum += accelerator.reduce(update_loss, "mean")
                grad_norm = accelerator.clip_grad_norm_(weights, options.max_grad_norm)
                lr = learning_rate(options, state.step, total_steps)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.step()
                optimizer.zero_grad()
                ema_model.step(state.step)
                if accelerator.scaler:  # fp16 skips an update that overflowed
                    grad_norm = grad_norm.nan_to_num(0, 0, 0)
                state.norm_sum += grad_norm
                state.step += 1
                bar.update(update_size)
                if checkpoint.is_due():  # in the main process, whose next update the others await
                    break

            _check_numbers(state, accelerator.scaler, epoch)  # waits for the device
            state.seconds += time.monotonic() - started
            if state.step == epoch * epoch_steps:
                row = Epoch(
                    epoch=epoch,
                    train_loss=float(state.loss_sum) / epoch_steps / options.gradient_accumulation,
                    val_loss=validation.x0_error(eval_model, holdout, options.batch_size),
                    learning_rate=lr,
                    grad_norm=float(state.norm_sum) / epoch_steps,
                    images_per_s=epoch_steps * update_size / state.seconds,
                )
                state.finish_epoch(row)
                if accelerator.is_main_process:
                    grid, done = None, is_finished(options, state.epochs)
                    if is_best := best_epoch(options, state.epochs) is row:
                        state.best_weights = cpu_copy(eval_model.unet.state_dict())
                    if done or epoch % options.sample_every == 0:
                        grid = outputs.save_grid(epoch)
                    if done or epoch % options.checkpoint_every == 0:
                        outputs.save_checkpoint(row)
                    # Before the state is saved: a kill may repeat a report, and loses none.
                    on_epoch(row, is_best, grid)
                figures = f"epoch {epoch} of {options.epochs}, loss {row.train_loss:.4f}"
                bar.set_postfix_str(figures, refresh=False)
            checkpoint.save()

    best = best_epoch(options, state.epochs)
    if accelerator.is_main_process:
        outputs.save_model("last", state.epochs[-1])
        eval_model.unet.load_state_dict(state.best_weights)
        outputs.save_model("best_model", best)
    metrics = outputs.metrics(state.epochs, best, holdout, precision)
    return TrainResult(state.epochs, metrics, state.changes)


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
            f"there are {count} training images, fewer than the {needed} of an update ({factors}); "
            f"lower train.batch_size to at most {fitting}, or add images."
        )
    processes = distributed.state().num_processes
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


def is_finished(options: Train, epochs: list[Epoch]) -> bool:
    """Whether all epochs are done, or the best is at least `early_stop` epochs back."""
    if not epochs or options.early_stop is None:
        return len(epochs) == options.epochs
    since_best = epochs[-1].epoch - best_epoch(options, epochs).epoch
    return len(epochs) == options.epochs or since_best >= options.early_stop


def _check_numbers(state: TrainingState, scaler: Any, epoch: int) -> None:
    """ParamsError: loss or gradient are not finite, or fp16's gradient scaler, if any, gave up.

    It halves its scale at each overflow, from 65,536 on: below 1 the gradients themselves do not
    fit.
    """
    if not (math.isfinite(state.loss_sum) and math.isfinite(state.norm_sum)):
        raise ParamsError(
            f"the training loss of epoch {epoch} or its gradient is not finite; lower "
            "train.learning_rate or raise train.warmup_steps, and with train.precision fp16 try "
            "bf16 or fp32. Saved progress is kept."
        )
    if scaler is not None and scaler.get_scale() < 1:
        raise ParamsError(
            f"train.precision fp16 overflows at every update (epoch {epoch}) and does not recover; "
            "set train.precision to bf16 or fp32, or lower train.learning_rate. Saved progress is "
            "kept."
        )
