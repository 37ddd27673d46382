"""The study of docs/timesteps.md: which timesteps to visit, as a queue of DVC experiments.

    PYTHONPATH=src python benchmarks/timesteps.py

By default in a scratch clone at 32×32 with 128 samples, for a CPU; --full takes params.yaml as it
stands, for a GPU; --only-closed-form trains nothing and takes seconds.

{linear, cosine} × {leading, trailing} × {100, 300, 1000} DDPM steps, and ddim and dpmsolver++ at
10, 20 and 50: 24 experiments, of which two train. Each is scored against the training pictures.
Beside it stands what an ideal network would give for Gaussian data, by the same samplers. The table
and a picture are left in the folder named by --out; the clone is left beside them for a look.
"""

import argparse
import csv
import io
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from ruamel.yaml import YAML

from pttfaces.diffusion import sampling
from pttfaces.diffusion.draws import Purpose, generator
from pttfaces.diffusion.sampling import Sampler
from pttfaces.diffusion.schedule import NoiseProcess, alpha_bar

PROJECT = Path(__file__).resolve().parents[1]
MEAN, VARIANCE, SIDE = 30.0, 100.0, 96
SMALL: dict[str, object] = {
    "image_size": 32,
    "model.channels": [16, 32, 48],
    "model.attention": [False, False, False],
    "train.epochs": 60,
    "generate.num_images": 128,
    "generate.batch_size": 32,
}


@dataclass(frozen=True)
class Case:
    """One experiment: the schedule that is trained and the sampler that is used."""

    schedule: str
    sampler: Sampler

    @property
    def name(self) -> str:
        solver = self.sampler.name.replace("+", "p")
        return f"{self.schedule}-{solver}-{self.sampler.spacing}-{self.sampler.steps}"

    @property
    def settings(self) -> list[str]:
        chosen = {
            "noise_schedule": self.schedule,
            "infer_steps": self.sampler.steps,
            "generate.sampler": self.sampler.name,
            "generate.timestep_spacing": self.sampler.spacing,
        }
        return [word for key, value in chosen.items() for word in ("-S", f"{key}={value}")]


def cases() -> list[Case]:
    slow = [("ddpm", n, spacing) for spacing in ("leading", "trailing") for n in (100, 300, 1000)]
    fast = [(name, n, "trailing") for name in ("ddim", "dpmsolver++") for n in (10, 20, 50)]
    samplers = [Sampler(*one) for one in slow + fast]  # type: ignore[arg-type]
    return [Case(schedule, one) for schedule in ("linear", "cosine") for one in samplers]


def closed_form(case: Case) -> tuple[float, float, float]:
    """First SNR; sampled over true std, and share kept of the mean, by an ideal network.

    The data: Gaussian pixels of mean 30 and variance 100, whose denoiser is known exactly.
    """
    process = NoiseProcess(case.schedule, 1000, "v_prediction", False)  # type: ignore[arg-type]
    signal = alpha_bar(process).float()

    def ideal(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        share = signal[t][:, None, None, None]
        alpha, sigma = share.sqrt(), (1 - share).sqrt()
        x0 = MEAN + VARIANCE * alpha / (share * VARIANCE + 1 - share) * (x - alpha * MEAN)
        return alpha * (x - alpha * x0) / sigma - sigma * x0

    source = [generator(1, Purpose.SAMPLE, 0)]
    start = torch.randn((1, 3, SIDE, SIDE), generator=source[0])
    x = sampling.denoise_all(ideal, process, case.sampler, start, source, clip=math.inf)
    first = sampling.first_snr(process, case.sampler)
    return first, float(x.std()) / VARIANCE**0.5, float(x.mean()) / MEAN


class Clone:
    """A clone of the project with parameters of its own, in which experiments are queued."""

    def __init__(self, path: Path) -> None:
        self.path = path
        drop = ("DVC_", "MLFLOW_", "GIT_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(drop)}
        who = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
        search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**kept, **dict.fromkeys(who, "study@localhost"), "PATH": search}
        self.environment["DVC_NO_ANALYTICS"] = "1"

    def run(self, *command: str) -> str:
        print("+", " ".join(command), file=sys.stderr, flush=True)
        done = subprocess.run(
            command, cwd=self.path, env=self.environment, stdout=subprocess.PIPE, check=True
        )
        return done.stdout.decode("utf-8", "replace")

    def prepare(self, changes: dict[str, object]) -> None:
        """The clone, its parameters changed, and the data up to the training pictures."""
        if not self.path.exists():
            subprocess.run(["git", "clone", "-q", str(PROJECT), str(self.path)], check=True)
        yaml, file = YAML(), self.path / "params.yaml"
        values = yaml.load(file.read_text(encoding="utf-8"))
        for key, changed in changes.items():
            *groups, last = key.split(".")
            place = values
            for group in groups:
                place = place[group]
            place[last] = changed
        with file.open("w", encoding="utf-8", newline="\n") as handle:
            yaml.dump(values, handle)
        self.run(sys.executable, "src/inputs.py")
        self.run("dvc", "repro", "curate")
        self.run("git", "add", "--all")
        self.run("git", "commit", "-q", "--allow-empty", "-m", "The study's data and parameters")

    def results(self) -> dict[str, dict[str, str]]:
        """What `dvc exp show` says of each experiment, by its name."""
        rows = csv.DictReader(io.StringIO(self.run("dvc", "exp", "show", "--csv")))
        return {row["Experiment"]: row for row in rows if row.get("Experiment")}


def score(row: dict[str, str] | None, metric: str) -> str:
    """A metric of an experiment, to four digits; a dash where the experiment has none."""
    cells = [cell for key, cell in (row or {}).items() if key.split(":")[-1] == metric]
    return f"{float(cells[0]):.4g}" if cells and cells[0] not in ("", "-", "!") else "–"


def table(chosen: list[Case], results: dict[str, dict[str, str]]) -> str:
    lines = [
        "| schedule | sampler | spacing | steps | first SNR | std | mean | distance | faces |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case in chosen:
        first, std, mean = closed_form(case)
        row, one = results.get(case.name), case.sampler
        scores = f"{score(row, 'random_feature_distance')} | {score(row, 'face_rate.generated')}"
        lines.append(
            f"| {case.schedule} | {one.name} | {one.visits} | {one.steps} | {first:.1e} "
            f"| {std:.3f} | {mean:.3f} | {scores} |"
        )
    return "\n".join(lines) + "\n"


def picture(clone: Clone, chosen: list[Case]) -> Image.Image:
    """The first row of each experiment's samples, in the order of the table."""
    strips = []
    for case in chosen:
        place = clone.path.parent / "samples" / f"{case.name}.png"
        place.parent.mkdir(exist_ok=True)
        source = ("metrics/pictures/samples.png", "--rev", case.name, "--out", str(place))
        clone.run("dvc", "get", "--force", ".", *source)
        with Image.open(place) as image:
            strips.append(np.asarray(image.convert("RGB"))[: image.width // 8 + 1])  # 8 × 8 tiles
    return Image.fromarray(np.concatenate(strips)).quantize(128)


def main() -> None:
    parser = argparse.ArgumentParser(description="The study of timesteps, as DVC experiments")
    parser.add_argument("--out", type=Path, default=Path("study"), help="folder for the results")
    parser.add_argument("--full", action="store_true", help="params.yaml as it stands")
    parser.add_argument("--only-closed-form", action="store_true", help="train nothing")
    parser.add_argument("--jobs", default="1", help="experiments at work at once")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    parser.add_argument("--samples", type=int, help="samples an experiment")
    parser.add_argument("--epochs", type=int, help="epochs of each training")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    chosen = [case for case in cases() if options.only in case.name]
    results: dict[str, dict[str, str]] = {}
    if not options.only_closed_form:
        clone = Clone(out / "clone")
        changes = {} if options.full else dict(SMALL)
        changes |= {"generate.num_images": options.samples} if options.samples else {}
        changes |= {"train.epochs": options.epochs} if options.epochs else {}
        clone.prepare(changes)
        for case in chosen:
            clone.run("dvc", "exp", "run", "--queue", "--name", case.name, *case.settings)
        clone.run("dvc", "exp", "run", "--run-all", "--jobs", options.jobs)
        results = clone.results()
        done = [case for case in chosen if case.name in results]
        picture(clone, done).save(out / "timesteps.png", optimize=True)
    text = table(chosen, results)
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
