"""Writes params.yaml from one of presets/*.yaml: `python src/preset.py seed`."""

import argparse
import subprocess
from pathlib import Path
from typing import Any

from pttfaces import cli, files
from pttfaces.errors import ParamsError
from pttfaces.params import check, flatten, read

PRESETS, PARAMS = Path("presets"), Path("params.yaml")


def main() -> None:
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=names, help="the preset")
    parser.add_argument("--force", action="store_true", help="overwrite uncommitted edits")
    options = parser.parse_args()

    preset = PRESETS / f"{options.name}.yaml"
    wanted = read(preset)
    check(wanted, str(preset))
    if not options.force and PARAMS.exists() and uncommitted():
        raise ParamsError(
            "params.yaml has edits that are neither committed nor a preset; commit them, or add "
            "--force to lose them."
        )
    show_changes(wanted)
    files.write_bytes(PARAMS, preset.read_bytes())
    print(f"params.yaml is now the preset {options.name}; `dvc repro` runs it.")


def uncommitted() -> bool:
    """Whether params.yaml holds work that overwriting would lose."""
    content = PARAMS.read_bytes()
    if any(content == path.read_bytes() for path in PRESETS.glob("*.yaml")):
        return False
    # ./ because the project may be a folder inside a larger repository
    committed = subprocess.run(["git", "show", f"HEAD:./{PARAMS}"], capture_output=True)
    return committed.returncode != 0 or committed.stdout.splitlines() != content.splitlines()


def show_changes(wanted: dict[str, Any]) -> None:
    after = flatten(wanted)
    found = read(PARAMS) if PARAMS.exists() else {}
    before = flatten(found) if isinstance(found, dict) else {}
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old != new:
            print(f"  {key}: {old} -> {new}")


if __name__ == "__main__":
    cli.run(main)
