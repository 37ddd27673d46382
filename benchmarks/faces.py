"""Our detect, crop and curate against face-crop-plus run twice, as the original did, in one run.

    PYTHONPATH=src python benchmarks/faces.py
    PYTHONPATH=src python benchmarks/faces.py --yunet face_detection_yunet_2023mar.onnx \\
        --photographs one.jpg two.jpg
    PYTHONPATH=src python benchmarks/faces.py --only turned --only colours \\
        --yunet face_detection_yunet_2023mar.onnx --portraits FOLDER

face-crop-plus detects and crops at 256 px, blurred crops are dropped, and it detects and crops once
more at 64 px. Both sides search with the same RetinaFace. Its weights are no part of this project,
so the network runs with random ones, for the time, and both sides get the true landmarks, for the
result; its calls are counted.

Bounds: at least 1.7 times faster with the same detector (2 is the limit, half of the calls), at
least 20 times with YuNet; curate on 20,000 crops with another blur_threshold within 60 s; no more
memory for four times the images.

With a folder of portraits: `turned` turns them by 0 to 180° with and without detect.turns. The true
roll is that of the upright portrait plus the turn. Bounds, for YuNet: at least 11 of 12 within 10°
at every angle, a median within 2°, upright portraits in 1.15 times the time. `colours` stores them
in other colour spaces: the mean error in levels with the profile applied (bound: 3) and ignored.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from face_crop_plus import Cropper
from face_crop_plus.models.retinaface import RetinaFace
from PIL import Image
from ruamel.yaml import YAML

import crop
import curate
import detect
from pttfaces import config, files, images, tables
from pttfaces.curation import image_export
from pttfaces.demo import drawing
from pttfaces.faces.alignment import FaceCropper
from pttfaces.faces.detection import select_faces
from pttfaces.faces.detectors import Detector, Face, make_detector
from pttfaces.faces.detectors.base import angle_between
from pttfaces.faces.detectors.retinaface import RetinaFaceDetector
from pttfaces.tables import Article, CropRow, LedgerRow

PROJECT = Path(__file__).resolve().parents[1]
sys.path.append(str(PROJECT / "tests/support"))

import icc  # noqa: E402

DEMO = config.load(PROJECT / "presets/demo.yaml")
SIDE, BLUR = 1024, 100


@dataclass(frozen=True)
class Known:
    """An image whose landmarks (5, 2) are known, in its own pixels."""

    name: str
    content: bytes
    pixels: np.ndarray
    landmarks: np.ndarray


def options(detector: str, weights: str | None = None) -> config.Detect:
    return DEMO.detect.model_copy(update={"detector": detector, "weights": weights})


def cropper(side: int) -> FaceCropper:
    return FaceCropper(DEMO.crop.model_copy(update={"size": side}))


def drawn(count: int, side: int = SIDE) -> list[Known]:
    found = []
    for seed in range(count):
        rng = np.random.default_rng([11, seed])
        portrait = drawing.portrait(drawing.Person.random(rng), rng, (side, side))
        pixels = np.asarray(portrait.image.convert("RGB"))
        content = images.png_bytes(Image.fromarray(pixels))
        found.append(Known(f"drawn{seed}.png", content, pixels, portrait.landmarks[0]))
    return found


def photographs(paths: Sequence[str], detector: Detector) -> list[Known]:
    found = []
    for path in map(Path, paths):
        pixels = images.decode(path.read_bytes())
        faces = detector.detect(pixels)
        if faces:
            found.append(Known(path.name, path.read_bytes(), pixels, faces[0].landmarks))
    return found


@dataclass(frozen=True, order=True)
class Took:
    """Seconds on the clock, and of all cores together: on a busy machine the two differ."""

    clock: float
    cores: float

    def __str__(self) -> str:
        return f"{self.clock:.2f} ({self.cores:.2f})"


def took(work: Callable[[], Any]) -> Took:
    clock, cores = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - clock, time.process_time() - cores)


def ratio(peer: Took, own: Took) -> str:
    return f"{peer.clock / own.clock:.2f} ({peer.cores / own.cores:.2f})"


# --- our side: the stages themselves, in a folder as download leaves it


@contextmanager
def workspace(contents: Iterable[bytes], **changes: Any) -> Iterator[Path]:
    """A working folder with images, each in an article of its own; changes: dotted parameters, with
    __ for the dot."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.chdir(root)
        try:
            rows = []
            for number, content in enumerate(contents):
                row = ledger_row(number, files.digest_bytes(content), f"M.{number}")
                files.write_bytes(root / "data/raw" / row.path, content)
                rows.append(row)
            write_tables(rows)
            set_params(PROJECT / "presets/demo.yaml", changes)
            yield root
        finally:
            os.chdir(before)


def ledger_row(number: int, sha256: str, article: str) -> LedgerRow:
    url = f"https://i.example/{number}"
    return LedgerRow(
        article=article,
        position=0,
        place="body",
        url=url,
        status="ok",
        error="",
        attempts=1,
        http_status=200,
        final_url=url,
        bytes=None,
        sha256=sha256,
        format="PNG",
        width=None,
        height=None,
        path=f"{sha256[:2]}/{sha256}.png",
    )


def write_tables(rows: Sequence[LedgerRow]) -> None:
    tables.write("data/ledger.csv", rows, LedgerRow)
    names = dict.fromkeys(row.article for row in rows)
    articles = (Article(name, "", "", f"by{name}", "2024-01-01", 0) for name in names)
    tables.write_jsonl("data/articles.jsonl", articles)


def set_params(preset: Path, changes: dict[str, Any]) -> None:
    yaml = YAML()
    values = yaml.load(preset.read_text("utf-8"))
    for key, value in changes.items():
        *groups, last = key.split("__")
        target = values
        for group in groups:
            target = target[group]
        target[last] = value
    with Path("params.yaml").open("w", encoding="utf-8") as handle:
        yaml.dump(values, handle)


class KnownFaces(RetinaFaceDetector):
    """RetinaFace for its time; it returns the known face of each image."""

    def __init__(self, path: Path, known: Sequence[Known]) -> None:
        limits = {"threshold": 0.6, "min_size": 8, "max_side": SIDE}
        super().__init__(DEMO.detect.model_copy(update=limits), path)
        self._known = {files.digest_bytes(image.pixels.tobytes()): image for image in known}
        self.calls = 0

    def look_many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        super().look_many(images)
        self.calls += len(images)
        given = [self._known[files.digest_bytes(image.tobytes())] for image in images]
        return [[face_at(image.landmarks)] for image in given]


def face_at(landmarks: np.ndarray) -> Face:
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    left, top, width, height = (float(value) for value in (*low, *(high - low)))
    return Face(0.9, (left, top, width, height), landmarks.astype(np.float32), 2)


def our_stages(detector: Detector) -> None:
    with redirect_stdout(sys.stderr):
        with patch.object(detect, "make_detector", lambda _: detector):
            detect.main()
        crop.main()
        curate.main()


# --- the peer: face-crop-plus, twice


class Original:
    """face-crop-plus over folders: 256 px, blurred crops dropped, 64 px."""

    def __init__(self, weights: dict[str, torch.Tensor], known: Sequence[Known]) -> None:
        self._weights = weights
        self._landmarks = {image.name: image.landmarks for image in known}
        self._sizes = {image.name: image.pixels.shape[:2] for image in known}
        self.calls = 0

    def run(self, folder: Path) -> Path:
        first, second = folder.with_name("crops256"), folder.with_name("crops64")
        self._pass(folder, first, 256)
        for path in first.iterdir():
            grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            if cv2.Laplacian(grey, cv2.CV_64F).var() < BLUR:
                path.unlink()
        self._pass(first, second, 64)
        return second

    def _pass(self, source: Path, target: Path, size: int) -> None:
        waiting = [self._in_batch(path.name) for path in source.iterdir()]
        predict = RetinaFace.predict

        def load(network: RetinaFace, device: object = "cpu") -> RetinaFace:
            network.load_state_dict(self._weights)
            return network.eval()

        def predict_known(
            network: RetinaFace, images: torch.Tensor
        ) -> tuple[np.ndarray, list[int]]:
            predict(network, images)
            self.calls += len(images)
            mine = [waiting.pop(0) for _ in images]
            return np.stack(mine).astype(np.float32), list(range(len(mine)))

        with (
            patch.object(RetinaFace, "load", load),
            patch.object(RetinaFace, "predict", predict_known),
        ):
            cropper = Cropper(output_size=size)
            cropper.process_dir(str(source), str(target), desc=None)
        for name in [path.name for path in source.iterdir()]:
            self._landmarks[name] = self._on_crop(name, cropper.landmarks_target)
            self._sizes[name] = (size, size)

    def _in_batch(self, name: str) -> np.ndarray:
        """Landmarks where face-crop-plus has them: the image fitted into 1024 px, padded."""
        height, width = self._sizes[name]
        factor = min(SIDE / width, SIDE / height)
        pad = (SIDE - int(width * factor)) // 2, (SIDE - int(height * factor)) // 2
        return self._landmarks[name] * factor + pad

    def _on_crop(self, name: str, target: np.ndarray) -> np.ndarray:
        source = self._landmarks[name].astype(np.float32)
        matrix = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=np.inf)[0]
        return source @ matrix[:, :2].T + matrix[:, 2]


def sparse_weights() -> dict[str, torch.Tensor]:
    """Random weights of RetinaFace, biased so that it finds almost no face: a trained network has
    few boxes to sort, too."""
    torch.manual_seed(0)
    network = RetinaFace()
    for head in network.ClassHead:
        torch.nn.init.constant_(head.conv1x1.weight, 0)
        head.conv1x1.bias.data = torch.tensor([4.0, -4.0] * (len(head.conv1x1.bias) // 2))
    return network.state_dict()


def against_the_original(known: Sequence[Known], yunet: str | None, turns: int) -> None:
    print(f"\n## The whole of detect, crop, curate: {len(known)} images, {cores()}\n")
    weights = sparse_weights()
    peer, own, small = [], [], []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "retinaface.pth"
        torch.save(weights, path)
        contents = [image.content for image in known]
        for turn in range(turns):
            folder = Path(name) / f"turn{turn}" / "in"
            for image in known:
                files.write_bytes(folder / image.name, image.content)
            original, detector = Original(weights, known), KnownFaces(path, known)
            peer.append(took(lambda: original.run(folder)))  # noqa: B023
            with workspace(contents, detect__detector="retinaface"):
                own.append(took(lambda: our_stages(detector)))  # noqa: B023
            if yunet:
                with workspace(contents, detect__detector="yunet", detect__weights=yunet):
                    small.append(took(lambda: our_stages(make_detector(options("yunet", yunet)))))
    print("| | detector calls | s (of all cores) | times faster (by all cores) |")
    print("| --- | --- | --- | --- |")
    print(f"| face-crop-plus twice, RetinaFace | {original.calls} | {min(peer)} | 1 |")
    faster = ratio(min(peer), min(own))
    print(f"| ours, the same RetinaFace | {detector.calls} | {min(own)} | {faster} |")
    if yunet:
        faster = ratio(min(peer), min(small))
        print(f"| ours, YuNet | {len(known)} | {min(small)} | {faster} |")
    print(f"\n(the best of {turns} turns each; random weights, known landmarks)")


# --- from 256 to 64 px


def psnr(left: np.ndarray, right: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((left.astype(float) - right) ** 2)))


def downscales(known: Sequence[Known], detector: Detector) -> None:
    """Ways from the 256 px crop to 64 px, against the original image: its pixels averaged over what
    each of the 64×64 covers; and what is left when enlarged again."""
    print(f"\n## From 256 to 64 px: {len(known)} images, detected again by {detector.name}\n")
    large, finest, direct = (cropper(side) for side in (256, 1024, 64))
    ways = {
        "area": lambda pixels: cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA),
        "Lanczos (ours)": lambda pixels: image_export.downscale(Image.fromarray(pixels), 64),
        "bilinear, not antialiased": lambda pixels: cv2.resize(pixels, (64, 64)),
    }
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for image in known:
        first, truth = (c.crop(image.pixels, image.landmarks) for c in (large, finest))
        if first is None or truth is None:
            continue
        covered = truth.pixels.reshape(64, 16, 64, 16, 3).mean(axis=(1, 3))
        made = {name: (way(first.pixels), 0.0) for name, way in ways.items()}
        again = detector.detect(first.pixels)
        if again:
            second = direct.crop(first.pixels, again[0].landmarks)
            if second is not None:
                on_crop = moved(image.landmarks, image.landmarks, 256)
                shift = moved(on_crop, again[0].landmarks, 64) - on_crop / 4
                made["detected and cropped again"] = (
                    second.pixels,
                    float(np.linalg.norm(shift, axis=1).mean()),
                )
        for name, (pixels, shift_px) in made.items():
            enlarged = cv2.resize(pixels, (256, 256), interpolation=cv2.INTER_CUBIC)
            kept = psnr(enlarged, first.pixels)
            rows.setdefault(name, []).append((psnr(pixels, covered), kept, shift_px))
    print("| way | PSNR to the image, dB | PSNR enlarged again, dB | landmarks shift, px of 64 |")
    print("| --- | --- | --- | --- |")
    for name, figures in rows.items():
        near, kept, shift_px = np.mean(figures, axis=0)
        print(f"| {name} ({len(figures)}) | {near:.2f} | {kept:.2f} | {shift_px:.2f} |")


def moved(points: np.ndarray, landmarks: np.ndarray, side: int) -> np.ndarray:
    """Where alignment by `landmarks` at `side` px brings points (N, 2) of the same image."""
    target = cropper(side)._cropper.landmarks_target
    source = landmarks.astype(np.float32)
    matrix = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=np.inf)[0]
    return points @ matrix[:, :2].T + matrix[:, 2]


# --- turned people


def turned_people(paths: Sequence[Path], name: str, yunet: str | None) -> None:
    print(f"\n## Turned people: {len(paths)} portraits, {name}, {cores()}\n")
    limits = {"min_size": 16, "detector": name, "weights": yunet if name == "yunet" else None}
    off, on = (
        make_detector(DEMO.detect.model_copy(update={**limits, "turns": turns}))
        for turns in (False, True)
    )
    upright = {path: images.decode(path.read_bytes()) for path in paths}
    truth = {path: face.roll for path, pixels in upright.items() if (face := best(on, pixels))}
    print(f"{len(truth)} upright portraits have a face\n")
    print("| turned by | within 10°, without turns | within 10° | no face | tilt: median | 90% |")
    print("| --- | --- | --- | --- | --- | --- |")
    for degrees in range(0, 181, 15):
        tilts: list[list[float]] = [[], []]
        for path, roll in truth.items():
            pixels = turned(upright[path], degrees)
            for detector, found in zip((off, on), tilts, strict=True):
                if face := best(detector, pixels):
                    found.append(abs(angle_between(face.roll, roll + degrees)))
        before, after = (np.array(found) for found in tilts)
        shares = (f"{(found < 10).sum()} of {len(truth)}" for found in (before, after))
        spread = (f"{np.quantile(after, share):.1f}°" if len(after) else "" for share in (0.5, 0.9))
        cells = (f"{degrees}°", *shares, str(len(truth) - len(after)), *spread)
        print(f"| {' | '.join(cells)} |", flush=True)
    seconds = dict.fromkeys((off, on), 0.0)
    for number, path in enumerate(paths):
        content = path.read_bytes()
        for detector in (off, on) if number % 2 else (on, off):
            work = lambda: detector.search(images.decode(content))  # noqa: B023, E731
            seconds[detector] += took(work).cores
    per_image = ", ".join(f"{1000 * total / len(paths):.0f} ms" for total in seconds.values())
    print(f"\nupright, without and with turns, of all cores: {per_image}: ", end="")
    print(f"{seconds[on] / seconds[off]:.2f} times")


def best(detector: Detector, pixels: np.ndarray) -> Face | None:
    faces = select_faces(detector.detect(pixels), "largest")
    return faces[0][1] if faces else None


def turned(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """The image turned clockwise in a square that holds all of it."""
    height, width = pixels.shape[:2]
    side = int(np.hypot(height, width)) + 2
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1)
    matrix[:, 2] += ((side - width) / 2, (side - height) / 2)
    return cv2.warpAffine(pixels, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)


# --- colours


def colours(paths: Sequence[Path]) -> None:
    print(f"\n## Colour profiles: {len(paths)} portraits as JPEG of quality 95\n")
    print("| stored as | profile applied | profile ignored |\n| --- | --- | --- |")
    spaces = {
        "Display P3": icc.DISPLAY_P3,
        "Adobe RGB": icc.ADOBE_RGB,
        "ProPhoto RGB": icc.PROPHOTO,
    }
    for name, space in spaces.items():
        errors = []
        for path in paths:
            rgb = images.decode(path.read_bytes())
            stored = Image.fromarray(icc.convert(rgb, icc.SRGB, space))
            found = [io.BytesIO(), io.BytesIO()]
            stored.save(found[0], "JPEG", quality=95, icc_profile=space.profile())
            stored.save(found[1], "JPEG", quality=95)
            decoded = [images.decode(content.getvalue()).astype(int) for content in found]
            errors.append([np.abs(pixels - rgb).mean() for pixels in decoded])
        applied, ignored = np.mean(errors, axis=0)
        print(f"| {name} | {applied:.2f} | {ignored:.2f} |", flush=True)


# --- curate alone, and memory


def another_threshold(count: int) -> None:
    print(f"\n## Another blur_threshold on {count:,} crops, {cores()}\n")
    rng = np.random.default_rng(5)
    some = []
    for image in drawn(24, 512):
        face = cropper(256).crop(image.pixels, image.landmarks)
        if face is not None:
            some.append(images.png_bytes(Image.fromarray(face.pixels)))
    with workspace([], blur_threshold=150):
        rows, ledger = [], []
        Path("data/crops").mkdir(parents=True)
        for number in range(count):
            digest = files.digest_bytes(str(number).encode())
            link, name = ledger_row(number, digest, f"M.{number // 8}"), f"{digest[:16]}-0.png"
            (Path("data/crops") / name).write_bytes(some[number % len(some)])
            phash, sharpness = rng.bytes(64).hex(), round(float(rng.lognormal(6, 1)), 2)
            face_px = upscale = brightness = yaw = pitch = roll = score = 1.0
            measures = (sharpness, face_px, upscale, brightness, yaw, pitch, roll, score)
            rows.append(CropRow(name, link.path, 0, *measures, phash))
            ledger.append(link)
        tables.write("data/crops.csv", rows, CropRow)
        write_tables(ledger)
        with redirect_stdout(sys.stderr):
            time_taken = took(curate.main)
        kept = files.read_json("metrics/curate.json")["kept"]
    print(f"curate took {time_taken} s (of all cores), kept {kept:,}; no stage before it ran")


def memory(count: int) -> None:
    import resource

    base = drawn(8, 512)

    def contents() -> Iterator[bytes]:
        for number in range(count):
            pixels = base[number % len(base)].pixels.copy()
            pixels[0, 0] = number % 251, number // 251, 7
            yield images.png_bytes(Image.fromarray(pixels))

    with workspace(contents()):
        our_stages(make_detector(options("haar")))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def memories() -> None:
    print("\n## Memory at its peak, detect, crop and curate, haar, images of 512 px\n")
    print("| images | MiB |\n| --- | --- |")
    for count in (60, 240):
        command = [sys.executable, __file__, "--memory", str(count)]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"| {count} | {int(ended.stdout.split()[-1]) / 1024:.0f} |", flush=True)


def cores() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{usable} cores, {torch.get_num_threads()} threads of torch"


PARTS = ("original", "downscale", "threshold", "memory", "turned", "colours")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--yunet", help="file of YuNet's weights")
    parser.add_argument("--photographs", nargs="*", default=[], help="files of real images")
    parser.add_argument(
        "--portraits", type=Path, help="folder of portraits, for turned and colours"
    )
    parser.add_argument("--count", type=int, default=24, help="portraits, evenly spread")
    parser.add_argument("--images", type=int, default=6, help="drawn images")
    parser.add_argument("--turns", type=int, default=2, help="of both sides, alternating")
    parser.add_argument("--crops", type=int, default=20_000, help="crops for curate alone")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part only")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)  # a process of its own
    given = parser.parse_args()
    if given.memory:
        memory(given.memory)
        return
    parts = given.only or PARTS
    yunet = given.yunet and str(Path(given.yunet).resolve())
    detector = make_detector(options("yunet", yunet) if yunet else options("haar"))
    if {"original", "downscale"} & set(parts):
        known = [*drawn(given.images), *photographs(given.photographs, detector)]
        if "original" in parts:
            against_the_original(known, yunet, given.turns)
        if "downscale" in parts:
            downscales(known, detector)
    if given.portraits:
        paths = sorted(given.portraits.glob("*.jpg"))
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, given.count).round().astype(int)]
        if "turned" in parts:
            turned_people(paths, detector.name, yunet)
        if "colours" in parts:
            colours(paths)
    if "threshold" in parts:
        another_threshold(given.crops)
    if "memory" in parts:
        memories()


if __name__ == "__main__":
    main()
