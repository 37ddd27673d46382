"""Says what `dvc repro` is about to do and how long that took the last time."""

import json
import subprocess
import sys
from pathlib import Path

from pttfaces import cli, files
from pttfaces.errors import DataError

_LOCKED = ("is busy, it is being blocked by", "Unable to acquire lock")  # dvc's words
STAGES = ["crawl", "links", "download", "detect", "crop", "curate", "train", "generate", "evaluate"]


def main() -> None:
    due = changed()
    if due is None:
        print(
            "Another dvc is at work in this folder: what is to do can be told when that has ended "
            "(`dvc status` names it)."
        )
        return
    took = {stage: seconds(stage) for stage in STAGES}
    if not due:
        print("All nine stages are up to date: nothing to do.")
        return
    first = STAGES.index(due[0])
    known = [took[stage] or 0 for stage in STAGES[first:]]
    print(f"To do: {' → '.join(STAGES[first:])}", end="")
    print(f", {minutes(sum(known))} the last time ({minutes(took['train'] or 0)} of it training).")
    print("Each stage shows how far it is. Stop it whenever you like: the next call goes on there.")


def changed() -> list[str] | None:
    """The stages that dvc finds changed, in the line's order; those after one follow it. None: it
    cannot look while another dvc is at work."""
    asked = [sys.executable, "-m", "dvc", "status", "--json"]
    ended = subprocess.run(asked, capture_output=True, text=True)
    if any(words in ended.stderr for words in _LOCKED):
        return None
    if ended.returncode:
        return STAGES  # dvc repro will say what is wrong
    found = json.loads(ended.stdout or "{}")
    for place in ("data/inbox", "data/reference"):
        if f"{place}.dvc" in found and is_older(Path(place), Path(f"{place}.dvc")):
            print(
                f"warning: {place} is older than this commit's (after a `git pull`?), and as it is "
                f"it counts; `dvc pull {place}` brings this commit's.",
                file=sys.stderr,
            )
    return [stage for stage in STAGES if stage in found]


def is_older(folder: Path, note: Path) -> bool:
    """Whether nothing in a folder was touched since git brought its note."""
    inside = (path for path in (folder, *folder.rglob("*")) if path.exists())
    return max((path.stat().st_mtime for path in inside), default=0) < note.stat().st_mtime


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
