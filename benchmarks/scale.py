"""Thousands of images through download … curate as dvc runs them: what it costs, and what grows.

    PYTHONPATH=src python benchmarks/scale.py --images 10000 30000 60000
    PYTHONPATH=src python benchmarks/scale.py --images 2000 --engine threads ray
    PYTHONPATH=src python benchmarks/scale.py --hashes

It has no peer: it finds a stage that grows faster than its input. Every size starts in a clone of
what is committed, with the images in data/inbox, ten to a folder, as ten to an article. They are
small (224 px) portraits of 300 drawn persons, each under coloured light of its own, so that no two
are copies. CPU seconds are of all processes that dvc started, as seen every quarter of a second.
Of two engines it prints how long the second one takes relative to the first, start included, and
whether both write the same bytes. --hashes is the search for copies alone.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from pttfaces import repository
from pttfaces.curation.duplicates import similar_pairs
from pttfaces.demo import drawing
from pttfaces.faces.parallel import ENGINE, ordered_map

PROJECT = Path(__file__).resolve().parents[1]
# Download runs the stages before it, too, which have nothing to do.
STAGES = {name: ["repro", "--single-item", name] for name in ("detect", "crop", "curate")}
COMMANDS = {"download": ["repro", "download"], **STAGES, "dvc status": ["status"]}
PERSONS, DRAWN, SIDE, IMAGES_A_FOLDER = 300, 288, 224, 10
LIGHTS, LIGHT = 16, 0.3  # per side, and how much of a pixel is light
COPY_BITS = 48  # as in the presets for photographs


@dataclass(frozen=True)
class Cost:
    """Of one command. cpu_s: of all its processes; peak_mib: of the largest one."""

    seconds: float
    cpu_s: float
    peak_mib: float


def draw_images(folder: Path, count: int) -> list[Path]:
    """`count` JPEG files."""
    portraits = []
    for seed in range(PERSONS):
        rng = np.random.default_rng(seed)
        person = drawing.Person.random(rng)
        portraits.append(drawing.portrait(person, rng, (DRAWN, DRAWN)).image)

    def encode(number: int) -> bytes:
        rng = np.random.default_rng([PERSONS, number])
        lights = Image.fromarray(rng.integers(0, 256, (LIGHTS, LIGHTS, 3), np.uint8))
        lights = lights.resize((DRAWN, DRAWN), Image.Resampling.BICUBIC)
        image = Image.blend(portraits[number % PERSONS], lights, LIGHT)
        left, top = (int(n) for n in rng.integers(0, DRAWN - SIDE, 2))
        buffer = io.BytesIO()
        image.crop((left, top, left + SIDE, top + SIDE)).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    paths = []
    for number, content in ordered_map(encode, range(count)):
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(content)
    return paths


def make_project(project: Path, images: list[Path]) -> None:
    """A clone of what is committed, with the demo's parameters and the images in data/inbox."""
    subprocess.run(["git", "clone", "--quiet", PROJECT, project], check=True)
    text = (project / "presets/demo.yaml").read_text(encoding="utf-8")
    assert "source: demo" in text
    (project / "params.yaml").write_text(text.replace("source: demo", "source: inbox"))
    subprocess.run([sys.executable, "src/inputs.py"], cwd=project, check=True, stdout=sys.stderr)
    for number, image in enumerate(images):
        path = project / f"data/inbox/{number // IMAGES_A_FOLDER:06d}/{image.name}"
        path.parent.mkdir(exist_ok=True)
        path.hardlink_to(image)


def run(project: Path, words: list[str], engine: str) -> Cost:
    """Runs a command of dvc."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        ENGINE: engine,
    }
    started, log = time.monotonic(), project.with_suffix(".log")
    cpu_s: dict[psutil.Process, float] = {}
    peak = 0
    with log.open("w") as handle:
        dvc = psutil.Popen(
            ["dvc", *words], cwd=project, env=environment, stdout=handle, stderr=handle
        )
        while dvc.poll() is None:
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                for process in [psutil.Process(dvc.pid), *dvc.children(recursive=True)]:
                    times = process.cpu_times()
                    cpu_s[process] = times.user + times.system
                    peak = max(peak, process.memory_info().rss)
            time.sleep(0.25)
    if dvc.returncode:
        sys.exit(log.read_text(encoding="utf-8"))
    return Cost(time.monotonic() - started, sum(cpu_s.values()), peak / 2**20)


def measure(project: Path, images: list[Path], engine: str) -> dict[str, Cost]:
    """What each command costs, printed as rows of a table."""
    make_project(project, images)
    costs = {}
    for name, words in COMMANDS.items():
        cost = costs[name] = run(project, words, engine)
        print(
            f"| {len(images):,} | {engine} | {name} | {cost.seconds:.0f} | {cost.cpu_s:.0f} "
            f"| {1000 * cost.cpu_s / len(images):.1f} | {cost.peak_mib:.0f} |",
            flush=True,
        )
    return costs


def outputs(project: Path) -> dict[str, str]:
    """The digests that dvc has of the tables and crops of detect and crop."""
    entries = repository.lock_entries((project / "dvc.lock").read_text(encoding="utf-8"))
    outs = [repository.digests(entries[stage], "outs") for stage in ("detect", "crop")]
    return {path: md5 for each in outs for path, md5 in each.items() if path.startswith("data/")}


def measure_sizes(counts: list[int], engines: list[str], scratch: Path) -> None:
    """Prints each size's costs, the ratio of two engines, and what a further image costs."""
    print(f"drawing {max(counts)} images ...", file=sys.stderr)
    (drawn := scratch / "drawn").mkdir()
    images = draw_images(drawn, max(counts))
    print_head("images", "engine", "stage", "seconds", "CPU s", "CPU ms per image", "peak MiB")
    found: dict[str, list[dict[str, Cost]]] = {engine: [] for engine in engines}
    same: list[str] = []
    for count in counts:
        written = []
        for engine in engines:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                project = Path(folder) / "project"
                found[engine].append(measure(project, images[:count], engine))
                written.append(outputs(project))
        first, last = found[engines[0]][-1], found[engines[-1]][-1]
        ratios = ", ".join(
            f"{s} {last[s].seconds / first[s].seconds:.2f}" for s in ("detect", "crop")
        )
        is_same = "the same bytes" if written[0] == written[-1] else "DIFFERENT BYTES"
        same.append(f"{count:,} images, {engines[-1]} over {engines[0]}: {ratios}; {is_same}")
    if len(engines) > 1:
        print("\n" + "\n".join(same))
    if len(counts) > 1:
        print("\nWhat a further image costs: CPU ms, and KiB of the largest process\n")
        steps = list(pairwise(counts))
        print_head("engine", "stage", *(f"{low:,} to {high:,}" for low, high in steps))
        for engine, sizes in found.items():
            for name in COMMANDS:
                pairs = pairwise(size[name] for size in sizes)
                cells = [
                    f"{1000 * (after.cpu_s - before.cpu_s) / (high - low):.1f} ms, "
                    f"{1024 * (after.peak_mib - before.peak_mib) / (high - low):.1f} KiB"
                    for (before, after), (low, high) in zip(pairs, steps, strict=True)
                ]
                print(f"| {engine} | {name} | {' | '.join(cells)} |")


def print_head(*columns: str) -> None:
    print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|", flush=True)


def search_for_copies() -> None:
    """The search for copies among random hashes of 256 bits, beside comparing all with all.

    Each is planted once at the limit and once a bit beyond it. The peer counts bits by numpy in
    blocks, on one core, and is left out where it would take minutes.
    """
    rng, none = np.random.default_rng(0), np.zeros((1, 4), np.uint64)
    print_head("hashes", "all pairs, CPU s", "ours, CPU s", "seconds", "MiB")
    for count in (6750, 54000, 200_000, 1_000_000):
        hashes = rng.integers(0, 2**64, (count, 4), np.uint64)
        for index, bits in ((1, COPY_BITS), (3, COPY_BITS + 1)):
            changed = np.zeros(256, np.uint8)
            changed[rng.choice(256, bits, replace=False)] = 1
            hashes[index] = hashes[index - 1] ^ np.packbits(changed).view(np.uint64)
        peer = "–"
        if count <= 54000:
            began = time.process_time()
            found = compare_all(hashes)
            peer = f"{time.process_time() - began:.1f}"
            assert found == [(0, 1)]
        began, wall = time.process_time(), time.monotonic()
        pairs = similar_pairs(hashes, COPY_BITS, none)
        own, wall = time.process_time() - began, time.monotonic() - wall
        assert pairs.tolist() == [[0, 1]]
        mib = psutil.Process().memory_info().rss / 2**20
        print(f"| {count:,} | {peer} | {own:.1f} | {wall:.1f} | {mib:.0f} |", flush=True)


def compare_all(hashes: np.ndarray) -> list[tuple[int, int]]:
    """Every two hashes (N, 4) that differ in at most COPY_BITS bits."""
    words, found = np.ascontiguousarray(hashes.T), []
    for second in range(1, len(hashes)):
        differing = sum(np.bitwise_count(word[:second] ^ word[second]) for word in words)
        found += [(int(first), second) for first in np.flatnonzero(differing <= COPY_BITS)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 3000], metavar="COUNT")
    parser.add_argument("--engine", nargs="+", default=["threads"], choices=["threads", "ray"])
    parser.add_argument("--hashes", action="store_true", help="only the search for copies")
    options = parser.parse_args()
    if options.hashes:
        search_for_copies()
        return
    with tempfile.TemporaryDirectory() as scratch:
        measure_sizes(sorted(options.images), options.engine, Path(scratch))


if __name__ == "__main__":
    main()
