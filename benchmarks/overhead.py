"""Overhead of the pipeline: imports, `dvc repro` with nothing to do, `dvc status`.

    PYTHONPATH=src python benchmarks/overhead.py [--crops 50000]

Bounds: all imports of a stage take under 1.5 s where it needs no torch, under 8 s where it does;
`dvc repro` with nothing to do takes under 3 s; `dvc status` with 50,000 crops (as many originals
and training images, and 10,000 samples) under 10 s. Each is the minimum of three tries, after one
that warms the disk's cache; beside wall time stands CPU time, which a busy machine distorts less.
"""

import argparse
import ast
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from pttfaces.repository import STAGES

PROJECT = Path(__file__).resolve().parents[1]
TORCH = {"crop", "train", "generate", "evaluate"}
TRACKED = {"train", "evaluate"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=int, default=50_000)
    crops = parser.parse_args().crops
    print(f"{'what':<44}{'wall s':>8}{'cpu s':>8}{'bound':>8}")
    for stage in STAGES:
        bound = 8.0 if stage in TORCH else 1.5
        program = imports(stage)
        show(f"imports of {stage}", timed(PROJECT, sys.executable, "-c", program), bound)
    with tempfile.TemporaryDirectory() as scratch:
        small = repository(Path(scratch) / "small", 400, 128)
        show("dvc repro, nothing to do, 400 crops", timed(small, "dvc", "repro"), 3.0)
        large = repository(Path(scratch) / "large", crops, 10_000)
        show(f"dvc status, {crops:,} crops", timed(large, "dvc", "status"), 10.0)


def imports(stage: str) -> str:
    """A program of the imports that every run of a stage makes: those at its script's top and in
    `main`, but for what only some settings need (`curate.recrop`, `evaluate.repeats`)."""
    tree = ast.parse((PROJECT / f"src/{stage}.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    body = next(node.body for node in functions if node.name == "main")
    found = [node for node in tree.body + body if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = ["import sys", "sys.path.insert(0, 'src')", *map(ast.unparse, found)]
    return "\n".join(lines + ["from mlflow import MlflowClient"] * (stage in TRACKED))


def repository(path: Path, crops: int, samples: int) -> Path:
    """A clone whose outs are small distinct files, as many as a real run of that size leaves."""
    subprocess.run(["git", "clone", "--quiet", PROJECT, path], check=True)
    subprocess.run([sys.executable, "src/inputs.py"], cwd=path, check=True, capture_output=True)
    fill(path / "data/raw", crops)
    fill(path / "data/crops", crops)
    fill(path / "data/dataset/train", crops * 9 // 10)
    fill(path / "data/dataset/holdout", crops // 10)
    (path / "data/dataset/manifest.csv").write_text("picture,sha256\n")
    fill(path / "data/generated", samples)
    for stage in YAML(typ="safe").load((path / "dvc.yaml").read_text())["stages"].values():
        for entry in [*stage["outs"], *stage["metrics"], *stage.get("plots", [])]:
            out = path / (entry if isinstance(entry, str) else next(iter(entry)))
            if not out.exists():
                out = out if out.suffix else out / "best_model/file"
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(out.name)
    dvc(path, "commit", "--force", "--quiet")
    return path


def fill(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:08d}.png").write_text(f"{folder.name} {number}")


def dvc(path: Path, *arguments: str) -> None:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PATH": programs}
    command = [sys.executable, "-m", "dvc", *arguments]
    subprocess.run(command, cwd=path, env=environment, check=True, capture_output=True)


def timed(path: Path, *command: str) -> tuple[float, float]:
    """(wall, CPU) seconds of the quickest of three tries."""
    if command[0] == "dvc":
        command = (sys.executable, "-m", *command)
    tries = []
    for _ in range(4):
        before, started = used(), time.perf_counter()
        subprocess.run(command, cwd=path, check=True, capture_output=True)
        tries.append((time.perf_counter() - started, used() - before))
    return min(tries[1:])


def used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def show(what: str, seconds: tuple[float, float], bound: float) -> None:
    wall, cpu = seconds
    print(f"{what:<44}{wall:>8.2f}{cpu:>8.2f}{bound:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
