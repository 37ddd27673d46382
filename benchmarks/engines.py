"""Detection and cropping on a Ray cluster of this machine against threads, in turn in one run.

    PYTHONPATH=src python benchmarks/engines.py --images 1000 10000

Each image is another file: one of 40 drawn portraits with a comment. Both engines have as many
workers as the machine has cores; each run is a process of its own with an empty cache. Ray's start
is shown by itself, since a cluster is there already. The bound: the same bytes; the ratio says what
Ray costs where it is not needed. Memory is the largest of the stage's own process.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pttfaces import config, files
from pttfaces.demo import drawing
from pttfaces.faces import alignment, detection
from pttfaces.faces.detectors import make_detector
from pttfaces.faces.parallel import ENGINE, connect_engine
from pttfaces.tables import LedgerRow

HERE = Path(__file__).resolve()
PRESET = HERE.parents[1] / "presets/demo.yaml"
PORTRAITS, SIZE = 40, (320, 384)


def draw_images(folder: Path, count: int) -> None:
    """`count` JPEG files named after their digests."""
    portraits = []
    for seed in range(PORTRAITS):
        rng = np.random.default_rng(seed)
        drawn = drawing.portrait(drawing.Person.random(rng), rng, SIZE)
        path = folder / "portrait.jpg"
        drawn.image.save(path, quality=90)
        portraits.append(path.read_bytes())
        path.unlink()
    for number in range(count):
        content = portraits[number % PORTRAITS]
        content = content[:2] + b"\xff\xfe\x00\x0a%08d" % number + content[2:]  # a comment
        (folder / f"{files.digest_bytes(content)}.jpg").write_bytes(content)


def run_stages(folder: Path, work: Path) -> dict[str, float | str]:
    """Detects and crops all images of a folder; returns seconds, memory and a digest."""
    params = config.load(PRESET)
    rows = [
        LedgerRow(**{**dict.fromkeys(LedgerRow.__slots__, ""), "sha256": p.stem, "path": p.name})  # type: ignore[arg-type]
        for p in sorted(folder.iterdir())
    ]
    detector = make_detector(params.detect)
    cache = detection.DetectionCache(work / "cache", detector)
    cropper, target = alignment.FaceCropper(params.crop), files.clean_folder(work / "crops")
    started = time.perf_counter()
    with connect_engine() as engine:
        connected = time.perf_counter()
        faces = [
            row
            for image, found in detection.search_all(rows, folder, cache, engine)
            for row in detection.table_rows(image.path, found, detector)
        ]
        detected = time.perf_counter()
        by_image = detection.faces_by_image(faces)
        crops = list(alignment.crop_all(by_image, folder, target, cropper, engine))
        cropped = time.perf_counter()
    digest = files.digest_json([repr(faces), repr(crops), files.digest_tree(target)])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "start": connected - started,
        "detect": detected - connected,
        "crop": cropped - detected,
        "MB": memory * (1 if sys.platform == "darwin" else 1024) / 1e6,
        "digest": digest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1000])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--part", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(run_stages(*options.part)))
        return
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            (raw := Path(folder) / "raw").mkdir()
            draw_images(raw, count)
            for round_number in range(options.rounds):
                found = {}
                for engine in ("threads", "ray"):
                    work = Path(folder) / f"{engine}-{round_number}"
                    command = [sys.executable, str(HERE), "--part", str(raw), str(work)]
                    output = subprocess.run(
                        command,
                        env={**os.environ, ENGINE: engine, "DVC_ROOT": folder},
                        stdout=subprocess.PIPE,
                        check=True,
                        text=True,
                    ).stdout
                    found[engine] = json.loads(output.splitlines()[-1])
                    figures = ", ".join(
                        f"{key} {found[engine][key]:.1f}{'' if key == 'MB' else ' s'}"
                        for key in ("start", "detect", "crop", "MB")
                    )
                    print(f"{count} images, {engine:8}: {figures}", flush=True)
                ratios = ", ".join(
                    f"{key} {found['ray'][key] / found['threads'][key]:.2f}"
                    for key in ("detect", "crop")
                )
                same = found["ray"]["digest"] == found["threads"]["digest"]
                print(f"  ray over threads: {ratios}; {'the same bytes' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
