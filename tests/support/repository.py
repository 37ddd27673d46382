"""A real git + DVC repository of this project in a temporary folder, made small, for tests."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

PROJECT = Path(__file__).resolve().parents[2]
STAGES = ["crawl", "links", "download", "detect", "crop", "curate", "train", "generate", "evaluate"]
SMALL = {
    "image_size": 16,
    "infer_steps": 4,
    "demo.articles": 4,
    "curate.holdout": 0.25,
    "model.channels": "[8,16]",
    "model.attention": "[false,false]",
    "train.epochs": 2,
    "train.batch_size": 4,
    "train.sample_every": 1,
    "train.sample_images": 4,
    "train.checkpoint_every": 2,
    "generate.num_images": 6,
    "generate.batch_size": 4,
}
DVC_LOCK = """schema: '2.0'
stages:
  crawl:
    cmd: python src/crawl.py
    outs:
    - path: data/articles.jsonl
      md5: crawl-1
  train:
    cmd: python src/train.py
    outs:
    - path: models/ddpm
      md5: train-1
  train_more:
    cmd: x
"""


@dataclass(frozen=True)
class Repository:
    path: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a command starts with: this Python's programs, and nothing of the tests' own."""
        drop = ("DVC_", "MLFLOW_", "GIT_", "MAKE", "MFLAGS")  # such as what `make test` hands on
        environment = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
        return environment | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.path / "src"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@localhost",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@localhost",
        }

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.path,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def ok(self, *command: str, **environment: str) -> str:
        ended = self.run(*command, **environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def pttfaces(self, *words: str) -> str:
        """What a command `pttfaces` says, run in this process, which has loaded MLflow already."""
        from pttfaces import cli

        said = io.StringIO()
        with (
            contextlib.chdir(self.path),
            contextlib.redirect_stdout(said),
            pytest.MonkeyPatch.context() as patch,
        ):
            for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
                patch.delenv(name, raising=False)
            cli.commands(words, standalone_mode=False)
        return said.getvalue()

    def make(self, target: str) -> str:
        """`make TARGET` with this Python's programs in place of an environment of its own."""
        if not shutil.which("make"):
            pytest.skip("no make here")
        installed = ("-o", ".venv/installed", "-o", ".venv/installed-dev")
        return self.ok("make", f"BIN={Path(sys.executable).parent}", *installed, target)

    def commit(self, message: str) -> None:
        self.ok("git", "add", "--all")
        self.ok("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def metrics(self, stage: str) -> dict[str, Any]:
        return json.loads((self.path / f"metrics/{stage}.json").read_text(encoding="utf-8"))


def make_repository(path: Path, settings: dict[str, object]) -> Repository:
    """A fresh clone of the project as it stands in the working tree, with small parameters."""
    copy_project(path)
    repository = Repository(path)
    repository.ok("git", "init", "--quiet")
    put(path / "params.yaml", settings)
    repository.commit("as cloned")
    return repository


def tracked_files() -> list[str]:
    """The files of the working tree that git tracks, or would."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [name for name in listed if (PROJECT / name).is_file()]


def copy_project(path: Path) -> None:
    """What a run needs of the working tree's files, with the demo's parameters; no git, no DVC."""
    for name in tracked_files():
        source = PROJECT / name
        if not name.startswith(("tests/", "docs/", "metrics/", "dvc.lock")):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, path / name)
    shutil.copy(PROJECT / "presets/demo.yaml", path / "params.yaml")


def put(params: Path, settings: dict[str, object]) -> None:
    """Sets keys of a params.yaml."""
    yaml = YAML()
    values = yaml.load(params.read_text(encoding="utf-8"))
    for key, value in settings.items():
        *groups, last = key.split(".")
        place = values
        for group in groups:
            place = place[group]
        place[last] = yaml.load(value) if isinstance(value, str) else value
    with params.open("w") as handle:
        yaml.dump(values, handle)


def ran(output: str) -> list[str]:
    return [stage for stage in STAGES if f"Running stage '{stage}'" in output]
