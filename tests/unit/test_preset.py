"""`pttfaces preset`: a preset becomes params.yaml, and edits are lost only by --force."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PARAMS = "params.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(PROJECT / "presets", tmp_path / "presets")
    shutil.copy(PROJECT / "presets/demo.yaml", tmp_path / PARAMS)
    shutil.copy(PROJECT / "dvc.yaml", tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def preset(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pttfaces", "preset", *words]
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "src")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["photos", "best"])
def test_preset_writes_params_yaml_and_prints_its_changes(folder: Path, name: str) -> None:
    ended = preset(folder, name)
    assert ended.returncode == 0, ended.stderr
    assert (folder / PARAMS).read_bytes() == (folder / f"presets/{name}.yaml").read_bytes()
    assert "source" in ended.stdout
    assert f"params.yaml is now the preset {name}" in ended.stdout


def test_preset_over_uncommitted_edits_needs_force(folder: Path) -> None:
    edited = (folder / PARAMS).read_text(encoding="utf-8") + "# mine\n"
    (folder / PARAMS).write_text(edited, encoding="utf-8")
    ended = preset(folder, "seed")
    assert ended.returncode == 2
    assert "neither committed nor a preset" in ended.stderr
    assert (folder / PARAMS).read_text(encoding="utf-8") == edited
    assert preset(folder, "seed", "--force").returncode == 0
    assert (folder / PARAMS).read_bytes() == (folder / "presets/seed.yaml").read_bytes()
