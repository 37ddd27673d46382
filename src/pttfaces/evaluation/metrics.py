"""Computes every figure of metrics/evaluate.json, one after the other, in `compute`.

To add a metric, write a function of features (N, D) in a module such as kid.py, add its line to
`compute` and its row to the table of docs/pipeline.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pttfaces import files
from pttfaces.config import Evaluate
from pttfaces.evaluation import fid, kid, memorization, prdc
from pttfaces.evaluation.face_rate import DetectFaces, face_rate
from pttfaces.evaluation.features import Extractor, Features
from pttfaces.evaluation.image_folder import ImageFolder, check_same_size
from pttfaces.evaluation.uncertainty import Z_95, uncertainty

_MIN_IMAGES = 4  # on each side: halves of them still have a covariance
_SHARES = np.linspace(0, 1, 101).round(2)
_DIGEST_LENGTH = 16  # hex digits


@dataclass(frozen=True)
class ImageSets:
    """What is scored and what it is scored against.

    reference: images, or a `.npz` of statistics; trained: what the model learnt from; held_out:
    two or more real images that it did not see, where there are any.
    """

    samples: ImageFolder
    reference: ImageFolder | Path
    trained: ImageFolder
    held_out: ImageFolder | None


@dataclass(frozen=True)
class Evaluation:
    """figures: by name, nested; sheets: images by file name; neighbours: columns with a row for
    each sample, with the real images nearest to it; distances: columns with a row for each
    hundredth of the images, with the distances below which that share lies."""

    figures: dict[str, Any]
    sheets: dict[str, Image.Image]
    neighbours: dict[str, list[Any]]
    distances: dict[str, list[Any]]


def compute(
    sets: ImageSets, extractor: Extractor, detect: DetectFaces, options: Evaluate
) -> Evaluation:
    """Computes all metrics of the samples.

    Figures of real images that a `.npz` does not hold, or that need more images, are left out.
    DataError: fewer than two samples, images of different sizes or not readable, statistics that
    do not fit.
    """
    samples, trained = extractor.embed(sets.samples), extractor.embed_once(sets.trained)
    statistics, real = _reference(sets, extractor, trained)
    held_out = extractor.embed_once(sets.held_out) if sets.held_out else None
    overlap = prdc.overlap(samples.rows, trained.rows if real is None else real)
    nearest = {
        "pixels": memorization.compare_pixels(sets.samples, sets.trained, sets.held_out),
        "features": memorization.compare(
            [samples.rows], trained.rows, [held_out.rows] if held_out else None
        ),
    }

    name = extractor.distance_name
    value = fid.frechet_distance(samples.statistics, statistics)
    error = uncertainty(samples.rows, statistics, value)
    figures: dict[str, Any] = {
        # samples and reference, in features
        name: value,
        f"{name}_low": error.low,
        f"{name}_high": error.high,
        "features": extractor.name,
        "dims": extractor.dims,
        "network": extractor.digest[:_DIGEST_LENGTH],
        "trained_digest": sets.trained.digest[:_DIGEST_LENGTH],
        "reference_digest": _digest(sets.reference)[:_DIGEST_LENGTH],
        "generated": len(sets.samples),
    }
    if error.infinite is not None:
        figures |= {f"{name}_infinite": error.infinite}
        figures |= {f"{name}_infinite_error": error.infinite_error}
    if real is not None:
        figures["real"] = len(real)
        if min(len(samples.rows), len(real)) >= _MIN_IMAGES:
            # reference and reference, in features
            figures["floor"], figures["floor_count"] = fid.floor(real, len(samples.rows))
            # samples and reference, in features
            name = extractor.kid_name
            figures[name], figures[f"{name}_deviation"] = kid.kid(samples.rows, real)
            half = Z_95 * kid.standard_error(samples.rows, real)
            figures[f"{name}_low"], figures[f"{name}_high"] = (
                figures[name] - half,
                figures[name] + half,
            )
        figures |= overlap.figures()  # precision, recall, density, coverage
    # samples and training images, held-out and training images, in pixels and in features
    figures["copies"] = memorization.copies(nearest, options.max_copied)
    figures["reference"] = options.reference
    figures["face_rate"] = {
        "detector": options.detector,
        "generated": face_rate(sets.samples, detect),
        "real": face_rate(sets.trained.spread(len(sets.samples)), detect),
    }

    neighbours = {"sample": [path.name for path in sets.samples.paths]}
    distances = {"share": _SHARES.tolist()}
    for kind, found in nearest.items():
        columns = found.neighbours(sets.trained, sets.held_out)
        neighbours |= {f"{kind}_{name}": column for name, column in columns.items()}
        curves = found.quantiles(_SHARES)
        distances |= {f"{kind}_{name}": column for name, column in curves.items()}
    sheets = {
        "nearest.png": memorization.nearest_sheet(sets.samples, sets.trained, nearest),
        "density.png": prdc.density_sheet(sets.samples, overlap),
    }
    return Evaluation(figures, sheets, rounded(neighbours), rounded(distances))


def distance(extractor: Extractor, first: ImageFolder | Path, second: ImageFolder | Path) -> float:
    """The distance of two folders or `.npz`; memory does not grow with the number of images.

    DataError: as `compute`.
    """
    if isinstance(first, ImageFolder) and isinstance(second, ImageFolder):
        check_same_size(first, second)
    return fid.frechet_distance(extractor.statistics(first), extractor.statistics(second))


def repeats(distances: Iterable[float], first_seed: int) -> dict[str, Any]:
    """Summarizes the distances of two or more sampling seeds, each with as many samples."""
    values = list(distances)
    return {
        "seeds": len(values),
        "first_seed": first_seed,
        "mean": float(np.mean(values)),
        "spread": max(values) - min(values),
        "deviation": float(np.std(values, ddof=1)),
    }


def rounded(value: Any) -> Any:
    """Numbers, however nested, to six significant digits: further ones differ between machines."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def flat_numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among figures, on one level: {"face_rate": {"real": 0.9}} → face_rate_real."""
    flat = files.flatten(figures, "_")
    return {key: float(value) for key, value in flat.items() if isinstance(value, int | float)}


def warnings(figures: Mapping[str, Any], sets: ImageSets) -> list[str]:
    """Sentences on what makes the distance less reliable than it looks, and on copies."""
    few = [
        f"{figures[key]} {what} for {figures['dims']} dimensions: the distance depends more on "
        "the number of images than on the model; score more images, or lower evaluate.dims."
        for key, what in (("generated", "samples"), ("real", "real images"))
        if key in figures and figures[key] <= figures["dims"]
    ]
    real = sets.reference
    if isinstance(real, ImageFolder) and real.skipped_by_pytorch_fid:
        few.append(
            f"{real.skipped_by_pytorch_fid} of the {len(real)} images in {real.folder} have names "
            "with an ending in upper case, which pytorch-fid leaves out: its score would be of the "
            "others."
        )
    copies = memorization.copy_warning(figures["copies"])
    return [*few, copies] if copies else few


def summary(figures: Mapping[str, Any], distance_name: str) -> str:
    """The figures that matter most, in one line."""
    floor = f" (floor {figures['floor']:.4g})" if "floor" in figures else ""
    faces = figures["face_rate"]
    low, high = (figures[f"{distance_name}_{end}"] for end in ("low", "high"))
    return (
        f"{distance_name} {figures[distance_name]:.4g} ({low:.4g} to {high:.4g}){floor} of "
        f"{figures['generated']} images; "
        f"{faces['detector']} finds a face in {faces['generated']:.0%} of them and in "
        f"{faces['real']:.0%} of real crops; {figures['copies']['copied']:.1%} are copies"
    )


def _reference(
    sets: ImageSets, extractor: Extractor, trained: Features
) -> tuple[fid.Statistics, np.ndarray | None]:
    """Statistics of the reference's features, and these features (M, D) where it has images."""
    if isinstance(sets.reference, Path):
        return extractor.statistics(sets.reference), None
    check_same_size(sets.samples, sets.reference)
    same = sets.reference is sets.trained
    reference = trained if same else extractor.embed_once(sets.reference)
    return reference.statistics, reference.rows


def _digest(source: ImageFolder | Path) -> str:
    return files.digest_file(source) if isinstance(source, Path) else source.digest
