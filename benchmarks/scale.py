"""A year of a board, crawl … curate: seconds, memory and bytes of DVC's cache for each stage.

    PYTHONPATH=src python benchmarks/scale.py                the year: 5,400 articles
    PYTHONPATH=src python benchmarks/scale.py --share 0.05   a twentieth of it, to see what grows
    PYTHONPATH=src python benchmarks/scale.py --hashes       the search for copies alone

It has no peer: it finds a stage that grows faster than its input. The board is synthetic, with ten
images an article, and this process serves it on loopback and prints its own CPU time separately.
The images are small (224 px), cropped, rotated and tinted from 300 draw portraits, so that no two
have the same bytes. For Linux and macOS.
"""

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from pttfaces.curation.duplicates import similar_pairs
from pttfaces.demo.board import DemoBoard, DemoImage, Post
from pttfaces.demo.encode import draw
from pttfaces.demo.site import HOSTS, serve
from pttfaces.http import LOOPBACK_VARIABLE

PROJECT = Path(__file__).resolve().parents[1]
STAGES = ("crawl", "links", "download", "detect", "crop", "curate")
ARTICLES, IMAGES_AN_ARTICLE, PORTRAITS, SIDE = 5400, 10, 300, 224
RATES = {"rate_per_s: 200": "rate_per_s: 1000", "rate_per_host: 1000": "rate_per_host: 10000"}
COPY_BITS = 48  # as in the presets for photographs
_FIRST, _YEAR = 1704038400, 366 * 86400  # 2024 in Taipei begins here, and lasts


@dataclass(frozen=True)
class Measured:
    """One stage as dvc ran it. cpu_s: of all its processes; peak_mib: of the largest one."""

    stage: str
    seconds: float
    cpu_s: float
    peak_mib: float
    cache_mib: float
    cache_files: int


def synthetic_board(articles: int) -> DemoBoard:
    """A board with that many articles in 2024, evenly spread, and a few before and after."""
    board, number = DemoBoard("Beauty", seed=1), 0
    for index in range(-40, articles + 40):
        seconds = _FIRST + (2 * index + 1) * _YEAR // (2 * articles)
        lines = []
        for _ in range(IMAGES_AN_ARTICLE):
            key = f"i.imgur.test/s{number:06d}"
            board.images[key] = DemoImage(number, "portrait", (number % PORTRAITS,))
            lines.append(f"https://{key}.jpeg")
            number += 1
        name = f"M.{seconds}.A.{index & 0xFFF:03X}"
        post = Post(name, f"[正妹] {index}", f"user{index % 997}", nrec=10, lines=tuple(lines))
        board.posts.append(post)
    return board


class Drawer:
    """Makes an image's file from a pool of portraits."""

    def __init__(self) -> None:
        self._pool = [
            draw(DemoImage(who, "portrait", (who,)), seed=1).resize((288, 288))
            for who in range(PORTRAITS)
        ]

    def __call__(self, image: DemoImage, seed: int) -> bytes:
        """JPEG bytes that depend on the image's number alone."""
        rng = np.random.default_rng([seed, image.number])
        pixels = self._pool[image.number % PORTRAITS]
        pixels = pixels.rotate(float(rng.uniform(-12, 12)), Image.Resampling.BILINEAR)
        left, top = (int(n) for n in rng.integers(8, 288 - SIDE - 8, 2))
        pixels = pixels.crop((left, top, left + SIDE, top + SIDE))
        pixels = ImageOps.mirror(pixels) if rng.random() < 0.5 else pixels
        pixels = ImageEnhance.Brightness(pixels).enhance(float(rng.uniform(0.8, 1.2)))
        buffer = io.BytesIO()
        pixels.save(buffer, "JPEG", quality=int(rng.integers(85, 95)))
        return buffer.getvalue()


def clone(project: Path) -> None:
    """The project as it is committed, with parameters that do not wait for this machine."""
    subprocess.run(["git", "clone", "--quiet", PROJECT, project], check=True)
    text = (project / "presets/demo.yaml").read_text(encoding="utf-8")
    for slow, quick in RATES.items():
        assert slow in text
        text = text.replace(slow, quick)
    (project / "params.yaml").write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "src/inputs.py"], cwd=project, check=True)


def run(project: Path, stage: str, port: int) -> Measured:
    """Runs one stage under dvc."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        LOOPBACK_VARIABLE: ",".join(f"{host}={port}" for host in HOSTS),
        "DVC_NO_ANALYTICS": "1",
    }
    began, log = time.monotonic(), project.with_name("log")
    command = ["dvc", "repro", "--single-item", stage]
    with log.open("w") as handle:
        child = subprocess.Popen(
            command, cwd=project, env=environment, stdout=handle, stderr=handle
        )
        _, status, used = os.wait4(child.pid, 0)  # of the child and all that it waited for
    if status:
        sys.exit(log.read_text(encoding="utf-8"))
    seconds = time.monotonic() - began
    cache = [path for path in (project / ".dvc/cache/files").rglob("*") if path.is_file()]
    return Measured(
        stage,
        seconds,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024),
        sum(path.stat().st_size for path in cache) / 2**20,
        len(cache),
    )


def search_for_copies() -> None:
    """The search for copies among random hashes of 256 bits, beside comparing all with all.

    Each is planted once at the limit and once a bit beyond it. The peer counts bits by numpy in
    blocks, on one core, and is left out where it would take minutes.
    """
    rng, none = np.random.default_rng(0), np.zeros((1, 4), np.uint64)
    print(f"| hashes | all pairs, CPU s | ours, CPU s | seconds | peak MiB |\n{'| --- ' * 5}|")
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
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak_mib = peak / (2**20 if sys.platform == "darwin" else 1024)
        print(f"| {count:,} | {peer} | {own:.1f} | {wall:.1f} | {peak_mib:.0f} |", flush=True)


def compare_all(hashes: np.ndarray) -> list[tuple[int, int]]:
    """Every two hashes (N, 4) that differ in at most COPY_BITS bits."""
    words, found = np.ascontiguousarray(hashes.T), []
    for second in range(1, len(hashes)):
        differing = sum(np.bitwise_count(word[:second] ^ word[second]) for word in words)
        found += [(int(first), second) for first in np.flatnonzero(differing <= COPY_BITS)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures a synthetic year, stage by stage.")
    parser.add_argument("--share", type=float, default=1.0, help="of the year; 1 by default")
    parser.add_argument("--hashes", action="store_true", help="only the search for copies")
    options = parser.parse_args()
    if options.hashes:
        search_for_copies()
        return
    articles = round(ARTICLES * options.share)
    print(f"drawing {PORTRAITS} portraits ...", file=sys.stderr)
    drawer = Drawer()
    board, links = synthetic_board(articles), articles * IMAGES_AN_ARTICLE
    with tempfile.TemporaryDirectory() as scratch, serve([board], draw=drawer) as port:
        project = Path(scratch) / "year"
        clone(project)
        print(f"{articles} articles, {links} links, {os.cpu_count()} cores\n")
        columns = ("stage", "seconds", "CPU seconds", "peak MiB", "DVC's cache MiB", "its files")
        print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
        for stage in STAGES:
            serving = time.process_time()
            found = run(project, stage, port)
            print(
                f"| {stage} | {found.seconds:.0f} | {found.cpu_s:.0f} | {found.peak_mib:.0f} "
                f"| {found.cache_mib:.0f} | {found.cache_files} |",
                flush=True,
            )
            serving = time.process_time() - serving
            if serving > 1:
                print(f"  {stage}: the site took {serving:.0f} s of CPU", file=sys.stderr)
        print("\n" + (project / "metrics/curate.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
