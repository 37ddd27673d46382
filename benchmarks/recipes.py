"""The recipe of the preset best against the seed's, at equal compute, on the demo's drawn faces.

    dvc repro curate
    PYTHONPATH=src python benchmarks/recipes.py --yunet face_detection_yunet_2023mar.onnx

Everything under `train`, `noise_schedule` and `model.dropout` is the preset's, but for what a small
network and a short training ask of both alike: the network (--channels), the number of images
seen (--seen: equal compute), batches (the preset's divided by --shrink, so that a short training
still has updates), the learning rate (the preset's times --rate), and the warm-up, which keeps its
share of the training. Checkpoints, sample grids and the early stop are left out. The model is the
one that the recipe's own `select_by` chooses.

The measure, fixed before any result was seen: over three seeds, mean and spread (largest less
smallest) of
- x0 error: the validation loss of the chosen model, every held-out image at every level;
- distance: `random_feature_distance` (64 dimensions) of --samples samples to the training images;
- faces: share of the samples in which YuNet finds a face, beside real crops' share.
Both models are sampled alike, dpmsolver++ in 20 trailing steps, so that recipes are compared and
not samplers. `best` wins a measure where its worst seed beats the other's best.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pttfaces import config, images
from pttfaces.diffusion import distributed, model_folder
from pttfaces.evaluation import features, fid, image_folder
from pttfaces.evaluation.face_rate import face_rate
from pttfaces.faces.detectors import Detector, make_detector
from pttfaces.sampling import samplers
from pttfaces.training import data, loop, validation

PRESETS = Path(__file__).resolve().parents[1] / "presets"
SAMPLER = config.Generate(
    num_images=1,
    batch_size=1,
    sampler="dpmsolver++",
    timestep_spacing="trailing",
    precision="fp32",
)
STEPS = 20
PRESET_IMAGES = 15_000  # about what a year of the board gives: what a preset's warm-up is for


@dataclass(frozen=True)
class Study:
    """What both recipes have in common."""

    channels: tuple[int, ...]
    side: int
    seen: int
    shrink: int
    rate: float
    samples: int
    train_set: data.ImageSet
    holdout: data.ImageSet
    real: image_folder.ImageFolder
    detector: Detector
    extractor: features.Extractor


@dataclass(frozen=True)
class Result:
    x0_error: float
    distance: float
    faces: float
    cpu_s: float


def study_params(study: Study, preset: str, seed: int, changes: Mapping[str, Any]) -> config.Params:
    """The preset's training, brought to the study's size; changes: keys of its group `train`."""
    params = config.load(PRESETS / f"{preset}.yaml")
    recipe = params.train.model_copy(update=changes)
    whole = recipe.epochs * PRESET_IMAGES // recipe.images_per_update
    size = recipe.batch_size // study.shrink
    updates = study.seen // size
    small: dict[str, Any] = {
        "batch_size": size,
        "epochs": round(updates / (len(study.train_set) // size)),
        "learning_rate": recipe.learning_rate * study.rate,
        "warmup_steps": round(recipe.warmup_steps / whole * updates),
        "early_stop": None,
        "sample_every": 10**6,
        "sample_images": 1,
        "keep_checkpoints": 0,
    }
    network: dict[str, Any] = {
        "channels": list(study.channels),
        "layers_per_block": 1,
        "attention": [False] * len(study.channels),
    }
    update = {
        "seed": seed,
        "image_size": study.side,
        "train": recipe.model_copy(update=small),
        "model": params.model.model_copy(update=network),
    }
    return params.model_copy(update=update)


def run(study: Study, params: config.Params, work: Path) -> Result:
    """Trains, samples and scores."""
    started = time.process_time()
    loop.train(params, study.train_set, study.holdout, work, lambda *_: None)
    cpu_s = time.process_time() - started
    model = model_folder.load_model(work / "best_model", distributed.state().device)
    # Image i is validated at level i modulo their number: repeated, each is validated at every one.
    repeated = study.holdout.pixels.repeat_interleave(len(validation.LOG_SNR_LEVELS), 0)
    x0_error = validation.x0_error(model, replace(study.holdout, pixels=repeated), 64)
    assert x0_error is not None
    made = work / "samples"
    for first in range(0, study.samples, 32):
        indices = range(first, min(first + 32, study.samples))
        batch = samplers.sample(model, SAMPLER, STEPS, params.seed, indices)
        for index, pixels in zip(indices, batch, strict=True):
            images.save_png(made / f"{index:04d}.png", Image.fromarray(pixels))
    samples = image_folder.open_folder(made, "run again")
    truth = study.extractor.embed_once(study.real).statistics
    distance = fid.frechet_distance(study.extractor.embed(samples).statistics, truth)
    return Result(x0_error, distance, face_rate(samples, study.detector.detect), cpu_s)


def shrunk(source: Path, target: Path, side: int) -> data.ImageSet:
    """The images of a folder at another size, written to `target` and loaded."""
    for path in sorted(source.glob("*.png")):
        with Image.open(path) as image:
            small = image.convert("RGB").resize((side, side), Image.Resampling.BOX)
        images.save_png(target / path.name, small)
    return data.load_images(target, side)


def spread(values: Sequence[float], form: str) -> str:
    return f"{statistics.mean(values):{form}} ({max(values) - min(values):{form}})"


def table(results: dict[str, list[Result]], real: float) -> str:
    lines = [
        "| recipe | x0 error | distance | faces | CPU seconds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, found in results.items():
        cells = [
            spread([result.x0_error for result in found], ".4f"),
            spread([result.distance for result in found], ".2f"),
            spread([result.faces for result in found], ".1%"),
            spread([result.cpu_s for result in found], ".0f"),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append(f"| real crops | | | {real:.1%} | |")
    return "\n".join(lines) + "\n"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="best against seed at equal compute")
    parser.add_argument("--yunet", required=True, help="file of YuNet's weights")
    parser.add_argument("--images", type=Path, default=Path("data/dataset"))
    parser.add_argument("--out", type=Path, default=Path("study"), help="table and sample grids")
    parser.add_argument("--side", type=int, default=24, help="images are shrunk to this")
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32, 64, 96])
    parser.add_argument("--seen", type=int, default=7_000, help="images a training sees")
    parser.add_argument("--shrink", type=int, default=4, help="divides the presets' batches")
    parser.add_argument("--rate", type=float, default=5, help="times the presets' learning rates")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--presets", nargs="+", default=["seed", "best"])
    parser.add_argument("--change", nargs="*", default=[], help="keys of train, as name=value")
    return parser.parse_args()


def main() -> None:
    given = options()
    changes = dict(text.split("=") for text in given.change)
    typed = {key: float(value) if "." in value else int(value) for key, value in changes.items()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train_set = shrunk(given.images / "train", folder / "train", given.side)
        holdout = shrunk(given.images / "holdout", folder / "holdout", given.side)
        real = image_folder.open_folder(folder / "train", "run `dvc repro curate`")
        evaluate = config.load("presets/demo.yaml").evaluate
        yunet = {"detector": "yunet", "detector_weights": given.yunet}
        # A quarter of the enlarged image's side.
        face_options = evaluate.model_copy(update=yunet).face_detector(min_size=given.side)
        detector = make_detector(face_options)
        extractor = features.make_extractor(evaluate, folder / "cache")
        study = Study(
            tuple(given.channels),
            given.side,
            given.seen,
            given.shrink,
            given.rate,
            given.samples,
            train_set,
            holdout,
            real,
            detector,
            extractor,
        )
        crops = face_rate(real, study.detector.detect)
        print(f"real crops: YuNet finds a face in {crops:.1%} of {len(real)}", flush=True)
        results: dict[str, list[Result]] = {}
        for seed in given.seeds:
            for preset in given.presets:
                work = folder / f"{preset}-{seed}"
                params = study_params(study, preset, seed, typed)
                found = run(study, params, work)
                results.setdefault(preset, []).append(found)
                steps = loop.steps_per_epoch(params.train, train_set, holdout)
                updates = params.train.epochs * steps
                print(f"{preset}, seed {seed}, {updates} updates: {found}", flush=True)
                shown = images.read_rgb(sorted((work / "samples").glob("*.png"))[:64])
                sheet = images.grid(np.asarray(shown), columns=16, scale=2)
                images.save_png(given.out / f"{preset}-{seed}.png", sheet)
    text = table(results, crops)
    (given.out / "recipes.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
