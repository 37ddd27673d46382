"""A small line in a scratch repository, its disturbed runs, and what it has to be at the end."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from repository import SMALL, STAGES, Repository, make_repository

from pttfaces import files, repository, tables, workdir
from pttfaces.demo.site import HOSTS
from pttfaces.http import LOOPBACK_VARIABLE

SETTINGS: dict[str, object] = {**SMALL, "train.epochs": 6, "train.checkpoint_every": 3}
TABLES = ["articles.jsonl", "links.jsonl", "articles_read.csv", "ledger.csv", "failed.txt"]
TABLES += ["detections.csv", "crops.csv", "dataset.csv"]
FOLDERS = ("data/raw", "data/crops", "data/dataset", "data/generated", "models")
OUTS = {  # what a stage leaves that a disturbance may damage
    "crawl": ["data/articles.jsonl"],
    "links": ["data/links.jsonl", "data/articles_read.csv"],
    "download": ["data/raw", "data/ledger.csv", "data/failed.txt"],
    "detect": ["data/detections.csv"],
    "crop": ["data/crops", "data/crops.csv"],
    "curate": ["data/dataset", "data/dataset.csv"],
    "train": ["models/ddpm", "models/checkpoints"],
    "generate": ["data/generated", "data/generated.zip"],
    "evaluate": ["metrics/pictures/nearest.png"],
}
_LIVING = {"seconds", "images_per_s"}  # figures that differ from run to run
# What DVC's git library leaves when it cannot close a file on a full disk.
_OF_GIT = re.compile(r"Exception ignored in: <function _GitFile\.__del__.*?OSError: .*?\n", re.S)
_MOST_TRIES = 4
_MOST_SECONDS = 600


class NeedsAHandError(AssertionError):
    """A line that does not come to its end by running the same command again."""


@dataclass(frozen=True)
class Ended:
    """A `dvc` command that has ended."""

    code: int
    said: str


class Command:
    """A `dvc` command under way, in a process group of its own."""

    def __init__(self, line: "Line", *arguments: str) -> None:
        self._log = line.scratch / f"command-{time.monotonic_ns()}.log"
        self._handle = self._log.open("wb")
        self.process = subprocess.Popen(
            [Path(sys.executable).parent / "dvc", *arguments],
            cwd=line.repository.path,
            env=line.environment(),
            stdout=self._handle,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stage(self, name: str, patience_s: float = 60) -> psutil.Process | None:
        """The process of a stage, as soon as it runs; None where the command ends before."""
        end = time.monotonic() + patience_s
        while time.monotonic() < end and self.process.poll() is None:
            try:
                for child in psutil.Process(self.process.pid).children(recursive=True):
                    if f"src/{name}.py" in child.cmdline() and "python" in child.name():
                        return child
            except psutil.Error:
                pass
            time.sleep(0.01)
        return None

    def send(self, number: int) -> None:
        """A signal to the whole group, as a terminal sends Ctrl-C."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def wait(self) -> Ended:
        try:
            code = self.process.wait(_MOST_SECONDS)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            raise NeedsAHandError(f"a command hangs:\n{self.said()[-3000:]}") from None
        self._handle.close()
        ended = Ended(code, self.said())
        assert "Traceback" not in _OF_GIT.sub("", ended.said), ended.said
        return ended


class Line:
    """A scratch repository in `place`/line, whose demo site answers on `port`.

    stages: those that run.
    """

    def __init__(self, place: Path, port: int, stages: list[str]) -> None:
        self.stages = stages
        self.scratch = place / "scratch"
        self.scratch.mkdir(parents=True)
        self._port = port
        self.repository: Repository = make_repository(place / "line", SETTINGS)
        self.path = self.repository.path

    def environment(self) -> dict[str, str]:
        hosts = ",".join(f"{host}={self._port}" for host in HOSTS)
        return self.repository.environment | {LOOPBACK_VARIABLE: hosts}

    def start(self, *arguments: str) -> Command:
        return Command(self, *arguments)

    def repro(self, *targets: str) -> None:
        """`dvc repro`, again and again until it ends well; by default of all its stages."""
        targets = targets or (self.stages[-1],)
        for _ in range(_MOST_TRIES):
            ended = self.start("repro", *targets).wait()
            if ended.code == 0:
                return
            self._repair_dvc()
        raise NeedsAHandError(f"dvc repro {' '.join(targets)} fails again:\n{ended.said[-3000:]}")

    def _repair_dvc(self) -> None:
        """What docs/pipeline.md says of files that DVC was writing when it was killed."""
        lock, working = self.path / "dvc.lock", self.path / ".dvc/tmp/rwlock"
        if lock.exists() and repository.read_yaml_file(lock) is None:
            lock.unlink()
        try:
            json.loads(working.read_text(encoding="utf-8"))
        except FileNotFoundError:
            pass
        except ValueError:
            working.unlink()
        for path in sorted((self.path / ".dvc/cache/runs").glob("*/*")):
            with contextlib.suppress(OSError):  # those with an entry stay
                path.rmdir()

    def before(self, stage: str) -> None:
        """Runs the line up to the stage before this one."""
        place = STAGES.index(stage)
        if place:
            self.repro(STAGES[place - 1])

    def update(self) -> None:
        """What `make update` does: failed links are asked for again."""
        assert self.start("repro", "--force", "download").wait().code == 0


def digests(line: Line) -> dict[str, Any]:
    """Everything that has to be the same whatever happened on the way."""
    data: dict[str, Any] = {name: files.digest_file(line.path / "data" / name) for name in TABLES}
    ledger = tables.read_csv(line.path / "data/ledger.csv")
    data["ledger.csv but for its attempts"] = ledger.drop(columns="attempts").to_dict("records")
    for folder in FOLDERS:
        data |= {
            path.relative_to(line.path).as_posix(): files.digest_file(path)
            for path in sorted((line.path / folder).rglob("*"))
            if path.is_file()
        }
    for stage in line.stages:
        figures = line.repository.metrics(stage)
        data[f"metrics of {stage}"] = {k: v for k, v in figures.items() if k not in _LIVING}
    return data


def left_overs(line: Line) -> list[str]:
    """Files that a run should not leave: half-written ones, and half-done work."""
    found = [
        path
        for folder in ("data", "models", "metrics", ".cache")
        for path in (line.path / folder).rglob("*")
        if re.search(r"\.tmp$|/\.parts/.", path.as_posix())
    ]
    for work in (line.path / ".resume").glob("*"):
        # The last stage's done work waits there until another stage finds that dvc has noted it.
        if not (work.name.startswith(f"{line.stages[-1]}-") and (work / workdir.DONE).exists()):
            found.append(work)
    return [path.relative_to(line.path).as_posix() for path in found]


def history(line: Line) -> dict[str, Counter[str]]:
    """How many runs of each status the MLflow store has: {"train": {"FINISHED": 1}}."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{(line.path / 'mlflow.db').as_posix()}")
    experiment = client.get_experiment_by_name("pttfaces")
    if experiment is None:
        return {}
    counts: dict[str, Counter[str]] = {}
    for run in client.search_runs([experiment.experiment_id]):
        counts.setdefault(run.data.tags["stage"], Counter())[run.info.status] += 1
    return counts


def remove(line: Line) -> None:
    shutil.rmtree(line.path, ignore_errors=True)
    shutil.rmtree(line.scratch, ignore_errors=True)
