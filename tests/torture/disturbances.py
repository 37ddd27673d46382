"""What can befall a line, each as a function that does it to one stage.

A function is called when everything before its stage is done, and returns when the disturbance is
over; the line may then be in any state from which `dvc repro` has to come to its end.
"""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from repository import STAGES
from torture.line import OUTS, Line
from torture.moody_site import Mood, MoodySite

Disturb = Callable[["Scene"], None]

_SITE = ["crawl", "links", "download"]
_RESUMING = ["crawl", "links", "download", "detect", "train", "generate"]
_TRACKED = ["train", "evaluate"]


class Scene:
    """A line, the stage to disturb, the site, chance, and how long the stage takes undisturbed."""

    def __init__(
        self, line: Line, stage: str, site: MoodySite, chance: random.Random, seconds: float
    ) -> None:
        self.line, self.stage, self.site = line, stage, site
        self.chance, self.seconds = chance, seconds

    def moment(self) -> float:
        """Seconds into the stage, at random."""
        return self.chance.uniform(0, self.seconds)


def _signal(number: int, to: str) -> Disturb:
    def disturb(scene: Scene) -> None:
        command = scene.line.start("repro", scene.stage)
        stage = command.stage(scene.stage)
        if stage and number != signal.SIGKILL:
            _wait_for_handlers(stage)
        time.sleep(scene.moment())
        if to == "group":
            command.send(number)
        else:
            target = command.process.pid if to == "dvc" else stage.pid if stage else None
            with contextlib.suppress(ProcessLookupError):
                if target is not None and command.process.poll() is None:
                    os.kill(target, number)
        ended = command.wait()
        if number == signal.SIGTERM:  # a Ctrl-C ends dvc, too, whatever its stage still says
            assert ended.code == 0 or "Progress is saved" in ended.said, ended.said

    return disturb


def _wait_for_handlers(stage: psutil.Process) -> None:
    """Python itself takes a moment to start, in which no code of ours can answer a signal."""
    bit = 1 << (signal.SIGTERM - 1)
    status = Path(f"/proc/{stage.pid}/status")
    with contextlib.suppress(OSError):
        while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) & bit:
            time.sleep(0.005)


def _full_disk(scene: Scene) -> None:
    """Needs a file system of its own under the line, which is then as full as it gets."""
    free = scene.chance.choice([0, 0, 4096, 100_000])
    filler = scene.line.path / ".filler"
    block = b"\0" * 65536
    with filler.open("wb", buffering=0) as handle, contextlib.suppress(OSError):
        while True:
            handle.write(block)
    with filler.open("rb+") as handle:
        handle.truncate(max(0, filler.stat().st_size - free))
    scene.line.start("repro", scene.stage).wait()
    filler.unlink()


def _read_only(scene: Scene) -> None:
    folder = scene.line.path / scene.chance.choice(["data", "metrics"])
    folder.mkdir(exist_ok=True)
    with read_only(folder):
        scene.line.start("repro", scene.stage).wait()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing in this folder can be written meanwhile, not even by root."""
    if os.geteuid():
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _damaged_out(damage: Callable[[Path, random.Random], None]) -> Disturb:
    def disturb(scene: Scene) -> None:
        scene.line.repro(scene.stage)
        out = scene.line.path / scene.chance.choice(OUTS[scene.stage])
        inside = sorted(path for path in out.rglob("*") if path.is_file())
        damage(scene.chance.choice(inside) if inside else out, scene.chance)

    return disturb


def _truncate(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    _replace(path, content[: chance.randrange(len(content) + 1)])


def _flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    _replace(path, bytes(content))


def _replace(path: Path, content: bytes) -> None:
    """A new file under the name: an out may be a hard link of DVC's cache, which is not meant."""
    path.unlink()
    path.write_bytes(content)


def _delete(path: Path, _: random.Random) -> None:
    path.unlink()


def _damaged_state(scene: Scene) -> None:
    """Killed half-way, and what it had written for the next run is cut short."""
    command = scene.line.start("repro", scene.stage)
    command.stage(scene.stage)
    time.sleep(scene.moment())
    command.send(signal.SIGKILL)
    command.wait()
    for folder in (".resume", ".cache"):
        state = (scene.line.path / folder).rglob("*")
        for path in sorted(p for p in state if p.is_file() and p.suffix != ".lock"):
            if scene.chance.random() < 0.5:
                _truncate(path, scene.chance)


def _locked_store(scene: Scene) -> None:
    command = scene.line.start("repro", scene.stage)
    command.stage(scene.stage)
    time.sleep(scene.moment())
    database = scene.line.path / "mlflow.db"
    with contextlib.suppress(sqlite3.OperationalError):  # the stage itself holds it just now
        connection = sqlite3.connect(database, timeout=1)
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(3)
        connection.rollback()
        connection.close()
    command.wait()


def _missing_store(scene: Scene) -> None:
    for path in scene.line.path.glob("mlflow.db*"):
        path.unlink()
    scene.line.start("repro", scene.stage).wait()


def _corrupt_store(scene: Scene) -> None:
    database = scene.line.path / "mlflow.db"
    database.write_bytes(scene.chance.randbytes(50_000))
    scene.line.start("repro", scene.stage).wait()
    database.rename(database.with_suffix(".damaged"))  # as the stage's warning says


def _two_at_once(scene: Scene) -> None:
    first = scene.line.start("repro", scene.stage)
    time.sleep(scene.chance.uniform(0, 1))
    second = scene.line.start("repro", scene.stage)
    assert 0 in (first.wait().code, second.wait().code)


def _site(mood: Mood) -> Disturb:
    def disturb(scene: Scene) -> None:
        command = scene.line.start("repro", scene.stage)
        command.stage(scene.stage)
        time.sleep(scene.chance.uniform(0, scene.seconds / 2))
        scene.site.mood = mood
        time.sleep(scene.chance.uniform(2, 6))
        scene.site.mood = "well"
        command.wait()
        if scene.stage == "download":  # what a host refused is in the ledger, and asked for again
            scene.line.update()

    return disturb


KINDS: dict[str, tuple[Disturb, list[str]]] = {
    "SIGKILL to the stage": (_signal(signal.SIGKILL, "stage"), STAGES),
    "SIGKILL to dvc": (_signal(signal.SIGKILL, "dvc"), STAGES),
    "SIGKILL to all": (_signal(signal.SIGKILL, "group"), STAGES),
    "SIGINT to all": (_signal(signal.SIGINT, "group"), STAGES),
    "SIGTERM to the stage": (_signal(signal.SIGTERM, "stage"), STAGES),
    "full disk": (_full_disk, STAGES),
    "read-only folder": (_read_only, STAGES),
    "out truncated": (_damaged_out(_truncate), STAGES),
    "out flipped": (_damaged_out(_flip), STAGES),
    "out deleted": (_damaged_out(_delete), STAGES),
    "state truncated": (_damaged_state, _RESUMING),
    "store locked": (_locked_store, _TRACKED),
    "store missing": (_missing_store, ["evaluate"]),
    "store corrupt": (_corrupt_store, _TRACKED),
    "two at once": (_two_at_once, STAGES),
    "site down": (_site("down"), _SITE),
    "site slow": (_site("slow"), _SITE),
    "site busy": (_site("busy"), _SITE),
}


def can_fill_a_disk() -> bool:
    """Whether this user may mount a small file system to fill."""
    return os.name == "posix" and not os.geteuid() and shutil.which("mount") is not None


@contextmanager
def small_disk(place: Path, mib: int) -> Iterator[Path]:
    """A file system of `mib` MiB at `place`, where this user may mount one; else a folder."""
    place.mkdir(parents=True)
    if not can_fill_a_disk():
        yield place
        return
    size = f"size={mib}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
