"""The study of docs/timesteps.md: which timesteps to visit, as a queue of DVC experiments.

    PYTHONPATH=src python benchmarks/timesteps.py

By default in a scratch clone at 32×32 with 128 samples, for a CPU; --full takes params.yaml as it
stands, for a GPU; --only-closed-form trains nothing and takes seconds.

{linear, rescaled, cosine} × {leading, trailing} × {100, 300, 1000} DDPM steps; for linear and
cosine ddim and dpmsolver++ at 10, 20 and 50; and cosine with epsilon once with each sampler: 33
cases, of which four train, and three share an experiment with another. rescaled is the original's
schedule: linear, with zero terminal SNR and epsilon; the others predict v. Each is scored against
the training images. Beside it stands what an ideal network would give for Gaussian data, by the
same samplers. The table and an image are left in the folder named by --out, beside the clone.
Started again with the same --out it resumes where it was stopped.

--sweep prints what an ideal network gives with every prediction, schedule, sampler, spacing and
number of steps that params.yaml allows, and where train and generate warn of it; it takes minutes.
"""

import argparse
import csv
import io
import itertools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from pttfaces import images
from pttfaces.config import Generate
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.sampling import forecast, samplers

PROJECT = Path(__file__).resolve().parents[1]
TRAINED = 1000  # timesteps of the noise schedule
MEAN, VARIANCE = 30.0, 100.0
SWEPT = (1, 2, 5, 10, 20, 50, 100, 300)  # numbers of steps
SCHEDULES = {
    "linear": NoiseSchedule("linear", TRAINED, "v_prediction", False),
    "rescaled": NoiseSchedule("linear", TRAINED, "epsilon", True),
    "cosine": NoiseSchedule("cosine", TRAINED, "v_prediction", False),
    "cosine-epsilon": NoiseSchedule("cosine", TRAINED, "epsilon", False),
}
READY, NONE, SHOWN = "The study's data and parameters", "–", 12
SMALL: dict[str, object] = {
    "image_size": 32,
    "model.channels": [8, 16, 32, 32],
    "model.attention": [False, False, False, False],
    "train.batch_size": 16,
    "train.epochs": 40,
    "generate.num_images": 128,
    "generate.batch_size": 32,
}


@dataclass(frozen=True)
class Case:
    """One experiment: the schedule that is trained and the sampler that is used."""

    schedule: str
    sampler: Any
    steps: int
    spacing: Any

    @property
    def name(self) -> str:
        # All of the 1,000 timesteps are the same ones in either spacing: one experiment.
        spacing = "all" if self.steps == TRAINED else self.spacing
        return f"{self.schedule}-{self.sampler.replace('+', 'p')}-{spacing}-{self.steps}"

    @property
    def options(self) -> Generate:
        return Generate(
            num_images=1,
            batch_size=1,
            sampler=self.sampler,
            timestep_spacing=self.spacing,
            precision="fp32",
        )

    @property
    def effective_spacing(self) -> str:
        return samplers.effective_spacing(self.options)

    @property
    def caption(self) -> str:
        return f"{self.schedule}, {self.sampler}, {self.steps} steps, {self.effective_spacing}"

    @property
    def noise_schedule(self) -> NoiseSchedule:
        return SCHEDULES[self.schedule]

    @property
    def settings(self) -> list[str]:
        chosen = {
            "noise_schedule": self.noise_schedule.name,
            "train.prediction": self.noise_schedule.prediction,
            "train.zero_terminal_snr": str(self.noise_schedule.zero_terminal_snr).lower(),
            "infer_steps": self.steps,
            "generate.sampler": self.sampler,
            "generate.timestep_spacing": self.spacing,
        }
        return [word for key, value in chosen.items() for word in ("-S", f"{key}={value}")]


def cases() -> list[Case]:
    slow = [("ddpm", n, spacing) for spacing in ("leading", "trailing") for n in (100, 300, 1000)]
    fast = [(name, n, "trailing") for name in ("ddim", "dpmsolver++") for n in (10, 20, 50)]
    chosen = {
        "linear": slow + fast,
        "rescaled": slow,
        "cosine": slow + fast,
        "cosine-epsilon": [("ddpm", 100, "trailing"), fast[2], fast[4]],
    }
    return [Case(schedule, *how) for schedule, ways in chosen.items() for how in ways]


def closed_form(case: Case) -> tuple[float, float, float]:
    """First SNR; sampled over true std, and share kept of the mean, by an ideal network.

    The data: Gaussian pixels of mean 30 and variance 100, whose denoiser is known exactly.
    """
    schedule = case.noise_schedule
    (std,), (mean,) = forecast.moments(schedule, case.options, case.steps, MEAN, [VARIANCE])
    first = samplers.noise_levels(schedule, case.options, case.steps)[0]
    return first.snr, std, mean


def sweep() -> str:
    """Markdown: each combination's contrast and mean by an ideal network, bold where warned of."""
    lines = [f"| schedule | sampler | spacing | {' | '.join(map(str, SWEPT))} |"]
    lines.append("| --- " * (3 + len(SWEPT)) + "|")
    names: tuple[Any, ...] = ("linear", "cosine")
    predictions: tuple[Any, ...] = ("epsilon", "v_prediction")
    for name, prediction, zero in itertools.product(names, predictions, (False, True)):
        schedule = NoiseSchedule(name, TRAINED, prediction, zero)
        label = f"{name}, {prediction}{', zero SNR' if zero else ''}"
        for sampler, known in samplers.SAMPLERS.items():
            for spacing in ("leading", "trailing", "linspace") if not known.spacing else ("",):
                case = Case("linear", sampler, 1, spacing or "trailing")
                cells = [sweep_cell(schedule, case.options, steps) for steps in SWEPT]
                shown = [label, sampler, case.effective_spacing, *cells]
                lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def sweep_cell(schedule: NoiseSchedule, options: Generate, steps: int) -> str:
    found = forecast.forecast(schedule, options, steps)
    text = f"{found.contrast:.2f}, {found.mean:.2f}"
    return f"**{text}**" if list(forecast.warnings(schedule, options, steps)) else text


class Clone:
    """A clone of the project with parameters of its own, in which experiments are queued."""

    def __init__(self, path: Path) -> None:
        self.path = path
        drop = ("DVC_", "MLFLOW_", "GIT_")
        variables = {key: value for key, value in os.environ.items() if not key.startswith(drop)}
        who = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
        search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**variables, **dict.fromkeys(who, "study@localhost"), "PATH": search}
        self.environment["DVC_NO_ANALYTICS"] = "1"

    def run(self, *command: str) -> str:
        print("+", " ".join(command), file=sys.stderr, flush=True)
        done = subprocess.run(
            command, cwd=self.path, env=self.environment, stdout=subprocess.PIPE, check=True
        )
        return done.stdout.decode("utf-8", "replace")

    def prepare(self, changes: dict[str, object]) -> None:
        """The clone, its parameters changed, and the data up to the training images."""
        subprocess.run(["git", "clone", "-q", str(PROJECT), str(self.path)], check=True)
        yaml, file = YAML(), self.path / "params.yaml"
        values = yaml.load(file.read_text(encoding="utf-8"))
        for key, changed in changes.items():
            *groups, last = key.split(".")
            values_at = values
            for group in groups:
                values_at = values_at[group]
            values_at[last] = changed
        with file.open("w", encoding="utf-8", newline="\n") as handle:
            yaml.dump(values, handle)
        self.run(sys.executable, "src/inputs.py")
        self.run("dvc", "repro", "curate")
        self.run("git", "add", "--all")
        self.run("git", "commit", "-q", "--allow-empty", "-m", READY)

    def ready(self) -> bool:
        """Whether `prepare` has come to its end here before."""
        return (self.path / ".git").exists() and READY in self.run("git", "log", "--oneline")

    def results(self) -> dict[str, dict[str, str]]:
        """What `dvc exp show` says of each experiment that has ended well, by its name."""
        rows = csv.DictReader(io.StringIO(self.run("dvc", "exp", "show", "--csv")))
        under_way = ("Queued", "Running", "Failed")  # those show their baseline's figures
        ended = (row for row in rows if row.get("State") not in under_way)
        experiments = {row["Experiment"]: row for row in ended if row.get("Experiment")}
        return {name: row for name, row in experiments.items() if score(row, "generated") != NONE}

    def work_off(self, chosen: list[Case], jobs: str) -> None:
        """Queues the cases that have no result yet, and runs the queue."""
        done = self.results()
        self.run("dvc", "queue", "remove", "--queued", "--failed")  # of a run that was stopped
        by_name = {case.name: case for case in chosen}
        quick_first = sorted(by_name.items(), key=lambda item: item[1].steps)
        for name, case in quick_first:
            if name not in done:
                self.run("dvc", "exp", "run", "--queue", "--name", name, *case.settings)
        self.run("dvc", "exp", "run", "--run-all", "--jobs", jobs)

    def samples(self, case: Case) -> np.ndarray:
        """The images (N, H, W, 3) uint8 that a case has made."""
        folder = self.path.parent / "samples" / case.name
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            source = ("data/generated", "--rev", case.name, "--out", str(folder))
            self.run("dvc", "get", ".", *source)
        return images.read_rgb(sorted(folder.glob("*.png")))


def score(row: dict[str, str], metric: str) -> str:
    """A metric of an experiment, to four digits; a dash where the experiment has none."""
    cells = [cell for key, cell in row.items() if key.split(":")[-1] == metric]
    return f"{float(cells[0]):.4g}" if cells and cells[0] not in ("", "-", "!") else NONE


def contrast(samples: np.ndarray) -> float:
    """Standard deviation of the levels within an image, in the mean of (N, H, W, 3) images."""
    return float(samples.std(axis=(1, 2, 3)).mean())


def variety(samples: np.ndarray) -> float:
    """Standard deviation of the mean level from image to image: the slowest to be denoised."""
    return float(samples.mean(axis=(1, 2)).std(axis=0).mean())


def trained_cells(row: dict[str, str], samples: np.ndarray, real: np.ndarray) -> list[str]:
    """A trained network's cells in the table: its distance, faces, contrast and variety."""
    ratios = contrast(samples) / contrast(real), variety(samples) / variety(real)
    known = [score(row, name) for name in ("random_feature_distance", "face_rate.generated")]
    return known + [f"{ratio:.2f}" for ratio in ratios]


def table(chosen: list[Case], trained: dict[str, list[str]]) -> str:
    """Markdown: a row a case, with the cells of its trained network where there is one."""
    heads = "schedule, sampler, spacing, steps, first SNR, std, mean, distance, faces"
    names = [*heads.split(", "), "contrast", "variety"]
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    for case in chosen:
        first, std, mean = closed_form(case)
        spacing, steps = case.effective_spacing, str(case.steps)
        cells = [case.schedule, case.sampler, spacing, steps, f"{first:.1e}"]
        cells += [f"{std:.3f}", f"{mean:.3f}", *trained.get(case.name, [NONE] * 4)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def contact_sheet(samples: dict[Case, np.ndarray]) -> Image.Image:
    """The first samples of each case, each schedule's in a column of their own."""
    sheets = []
    for schedule in SCHEDULES:
        sections = [
            (case.caption, made[:SHOWN])
            for case, made in samples.items()
            if case.schedule == schedule
        ]
        if sections:
            sheets.append(np.asarray(images.sheet(sections, SHOWN)))
    height = max(len(sheet) for sheet in sheets)
    level = [np.pad(sheet, ((0, height - len(sheet)), (0, 0), (0, 0))) for sheet in sheets]
    return Image.fromarray(np.concatenate(level, axis=1)).quantize(128)


def main() -> None:
    parser = argparse.ArgumentParser(description="The study of timesteps, as DVC experiments")
    parser.add_argument("--out", type=Path, default=Path("study"), help="folder for the results")
    parser.add_argument("--full", action="store_true", help="params.yaml as it stands")
    parser.add_argument("--only-closed-form", action="store_true", help="train nothing")
    parser.add_argument("--sweep", action="store_true", help="every combination, by closed form")
    parser.add_argument("--jobs", default="1", help="experiments that run at once")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    parser.add_argument("--samples", type=int, help="samples an experiment")
    parser.add_argument("--epochs", type=int, help="epochs of each training")
    options = parser.parse_args()
    if options.sweep:
        print(sweep(), end="")
        return
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    chosen = [case for case in cases() if options.only in case.name]
    trained: dict[str, list[str]] = {}
    if not options.only_closed_form:
        clone = Clone(out / "clone")
        changes = {} if options.full else dict(SMALL)
        changes |= {"generate.num_images": options.samples} if options.samples else {}
        changes |= {"train.epochs": options.epochs} if options.epochs else {}
        if not clone.ready():
            shutil.rmtree(clone.path, ignore_errors=True)
            clone.prepare(changes)
        clone.work_off(chosen, options.jobs)
        results = clone.results()
        samples = {case: clone.samples(case) for case in chosen if case.name in results}
        real = images.read_rgb(sorted((clone.path / "data/dataset/train").glob("*.png")))
        for case, made in samples.items():
            trained[case.name] = trained_cells(results[case.name], made, real)
        contact_sheet(samples).save(out / "timesteps.png", optimize=True)
    text = table(chosen, trained)
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
