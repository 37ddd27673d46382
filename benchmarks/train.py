"""Our training against a plain loop after diffusers' tutorial, and what ours spends besides.

    PYTHONPATH=src python benchmarks/train.py speed     # both loops in turn, in one run
    PYTHONPATH=src python benchmarks/train.py overhead  # the whole stage of params.yaml
    PYTHONPATH=src python benchmarks/train.py memory    # 50,000 pictures, with a tiny network

speed: the network, batch, precision and number of updates of params.yaml in both. The plain loop
is written for this benchmark: PIL and torchvision load the pictures in a DataLoader, everything
else is the tutorial's default; it logs the loss of every step, as the tutorial does. Neither
samples or saves meanwhile. Each runs in processes of its own, since ours changes how its process
keeps memory. Bounds: 1.08 times its images a second on a CPU; 1.8 times on a GPU, at
the seed's network and batch 64 in bf16 (--preset seed --batch-size 64 --precision bf16), where the
share of the device's peak is printed, too (--peak-tflops).
overhead: what is neither forward, backward, optimiser nor averaging of the weights takes less than
5 % of the stage's time. Two shares are printed: of data, logging, saving, validation and sampling's
own work; and of these and what else an update computes beside those four calls (noisy pictures,
loss, the gradients' norm and their freeing). Needs no data set: without data/dataset it takes
pictures of noise, as many.
memory: less than 2 GiB of host memory beyond what a training of 64 pictures takes.
"""

import argparse
import json
import os
import resource
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from pttfaces import config, tracking
from pttfaces.diffusion import distributed, model_folder
from pttfaces.diffusion.schedule import NoiseProcess
from pttfaces.diffusion.unet import Architecture, build
from pttfaces.training import checkpoint, data, loop, validation
from pttfaces.training.ema import Ema

PROJECT = Path(__file__).resolve().parents[1]
TRAINED, HELD_OUT = 347, 37  # as many as the demo's


def draw(folder: Path, count: int, size: int) -> Path:
    """Pictures of soft noise, about as large on disk as a face's."""
    folder.mkdir(parents=True)
    for index in range(count):
        rough = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(rough).resize((size, size)).save(folder / f"{index:06d}.png")
    return folder


def synchronize() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def small_task(values: config.Params, folder: Path, **changes: Any) -> loop.Task:
    """The training of params.yaml on other pictures."""
    noise = {"timesteps", "prediction", "zero_terminal_snr"}
    given = values.train.model_dump(exclude={*noise, "register_model"})
    return loop.Task(
        Architecture(values.image_size, **values.model.model_dump()),
        NoiseProcess(values.noise_schedule, **values.train.model_dump(include=noise)),
        replace(loop.Recipe(values.seed, **given), **changes),
        data.load(folder, values.image_size),
        data.load(folder / "none", values.image_size),
    )


@dataclass(frozen=True)
class Speed:
    """Images a second of the clock, and of the processor's time, which a busy machine moves less:
    meant for one thread (OMP_NUM_THREADS=1), since threads that wait for each other count, too."""

    clock: float
    processor: float


def ours(task: loop.Task) -> Speed:
    """Of the second of three epochs; the processor's time includes saving the state."""
    used: list[float] = []
    with tempfile.TemporaryDirectory() as work:
        trained = loop.train(task, Path(work), lambda report: used.append(time.process_time()))
    pictures = loop.updates_an_epoch(task) * task.recipe.pictures_an_update
    return Speed(trained.reports[1].images_per_s, pictures / (used[1] - used[0]))


class Folder(Dataset):
    """A folder of pictures, opened one by one, as the tutorial's data set does."""

    def __init__(self, folder: Path, size: int) -> None:
        self.paths = sorted(folder.glob("*.png"))
        self.preprocess = transforms.Compose(
            [
                transforms.Resize((size, size)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            return self.preprocess(image.convert("RGB"))


def plain(task: loop.Task, folder: Path, precision: str) -> Speed:
    """The second epoch of a loop after diffusers' unconditional tutorial."""
    recipe, size = task.recipe, task.architecture.image_size
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision)
    network = build(task.architecture, recipe.seed)
    scheduler = DDPMScheduler(num_train_timesteps=task.process.timesteps)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)
    loader = DataLoader(Folder(folder, size), batch_size=recipe.batch_size, shuffle=True)
    course = get_cosine_schedule_with_warmup(
        optimizer, recipe.warmup_steps, len(loader) * recipe.epochs
    )
    network, optimizer, loader, course = accelerator.prepare(network, optimizer, loader, course)
    for _ in range(2):
        synchronize()
        started, used = time.perf_counter(), time.process_time()
        for clean in loader:
            noise = torch.randn(clean.shape, device=clean.device)
            timesteps = torch.randint(0, 1000, (len(clean),), device=clean.device)
            noisy = scheduler.add_noise(clean, noise, timesteps)
            with accelerator.accumulate(network):
                predicted = network(noisy, timesteps, return_dict=False)[0]
                loss = functional.mse_loss(predicted, noise)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                course.step()
                optimizer.zero_grad()
            loss.detach().item()  # logged at every step
        synchronize()
        seconds, used = time.perf_counter() - started, time.process_time() - used
    return Speed(len(task.train_set) / seconds, len(task.train_set) / used)


def flops_a_picture(task: loop.Task) -> float:
    """Floating-point operations of one picture's forward and backward pass."""
    network, side = build(task.architecture, 0), task.architecture.image_size
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, side, side), torch.zeros(1)).sample.sum().backward()
    return float(counter.get_total_flops())


def speed_params(preset: str | None) -> config.Params:
    return config.load(PROJECT / (f"presets/{preset}.yaml" if preset else "params.yaml"))


def speed_task(order: dict[str, Any]) -> tuple[loop.Task, str]:
    """The training that both sides do, and its precision."""
    values, folder = speed_params(order["preset"]), Path(order["folder"])
    precision = order["precision"] or values.train.precision
    task = small_task(
        values,
        folder,
        epochs=3,
        batch_size=order["batch_size"] or values.train.batch_size,
        precision=precision,
        select_by="train_loss",
        sample_every=10**6,
        sample_images=1,
        keep_checkpoints=0,
    )
    return task, precision


def speed_child(options: argparse.Namespace) -> None:
    order = json.loads(options.order)
    task, precision = speed_task(order)
    sides = {
        "plain": lambda: plain(task, Path(order["folder"]), precision),
        "ours": lambda: ours(task),
    }
    print(json.dumps(asdict(sides[options.side]())))


def in_a_process(side: str, order: dict[str, Any]) -> Speed:
    """What one side reaches in a process of its own."""
    command = [sys.executable, __file__, "speed-child", side, json.dumps(order)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return Speed(**json.loads(printed.splitlines()[-1]))


def speed(options: argparse.Namespace) -> None:
    values = speed_params(options.preset)
    batch = options.batch_size or values.train.batch_size
    with tempfile.TemporaryDirectory() as scratch:
        folder = draw(Path(scratch) / "pictures", batch * options.updates, values.image_size)
        order = {name: getattr(options, name) for name in ("preset", "batch_size", "precision")}
        order |= {"folder": str(folder)}
        task, precision = speed_task(order)
        theirs, own = [], []
        for _ in range(options.rounds):
            theirs.append(in_a_process("plain", order))
            own.append(in_a_process("ours", order))
            print(f"plain {theirs[-1]}, ours {own[-1]}", flush=True)
    device = distributed.device().type
    print(f"device {device}, batch {batch}, {precision}, {torch.get_num_threads()} threads")
    bound = 1.08 if device == "cpu" else 1.8
    for what in ("clock", "processor"):
        pairs = [(getattr(x, what), getattr(y, what)) for x, y in zip(own, theirs, strict=True)]
        mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = [x / y for x, y in pairs]
        print(f"images a second of the {what}: plain loop {other:.2f}, ours {mine:.2f}")
        print(
            f"  ours over the plain loop: {statistics.median(ratios):.3f} times (bound: {bound}); "
            f"rounds from {min(ratios):.3f} to {max(ratios):.3f}"
        )
    flops = flops_a_picture(task) * statistics.median([one.clock for one in own])
    print(f"{flops / 1e12:.3f} TFLOP/s of forward and backward passes")
    if options.peak_tflops:
        print(f"{flops / 1e12 / options.peak_tflops:.1%} of the device's peak")
    if device == "cpu":
        print("on a GPU: unmeasured here")


def now() -> np.ndarray:
    """Seconds of the clock and of the processor: the difference of two is what passed."""
    return np.array([time.perf_counter(), time.process_time()])


@contextmanager
def timed(owner: Any, name: str, spent: list[np.ndarray]) -> Iterator[None]:
    """Collects what each call of a method in the block takes, by `now`, without what timed calls
    inside it take."""
    method = getattr(owner, name)

    def call(*values: Any, **named: Any) -> Any:
        synchronize()
        started = now()
        _INSIDE.append(np.zeros(2))
        result = method(*values, **named)
        synchronize()
        took = now() - started
        spent.append(took - _INSIDE.pop())
        if _INSIDE:
            _INSIDE[-1] += took
        return result

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, method)


_INSIDE: list[np.ndarray] = []  # of the timed calls under way: what timed calls inside them took
_NETWORK: dict[str, list[tuple[Any, str]]] = {
    "forward": [(UNet2DModel, "forward")],
    "backward": [(torch.Tensor, "backward")],
    "optimiser": [(torch.optim.AdamW, "step")],
    "average": [(Ema, "update")],
}
_UPDATE: dict[str, list[tuple[Any, str]]] = {
    "gradients' norm": [(loop._Learner, "_clip")],
    "gradients' freeing": [(loop._Learner, "update")],
}
_AROUND: dict[str, list[tuple[Any, str]]] = {
    "noise, timesteps, flips": [(loop, "_draw")],
    "batches": [(data, "load"), (data, "batch")],
    "saving": [(checkpoint.Saver, "save"), (checkpoint, "copied"), (model_folder, "save")],
    "MLflow": [(tracking, "_start")]
    + [(tracking.Run, name) for name in ("log_metrics", "log_picture", "log_model", "end")],
    "validation": [(validation, "x0_error")],
    "sample grids": [(loop, "_grid")],
}


def overhead(options: argparse.Namespace) -> None:
    """Runs the stage itself in a scratch folder, with clocks at its parts."""
    values = config.load()
    parts = _NETWORK | _UPDATE | _AROUND
    spent: dict[str, list[np.ndarray]] = {part: [] for part in parts}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as clocks:
        place = Path(scratch)
        text = Path("params.yaml").read_text(encoding="utf-8")
        if options.epochs:
            text = text.replace(f"epochs: {values.train.epochs}", f"epochs: {options.epochs}")
        (place / "params.yaml").write_text(text, encoding="utf-8")
        dataset = Path("data/dataset").resolve()
        if dataset.is_dir():
            shutil.copytree(dataset, place / "data/dataset")
        else:
            draw(place / "data/dataset/train", TRAINED, values.image_size)
            draw(place / "data/dataset/holdout", HELD_OUT, values.image_size)
        os.chdir(place)
        os.environ.pop("DVC_ROOT", None)
        stage: Callable[[], None] = runpy.run_path(str(PROJECT / "src/train.py"))["main"]
        for part, methods in parts.items():
            for owner, name in methods:
                clocks.enter_context(timed(owner, name, spent[part]))
        started = now()
        stage()
        whole = now() - started
        os.chdir(PROJECT)
    took = {part: np.sum(calls, axis=0) for part, calls in spent.items()}
    around = sum((took[part] for part in _AROUND), np.zeros(2))
    besides = whole - sum(took[part] for part in _NETWORK)
    rest = besides - around - sum(took[part] for part in _UPDATE)
    print("seconds of the clock and of the processor, without the start of Python and torch")
    for part in _NETWORK:
        print(f"{part:10} {took[part].round(1)} in {len(spent[part])} calls")
    print(f"all else   {besides.round(1)} of {whole.round(1)}, that is")
    for part in [*_AROUND, *_UPDATE]:
        print(f"  {part:24} {took[part].round(2)}")
    print(f"  {'noisy pictures, loss, ...':24} {rest.round(2)}")
    for what, some in (("data, logging, saving", around), ("all else", besides)):
        shares = some / whole
        print(
            f"{what:22} {shares[0]:.1%} of the clock, {shares[1]:.1%} of the processor (bound: 5 %)"
        )


def memory(options: argparse.Namespace) -> None:
    """Peak memory of two children that train alike, on few and on many pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        draw(Path(scratch) / "64", 64, 64)
        draw(Path(scratch) / "many", options.pictures, 64)
        peaks = []
        for name in ("64", "many"):
            command = [sys.executable, __file__, "memory-child", str(Path(scratch) / name)]
            printed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            peaks.append(int(printed) / 2**20)
    few, many = peaks
    print(f"peak with 64 pictures {few:.0f} MiB, with {options.pictures} {many:.0f} MiB")
    print(f"beyond the network's: {many - few:.0f} MiB (bound: 2048)")


def memory_child(options: argparse.Namespace) -> None:
    values = config.load(PROJECT / "presets/demo.yaml")
    task = small_task(
        values, options.folder, epochs=1, batch_size=64, select_by="train_loss", sample_images=1
    )
    task = replace(task, architecture=Architecture(64, (8, 8), 1, (False, False), 0.0))
    with tempfile.TemporaryDirectory() as work:
        loop.train(task, Path(work), lambda report: None)
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def main() -> None:
    parser = argparse.ArgumentParser(description="training: speed, overhead, memory")
    chosen = parser.add_subparsers(required=True)
    one = chosen.add_parser("speed", help="against a plain loop")
    one.add_argument("--preset", help="in place of params.yaml")
    one.add_argument("--batch-size", type=int)
    one.add_argument("--precision", choices=["fp32", "fp16", "bf16"])
    one.add_argument("--updates", type=int, default=20, help="of an epoch; two a round")
    one.add_argument("--rounds", type=int, default=5)
    one.add_argument("--peak-tflops", type=float, help="of the device, in this precision")
    one.set_defaults(work=speed)
    one = chosen.add_parser("speed-child")
    one.add_argument("side", choices=["plain", "ours"])
    one.add_argument("order")
    one.set_defaults(work=speed_child)
    one = chosen.add_parser("overhead", help="the stage of params.yaml")
    one.add_argument("--epochs", type=int, help="fewer than params.yaml's")
    one.set_defaults(work=overhead)
    one = chosen.add_parser("memory", help="many pictures")
    one.add_argument("--pictures", type=int, default=50_000)
    one.set_defaults(work=memory)
    one = chosen.add_parser("memory-child")
    one.add_argument("folder", type=Path)
    one.set_defaults(work=memory_child)
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()
