"""Says what `dvc repro` is about to do and how long that took the last time."""

import json
import subprocess
import sys
from pathlib import Path

from pttfaces import cli, files
from pttfaces.errors import DataError

STAGES = ["crawl", "links", "download", "detect", "crop", "curate", "train", "generate", "evaluate"]


def main() -> None:
    due = changed()
    took = {stage: seconds(stage) for stage in STAGES}
    if not due:
        print("All nine stages are up to date: nothing to do.")
        return
    first = STAGES.index(due[0])
    known = [took[stage] or 0 for stage in STAGES[first:]]
    print(f"To do: {' → '.join(STAGES[first:])}", end="")
    print(f", {minutes(sum(known))} the last time ({minutes(took['train'] or 0)} of it training).")
    print("Each stage shows how far it is. Stop it whenever you like: the next call goes on there.")


def changed() -> list[str]:
    """The stages that dvc finds changed, in the line's order; those after one follow it."""
    asked = [sys.executable, "-m", "dvc", "status", "--json"]
    ended = subprocess.run(asked, capture_output=True, text=True)
    if ended.returncode:
        return STAGES  # dvc repro will say what is wrong
    found = json.loads(ended.stdout or "{}")
    return [stage for stage in STAGES if stage in found]


def seconds(stage: str) -> float | None:
    """What the stage's last run took, here or wherever metrics/ is from."""
    try:
        return float(files.read_json(Path(f"metrics/{stage}.json")).get("seconds"))
    except (DataError, TypeError, ValueError):
        return None


def minutes(value: float) -> str:
    return f"{value / 60:.0f} minutes" if value > 90 else f"{value:.0f} seconds"


if __name__ == "__main__":
    cli.run(main)
