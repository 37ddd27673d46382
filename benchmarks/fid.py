"""Our distance against pytorch-fid's own command: the same folders, weights and number, in one run.

    PYTHONPATH=src python benchmarks/fid.py
    PYTHONPATH=src python benchmarks/fid.py --weights pt_inception-2015-12-05-6726825d.pth \\
        --first data/generated --second data/dataset/train

Without --weights both use random ones of the right shape (He, with calibrated normalisation, since
the library's default lets the signal die out), whose number is no FID; without folders, images of
smooth noise, five times as many of the reference. Each command is a process of its own, so that
its start counts.

Bounds: the same number within 1e-4 relative, also by a statistics file of either side read by the
other; at least 1.5 times faster on the CPU, and at least 5 times where the reference is known;
memory flat in the number of images. Seconds are wall time, with processor time beside it, which a
busy machine disturbs less.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from ruamel.yaml import YAML
from torch.nn import functional

from pttfaces import config, files
from pttfaces.evaluation import image_folder, inception

PROJECT = Path(__file__).resolve().parents[1]
HUB = "hub/checkpoints/pt_inception-2015-12-05-6726825d.pth"
SIDE, CALIBRATION = 64, 16


def draw(folder: Path, count: int, seed: int) -> Path:
    """Smooth noise, of another kind for each seed, so that the distance is not small."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    tint = rng.integers(0, 80, 3)
    for index in range(count):
        coarse = (rng.integers(0, 176, (6 + seed, 6, 3)) + tint).astype(np.uint8)
        Image.fromarray(coarse).resize((SIDE, SIDE)).save(folder / f"{index:06}.png")
    return folder


@torch.no_grad()
def random_weights(path: Path, images: image_folder.ImageFolder) -> None:
    """A file of the right shape whose features keep the signal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    network = inception._fid_inception().to_empty(device="cpu").eval()
    source = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight, generator=source)
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.reset_parameters()
            module.momentum = 1.0  # takes this batch's mean and variance
            module.train()
    torch.nn.init.zeros_(network.fc.bias)
    batch = torch.from_numpy(next(images.batches(CALIBRATION))).permute(0, 3, 1, 2) / 255
    network(2 * functional.interpolate(batch, (299, 299), mode="bilinear") - 1)
    torch.save(network.state_dict(), path)


@dataclass(frozen=True)
class Run:
    """What a command printed last, and what it cost."""

    number: float
    wall_s: float
    processor_s: float
    peak_mib: float


def measure(command: list[str], folder: Path) -> Run:
    environment = {**os.environ, "TORCH_HOME": str(folder), "DVC_ROOT": str(folder)}
    environment["PYTHONPATH"] = str(PROJECT / "src")
    log, started = folder / "log", time.perf_counter()
    with log.open("wb") as handle:
        child = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment, stdout=handle, stderr=handle
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(encoding="utf-8", errors="replace")
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{text}")
    try:
        number = float(text.strip().splitlines()[-1].split()[-1])
    except (ValueError, IndexError):  # it wrote a file
        number = float("nan")
    peak = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    seconds = time.perf_counter() - started
    return Run(number, seconds, used.ru_utime + used.ru_stime, peak)


class Commands:
    """The two commands in one working folder, with the same weights."""

    def __init__(self, folder: Path, dims: int, batch_size: int) -> None:
        self.folder, self.dims, self.batch_size = folder, dims, batch_size
        (folder / "dvc.yaml").touch()  # `pttfaces` runs in a checkout
        values = config.read(PROJECT / "presets/demo.yaml")
        values["evaluate"] |= {
            "features": "inception",
            "dims": dims,
            "batch_size": batch_size,
            "weights": str(folder / HUB),
            "weights_sha256": files.digest_file(folder / HUB),
        }
        with (folder / "params.yaml").open("w", encoding="utf-8") as handle:
            YAML().dump(values, handle)

    def run_pytorch_fid(self, *arguments: str) -> Run:
        options = ["--dims", str(self.dims), "--batch-size", str(self.batch_size)]
        common = ["-W", "ignore", "-m", "pytorch_fid", "--device", "cpu", "--num-workers", "0"]
        return measure([*common, *options, *arguments], self.folder)

    def run_pttfaces(self, *arguments: str) -> Run:
        return measure(["-m", "pttfaces", "distance", *arguments], self.folder)

    def clear_cache(self) -> None:
        shutil.rmtree(self.folder / ".cache", ignore_errors=True)


def show(name: str, run: Run) -> None:
    cost = f"{run.wall_s:7.1f} s ({run.processor_s:.1f} s of the processor), {run.peak_mib:.0f} MiB"
    print(f"{name:42} {run.number:14.7g} {cost}", flush=True)


def ratio(bound: str, peer: Run, own: Run) -> None:
    wall, processor = peer.wall_s / own.wall_s, peer.processor_s / own.processor_s
    print(f"{bound}: {wall:.2f} times ({processor:.2f} by the processor)", flush=True)


def compare(commands: Commands, first: str, second: str) -> None:
    peer = commands.run_pytorch_fid(first, second)
    show("pytorch-fid, two folders", peer)
    own = commands.run_pttfaces(first, second)
    show("ours, two folders", own)
    commands.clear_cache()
    commands.run_pttfaces("--save", "pttfaces.npz", second)
    known = commands.run_pttfaces(first, second)
    show("ours, reference known", known)
    commands.run_pytorch_fid("--save-stats", second, "pytorch_fid.npz")
    read = commands.run_pttfaces(first, "pytorch_fid.npz")
    show("ours, by pytorch-fid's .npz", read)
    back = commands.run_pytorch_fid(first, "pttfaces.npz")
    show("pytorch-fid, by our .npz", back)
    difference = max(abs(run.number / peer.number - 1) for run in (own, known, read, back))
    print(f"the numbers differ by {difference:.1e} at most (bound: 1e-4)")
    ratio("two folders (bound: at least 1.5)", peer, own)
    ratio("reference known (bound: at least 5)", peer, known)


def memory(commands: Commands, count: int) -> None:
    few = draw(commands.folder / "few", count, 2)
    many = draw(commands.folder / "many", 8 * count, 2)
    peaks = [
        commands.run_pttfaces("--save", "any.npz", str(folder)).peak_mib for folder in (few, many)
    ]
    grown = peaks[1] - peaks[0]
    print(f"memory: {peaks[0]:.0f} MiB for {count} images, {grown:+.0f} MiB for 8 times as many")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare our distance with pytorch-fid's command.")
    parser.add_argument("--first", type=Path, help="a folder of images")
    parser.add_argument("--second", type=Path, help="a second folder, the reference")
    parser.add_argument("--weights", type=Path, help="Inception's weights, pytorch-fid's file")
    parser.add_argument("--count", type=int, default=64, help="images drawn for the first folder")
    parser.add_argument("--reference", type=int, default=320, help="images drawn for the reference")
    parser.add_argument("--dims", type=int, default=2048, choices=(64, 192, 768, 2048))
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        first = options.first or draw(folder / "first", options.count, 0)
        second = options.second or draw(folder / "second", options.reference, 1)
        if options.weights:
            (folder / HUB).parent.mkdir(parents=True)
            shutil.copy(options.weights, folder / HUB)
        else:
            images = image_folder.open_folder(second, "name a folder of images")
            random_weights(folder / HUB, images)
        commands = Commands(folder, options.dims, options.batch_size)
        compare(commands, str(first.resolve()), str(second.resolve()))
        memory(Commands(folder, 64, options.batch_size), options.count)


if __name__ == "__main__":
    main()
