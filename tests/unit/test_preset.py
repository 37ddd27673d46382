"""`pttfaces preset`: a preset becomes params.yaml, and edits are lost only by --force."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pttfaces import config
from pttfaces.errors import ParamsError

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


def test_preset_keep_adds_missing_keys_and_keeps_values_and_comments(folder: Path) -> None:
    path = folder / PARAMS
    values = config.parse(path.read_text(encoding="utf-8"))
    values["infer_steps"], values["train"]["epochs"], values["removed"] = 7, 3, {"long": "ago"}
    del values["links"]["pages"], values["evaluate"]
    with path.open("w", encoding="utf-8") as handle:
        YAML().dump(values, handle)
    with pytest.raises(ParamsError, match=r"preset NAME --keep` adds"):
        config.load(path)
    ended = preset(folder, "photos", "--keep")
    assert ended.returncode == 0, ended.stderr
    assert "links.pages: None -> False" in ended.stdout
    kept, photos = config.load(path).flat(), config.load(folder / "presets/photos.yaml").flat()
    assert (kept["infer_steps"], kept["train.epochs"], kept["source"]) == (7, 3, "demo")
    assert kept["evaluate.dims"] == photos["evaluate.dims"]
    assert "# sampling steps per image" in path.read_text(encoding="utf-8")


def test_preset_over_uncommitted_edits_needs_force(folder: Path) -> None:
    edited = (folder / PARAMS).read_text(encoding="utf-8") + "# mine\n"
    (folder / PARAMS).write_text(edited, encoding="utf-8")
    ended = preset(folder, "seed")
    assert ended.returncode == 2
    assert "neither committed nor a preset" in ended.stderr
    assert (folder / PARAMS).read_text(encoding="utf-8") == edited
    assert preset(folder, "seed", "--force").returncode == 0
    assert (folder / PARAMS).read_bytes() == (folder / "presets/seed.yaml").read_bytes()
