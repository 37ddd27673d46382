"""Our training against a plain loop after diffusers' tutorial, and its overhead.

    PYTHONPATH=src python benchmarks/train.py speed     # both loops in turn, in one run
    PYTHONPATH=src python benchmarks/train.py overhead  # the whole stage of params.yaml
    PYTHONPATH=src python benchmarks/train.py memory    # 50,000 images, with a tiny network
    PYTHONPATH=src python benchmarks/train.py beside    # while another program is busy

speed: the network, batch, precision and number of updates of params.yaml in both. The plain loop
is written for this benchmark: PIL and torchvision load the images in a DataLoader, everything else
is the tutorial's default; it logs the loss of every step, as the tutorial does. Neither
samples or saves meanwhile. Each runs in processes of its own, since ours changes how its process
allocates memory. Bounds: 1.08 times its images a second on a CPU; 1.8 times on a GPU, at
the seed's network and batch 64 in bf16 (--preset seed --batch-size 64 --precision bf16), where the
share of the device's peak is printed, too (--peak-tflops).
overhead: everything but forward, backward, optimizer and averaging of the weights takes less than
5 % of the stage's time. Two shares are printed: of data, logging, saving, validation and sampling's
own work; and of these and the rest of an update beside those four calls (noisy images, loss, the
gradients' norm and their freeing). Needs no data set: without data/dataset it draws as many images
of noise.
memory: less than 2 GiB of host memory beyond what a training of 64 images takes.
beside: training, sampling and features of the demo's network, alone and beside one busy program,
with and without diffusion/threads.py, in turn in processes of their own. Bounds: beside the busy
program at least 60 % of the speed alone; alone at least 97 % of the speed without. For idle cores:
what else runs there counts as a busy program, too.
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
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from pttfaces import config, tracking
from pttfaces.diffusion import distributed, model_folder, threads, unet
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.evaluation import features, image_folder
from pttfaces.sampling import generation
from pttfaces.training import checkpoint, data, loop, validation
from pttfaces.training.ema import Ema
from pttfaces.training.outputs import Outputs

PROJECT = Path(__file__).resolve().parents[1]
TRAINED, HELD_OUT = 347, 37  # as many as the demo's


def draw(folder: Path, count: int, size: int) -> Path:
    """Images of soft noise, about as large on disk as a face's."""
    folder.mkdir(parents=True)
    for index in range(count):
        rough = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(rough).resize((size, size)).save(folder / f"{index:06d}.png")
    return folder


def synchronize() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def with_train(params: config.Params, **changes: Any) -> config.Params:
    """Parameters with other keys of the group `train`."""
    return params.model_copy(update={"train": params.train.model_copy(update=changes)})


def train(params: config.Params, folder: Path, on_epoch: loop.OnEpoch) -> loop.TrainResult:
    """Trains on the images of a folder, with none held out."""
    train_set = data.load_images(folder, params.image_size)
    holdout = data.load_images(folder / "none", params.image_size)
    with tempfile.TemporaryDirectory() as work:
        return loop.train(params, train_set, holdout, Path(work), on_epoch)


@dataclass(frozen=True)
class Speed:
    """Images a second of wall time, and of CPU time, which a busy machine distorts less: meant for
    one thread (OMP_NUM_THREADS=1), since threads that wait for each other count, too."""

    wall: float
    cpu: float


def our_speed(params: config.Params, folder: Path) -> Speed:
    """Of the second of three epochs; the CPU time includes saving the state."""
    used: list[float] = []
    result = train(params, folder, lambda *_: used.append(time.process_time()))
    size = params.train.images_per_update
    images = result.metrics["pictures"] // size * size
    return Speed(result.epochs[1].images_per_s, images / (used[1] - used[0]))


class Folder(Dataset[Any]):
    """A folder of images, opened one by one, as the tutorial's data set does."""

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


def plain(params: config.Params, folder: Path) -> Speed:
    """The second epoch of a loop after diffusers' unconditional tutorial."""
    options, dataset = params.train, Folder(folder, params.image_size)
    precision = options.precision
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision)
    model = unet.build(params.model, params.image_size, params.seed)
    noise_scheduler = DDPMScheduler(num_train_timesteps=options.timesteps)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    loader = DataLoader(dataset, batch_size=options.batch_size, shuffle=True)
    lr_scheduler = get_cosine_schedule_with_warmup(
        optimizer, options.warmup_steps, len(loader) * options.epochs
    )
    model, optimizer, loader, lr_scheduler = accelerator.prepare(
        model, optimizer, loader, lr_scheduler
    )
    for _ in range(2):
        synchronize()
        started, used = time.perf_counter(), time.process_time()
        for clean_images in loader:
            noise = torch.randn(clean_images.shape, device=clean_images.device)
            timesteps = torch.randint(0, 1000, (len(clean_images),), device=clean_images.device)
            noisy_images = noise_scheduler.add_noise(clean_images, noise, timesteps)
            with accelerator.accumulate(model):
                noise_pred = model(noisy_images, timesteps, return_dict=False)[0]
                loss = functional.mse_loss(noise_pred, noise)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
            loss.detach().item()  # logged at every step
        synchronize()
        seconds, used = time.perf_counter() - started, time.process_time() - used
    return Speed(len(dataset) / seconds, len(dataset) / used)


def flops_per_image(params: config.Params) -> float:
    """Floating-point operations of one image's forward and backward pass."""
    size = params.image_size
    model = unet.build(params.model, size, 0)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size), torch.zeros(1)).sample.sum().backward()
    return float(counter.get_total_flops())


def speed_params(
    preset: str | None, batch_size: int | None, precision: str | None
) -> config.Params:
    """The training that both sides do."""
    params = config.load(PROJECT / (f"presets/{preset}.yaml" if preset else "params.yaml"))
    return with_train(
        params,
        epochs=3,
        batch_size=batch_size or params.train.batch_size,
        precision=precision or params.train.precision,
        select_by="train_loss",
        sample_every=10**6,
        sample_images=1,
        keep_checkpoints=0,
    )


def speed_child(options: argparse.Namespace) -> None:
    params = speed_params(*json.loads(options.params))
    side = {"plain": plain, "ours": our_speed}[options.side]
    print(json.dumps(asdict(side(params, options.folder))))


def in_a_process(side: str, folder: Path, *params: Any) -> Speed:
    """The speed of one side in a process of its own."""
    command = [sys.executable, __file__, "speed-child", side, str(folder), json.dumps(params)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return Speed(**json.loads(printed.splitlines()[-1]))


def speed(options: argparse.Namespace) -> None:
    chosen = options.preset, options.batch_size, options.precision
    params = speed_params(*chosen)
    batch = params.train.batch_size
    with tempfile.TemporaryDirectory() as scratch:
        folder = draw(Path(scratch) / "images", batch * options.updates, params.image_size)
        peers, own = [], []
        for _ in range(options.rounds):
            peers.append(in_a_process("plain", folder, *chosen))
            own.append(in_a_process("ours", folder, *chosen))
            print(f"plain {peers[-1]}, ours {own[-1]}", flush=True)
    device = distributed.state().device.type
    threads = torch.get_num_threads()
    print(f"device {device}, batch {batch}, {params.train.precision}, {threads} threads")
    bound = 1.08 if device == "cpu" else 1.8
    for what in ("wall", "cpu"):
        pairs = [(getattr(x, what), getattr(y, what)) for x, y in zip(own, peers, strict=True)]
        mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = [x / y for x, y in pairs]
        print(f"images a second of {what} time: plain loop {other:.2f}, ours {mine:.2f}")
        print(
            f"  ours over the plain loop: {statistics.median(ratios):.3f} times (bound: {bound}); "
            f"rounds from {min(ratios):.3f} to {max(ratios):.3f}"
        )
    flops = flops_per_image(params) * statistics.median([speed.wall for speed in own])
    print(f"{flops / 1e12:.3f} TFLOP/s of forward and backward passes")
    if options.peak_tflops:
        print(f"{flops / 1e12 / options.peak_tflops:.1%} of the device's peak")
    if device == "cpu":
        print("on a GPU: unmeasured here")


def now() -> np.ndarray:
    """Wall time and CPU time, in seconds: the difference of two is what passed."""
    return np.array([time.perf_counter(), time.process_time()])


@contextmanager
def timed(owner: Any, name: str, spent: list[np.ndarray]) -> Iterator[None]:
    """Collects the time of each call of a method in the block, by `now`, without that of timed
    calls inside it."""
    method = getattr(owner, name)

    def call(*values: Any, **keywords: Any) -> Any:
        synchronize()
        started = now()
        _INSIDE.append(np.zeros(2))
        result = method(*values, **keywords)
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


_INSIDE: list[np.ndarray] = []  # per timed call in progress: time of timed calls inside
_NETWORK: dict[str, list[tuple[Any, str]]] = {
    "forward": [(UNet2DModel, "forward")],
    "backward": [(torch.Tensor, "backward")],
    "optimizer": [(torch.optim.AdamW, "step")],
    "average": [(Ema, "step")],
}
_UPDATE: dict[str, list[tuple[Any, str]]] = {
    "gradients' norm": [(Accelerator, "clip_grad_norm_")],
    "accelerate's part of a step": [(AcceleratedOptimizer, "step")],
    "gradients' freeing": [(AcceleratedOptimizer, "zero_grad")],
}
_AROUND: dict[str, list[tuple[Any, str]]] = {
    "noise, timesteps, flips": [(torch, "rand"), (torch, "randint"), (torch, "randn")],
    "batches": [(data, "load_images"), (data, "batch")],
    "saving": [(checkpoint.Checkpoint, "save"), (model_folder, "save_model"), (loop, "cpu_copy")],
    "MLflow": [(tracking, "_start")]
    + [
        (tracking.Run, name)
        for name in ("log_metrics", "log_file", "log_dataset", "log_provenance", "log_model", "end")
    ],
    "validation": [(validation, "x0_error")],
    "sample grids": [(Outputs, "save_grid")],
}


def overhead(options: argparse.Namespace) -> None:
    """Runs the stage itself in a scratch folder and times its parts."""
    values = config.load()
    parts = _NETWORK | _UPDATE | _AROUND
    spent: dict[str, list[np.ndarray]] = {part: [] for part in parts}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as clocks:
        folder = Path(scratch)
        text = Path("params.yaml").read_text(encoding="utf-8")
        if options.epochs:
            text = text.replace(f"epochs: {values.train.epochs}", f"epochs: {options.epochs}")
        (folder / "params.yaml").write_text(text, encoding="utf-8")
        dataset = Path("data/dataset").resolve()
        if dataset.is_dir():
            shutil.copytree(dataset, folder / "data/dataset")
        else:
            draw(folder / "data/dataset/train", TRAINED, values.image_size)
            draw(folder / "data/dataset/holdout", HELD_OUT, values.image_size)
        os.chdir(folder)
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
    print("seconds of wall and CPU time, without the start of Python and torch")
    for part in _NETWORK:
        print(f"{part:10} {took[part].round(1)} in {len(spent[part])} calls")
    print(f"all else   {besides.round(1)} of {whole.round(1)}, that is")
    for part in [*_AROUND, *_UPDATE]:
        print(f"  {part:24} {took[part].round(2)}")
    print(f"  {'noisy images, loss, ...':24} {rest.round(2)}")
    for what, some in (("data, logging, saving", around), ("all else", besides)):
        shares = some / whole
        print(f"{what:22} {shares[0]:.1%} of wall time, {shares[1]:.1%} of CPU time (bound: 5 %)")


WORK = ("train", "generate", "evaluate")
_WARM_UP = 2  # the first part of each run does not count: the load is looked at every two seconds


def beside(options: argparse.Namespace) -> None:
    """Images a second of each kind of work, in paired rounds."""
    params = speed_params(None, None, None)
    count = params.train.batch_size * options.updates
    with tempfile.TemporaryDirectory() as scratch:
        folder = draw(Path(scratch) / "images", count, params.image_size)
        for what in options.only or WORK:
            speeds: dict[tuple[str, bool], list[float]] = {}
            for _ in range(options.rounds):
                for others in (False, True):
                    for side in ("watched", "spinning"):
                        found = beside_speed(what, side, others, folder)
                        speeds.setdefault((side, others), []).append(found)
                print(what, speeds, flush=True)
            report_beside(what, speeds)


def report_beside(what: str, speeds: dict[tuple[str, bool], list[float]]) -> None:
    median = {key: statistics.median(values) for key, values in speeds.items()}
    alone, crowded = median["watched", False], median["watched", True]
    without = median["spinning", True] / median["spinning", False]
    print(f"{what}: alone {alone:.2f} images a second, beside a busy program {crowded:.2f}")
    print(f"  of the speed alone: {crowded / alone:.2f} (bound: 0.60), without it {without:.2f}")
    print(f"  alone, of the speed without: {alone / median['spinning', False]:.3f} (bound: 0.97)")


def beside_speed(what: str, side: str, others: bool, folder: Path) -> float:
    """The speed of a process of its own, perhaps beside one that is busy."""
    command = [sys.executable, __file__, "beside-child", what, side, str(folder)]
    with ExitStack() as stack:
        if others:
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return float(done.stdout.splitlines()[-1])


def beside_child(options: argparse.Namespace) -> None:
    if options.side == "spinning":
        threads.yield_to_others = nullcontext  # type: ignore[assignment]
    params = speed_params(None, None, None)
    print(
        {"train": train_speed, "generate": generate_speed, "evaluate": embed_speed}[options.what](
            params, options.folder
        )
    )


def train_speed(params: config.Params, folder: Path) -> float:
    return our_speed(params, folder).wall


def generate_speed(params: config.Params, folder: Path) -> float:
    """Of an untrained network, which takes as long as a trained one."""
    network = unet.build(params.model, params.image_size, 0).eval().requires_grad_(False)
    network.to(memory_format=torch.channels_last)
    model = model_folder.DiffusionModel(network, NoiseSchedule.from_params(params))
    count = len(list(folder.iterdir()))
    options = params.generate.model_copy(update={"num_images": count, "batch_size": count // 4})
    for seed in range(_WARM_UP):
        with tempfile.TemporaryDirectory() as made:
            speed = generation.generate(model, options, 10, seed, Path(made)).images_per_s
    return speed


def embed_speed(params: config.Params, folder: Path) -> float:
    images = image_folder.open_folder(folder, "")
    with tempfile.TemporaryDirectory() as cache:
        extractor = features.make_extractor(params.evaluate, Path(cache))
        for _ in range(_WARM_UP):
            started, done = time.perf_counter(), 0
            while time.perf_counter() - started < 5:
                done += len(extractor.embed(images).rows)
            speed = done / (time.perf_counter() - started)
    return speed


def memory(options: argparse.Namespace) -> None:
    """Peak memory of two children that train alike, on few and on many images."""
    with tempfile.TemporaryDirectory() as scratch:
        draw(Path(scratch) / "64", 64, 64)
        draw(Path(scratch) / "many", options.images, 64)
        peaks = []
        for name in ("64", "many"):
            command = [sys.executable, __file__, "memory-child", str(Path(scratch) / name)]
            printed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            peaks.append(int(printed) / 2**20)
    few, many = peaks
    print(f"peak with 64 images {few:.0f} MiB, with {options.images} {many:.0f} MiB")
    print(f"beyond the network's: {many - few:.0f} MiB (bound: 2048)")


def memory_child(options: argparse.Namespace) -> None:
    params = config.load(PROJECT / "presets/demo.yaml")
    params = with_train(params, epochs=1, batch_size=64, select_by="train_loss", sample_images=1)
    shape = {"channels": [8, 8], "attention": [False, False], "dropout": 0.0}
    tiny = params.model.model_copy(update=shape)
    train(params.model_copy(update={"model": tiny}), options.folder, lambda *_: None)
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def main() -> None:
    parser = argparse.ArgumentParser(description="training: speed, overhead, memory")
    chosen = parser.add_subparsers(required=True)
    command = chosen.add_parser("speed", help="against a plain loop")
    command.add_argument("--preset", help="in place of params.yaml")
    command.add_argument("--batch-size", type=int)
    command.add_argument("--precision", choices=["fp32", "fp16", "bf16"])
    command.add_argument("--updates", type=int, default=20, help="of an epoch; two a round")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--peak-tflops", type=float, help="of the device, in this precision")
    command.set_defaults(work=speed)
    command = chosen.add_parser("speed-child")
    command.add_argument("side", choices=["plain", "ours"])
    command.add_argument("folder", type=Path)
    command.add_argument("params")
    command.set_defaults(work=speed_child)
    command = chosen.add_parser("overhead", help="the stage of params.yaml")
    command.add_argument("--epochs", type=int, help="fewer than params.yaml's")
    command.set_defaults(work=overhead)
    command = chosen.add_parser("memory", help="many images")
    command.add_argument("--images", type=int, default=50_000)
    command.set_defaults(work=memory)
    command = chosen.add_parser("beside", help="while another program is busy")
    command.add_argument("--updates", type=int, default=10, help="of an epoch; two a round")
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--only", choices=WORK, action="append")
    command.set_defaults(work=beside)
    command = chosen.add_parser("beside-child")
    command.add_argument("what", choices=WORK)
    command.add_argument("side", choices=["watched", "spinning"])
    command.add_argument("folder", type=Path)
    command.set_defaults(work=beside_child)
    command = chosen.add_parser("memory-child")
    command.add_argument("folder", type=Path)
    command.set_defaults(work=memory_child)
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()
