"""Computes all metrics of a set of samples, under the names that they have in evaluate.json."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pttfaces import files
from pttfaces.evaluation import fid, kid, memorization, prdc
from pttfaces.evaluation.features import Extractor
from pttfaces.evaluation.image_folder import ImageFolder, check_same_size
from pttfaces.evaluation.memorization import Memorization
from pttfaces.evaluation.prdc import Overlap
from pttfaces.images import sheet

_MIN_IMAGES = 4  # on each side: halves of them still have a covariance
_MIN_HELD_OUT = 2
_SHOWN = 32  # images of the highest density, and of the lowest
_SHARES = np.linspace(0, 1, 101)
_DIGEST_LENGTH = 16  # hex digits

COMPARABLE = ("trained_digest", "reference_digest", "features", "network", "dims", "generated")
"""Figures that have to be equal in two models' evaluations before their distances compare."""


@dataclass(frozen=True)
class EvaluationSets:
    """What is scored and what it is scored against.

    reference: images, or a `.npz` of statistics; trained: what the model learnt from; held_out:
    real images that it did not see, where there are any.
    """

    samples: ImageFolder
    reference: ImageFolder | Path
    trained: ImageFolder
    held_out: ImageFolder | None


@dataclass(frozen=True)
class Evaluation:
    """figures: by name, nested; images: by file name; neighbours: a row for each sample, with the
    real images nearest to it; distances: a row for each hundredth of the images, with the
    distances below which that share lies; copy_warning: a sentence where samples are copies."""

    figures: dict[str, Any]
    images: dict[str, Image.Image]
    neighbours: list[dict[str, Any]]
    distances: list[dict[str, float | None]]
    copy_warning: str | None


def score(extractor: Extractor, sets: EvaluationSets, max_copied: float) -> Evaluation:
    """Computes all metrics that need features or pixels of the samples.

    max_copied: the share of them (0..1) that may be copies of training images.
    DataError: fewer than two samples, images of different sizes or not readable, statistics that
    do not fit.
    """
    if isinstance(sets.reference, ImageFolder):
        check_same_size(sets.samples, sets.reference)
        real = extractor.embed_once(sets.reference)
        rows, statistics, reference = real.rows, real.statistics, sets.reference.digest()
    else:
        rows, statistics = None, extractor.read_statistics(sets.reference)
        reference = files.digest_file(sets.reference)
    features = extractor.embed(sets.samples)
    figures: dict[str, Any] = {
        extractor.distance_name: fid.frechet_distance(features.statistics, statistics),
        "features": extractor.name,
        "dims": extractor.dims,
        "network": extractor.digest[:_DIGEST_LENGTH],
        "trained_digest": sets.trained.digest()[:_DIGEST_LENGTH],
        "reference_digest": reference[:_DIGEST_LENGTH],
        "generated": len(sets.samples),
    }
    if rows is not None:
        figures["real"] = len(rows)
        figures |= floor_and_kid(extractor, features.rows, rows)
        overlap = prdc.overlap(features.rows, rows)
        figures |= overlap.figures()
    else:  # density.png still needs real features
        overlap = prdc.overlap(features.rows, extractor.embed_once(sets.trained).rows)
    by_kind = memorization_by_kind(extractor, sets, features.rows)
    copies = {kind: found.figures() for kind, found in by_kind.items()}
    share = memorization.copied_share(copies.values())
    verdict = {"copied": share, "max_copied": max_copied, "too_many": share > max_copied}
    figures["copies"] = verdict | copies
    pixels, embedded = by_kind["pixels"].trained, by_kind["features"].trained
    return Evaluation(
        figures,
        {
            "nearest.png": memorization.nearest_sheet(sets.samples, sets.trained, pixels, embedded),
            "density.png": density_sheet(sets.samples, overlap),
        },
        neighbour_rows(sets, by_kind),
        distance_rows(by_kind),
        copy_warning(share, max_copied),
    )


def floor_and_kid(
    extractor: Extractor, samples: np.ndarray, real: np.ndarray
) -> dict[str, float | int]:
    """Floor and KID of features (N, D) and (M, D); {} where there are fewer than 4 of either.

    floor: the distance between real and real; floor_count: images on one side of it. As many as
    there are samples, unless the real images are fewer than twice that: then half of them, and
    the floor is higher than as many images as there are samples would have it.
    """
    if min(len(samples), len(real)) < _MIN_IMAGES:
        return {}
    floor, count = fid.floor(real, len(samples))
    mean, deviation = kid.kid(samples, real)
    return {
        "floor": floor,
        "floor_count": count,
        extractor.kid_name: mean,
        f"{extractor.kid_name}_deviation": deviation,
    }


def memorization_by_kind(
    extractor: Extractor, sets: EvaluationSets, features: np.ndarray
) -> dict[str, Memorization]:
    """How near the samples, whose features are (N, D), come to real images, by kind of distance.

    Distances in pixels are root mean squares of the difference in colour levels (0..255) at 32×32.
    """
    held_out = sets.held_out
    if held_out is not None and len(held_out) < _MIN_HELD_OUT:
        held_out = None
    views = {
        "pixels": memorization.pixel_views,
        "features": lambda images: [extractor.embed_once(images).rows],
    }
    by_kind = {}
    for kind, view in views.items():
        samples = [features] if kind == "features" else view(sets.samples)
        trained = view(sets.trained)[0]
        real = view(held_out) if held_out is not None else None
        by_kind[kind] = Memorization(
            trained=memorization.nearest(samples, trained),
            held_out=memorization.nearest(samples, real[0]) if real else None,
            real=memorization.nearest(real, trained) if real else None,
            unit=trained.shape[1] ** 0.5 if kind == "pixels" else 1.0,
        )
    return by_kind


def density_sheet(samples: ImageFolder, overlap: Overlap) -> Image.Image:
    """Shows the samples that lie where real images are dense, and those where there are none.

    Among samples of one density those with the greater realism come first.
    """
    order = np.lexsort((overlap.realism, overlap.densities))
    count = min(_SHOWN, len(order) // 2)
    best, worst = overlap.rows[order[::-1][:count]], overlap.rows[order[:count]]
    sections = [
        ("samples of the highest density among real images", samples.read(best)),
        ("samples of the lowest density", samples.read(worst)),
    ]
    return sheet(sections, columns=8)


def neighbour_rows(
    sets: EvaluationSets, by_kind: Mapping[str, Memorization]
) -> list[dict[str, Any]]:
    """For each sample the nearest training image and held-out image, with their distances."""
    rows: list[dict[str, Any]] = [{"sample": path.name} for path in sets.samples.paths]
    for kind, found in by_kind.items():
        for split, near, images in (
            ("train", found.trained, sets.trained),
            ("holdout", found.held_out, sets.held_out),
        ):
            if near is None or images is None:
                continue
            for row, index, distance in zip(rows, near.index, near.first, strict=True):
                row[f"{kind}_{split}"] = images.paths[index].name
                row[f"{kind}_{split}_distance"] = float(f"{distance / found.unit:.6g}")
    return rows


def distance_rows(by_kind: Mapping[str, Memorization]) -> list[dict[str, float | None]]:
    """The distributions of all distances, side by side; None where there are no such images."""
    columns = {
        f"{kind}_{name}": values
        for kind, found in by_kind.items()
        for name, values in found.quantiles(_SHARES).items()
    }
    rows: list[dict[str, float | None]] = []
    for index, share in enumerate(_SHARES):
        row: dict[str, float | None] = {"share": round(float(share), 2)}
        for name, values in columns.items():
            row[name] = None if values is None else float(f"{values[index]:.6g}")
        rows.append(row)
    return rows


def distance(extractor: Extractor, first: ImageFolder | Path, second: ImageFolder | Path) -> float:
    """The distance of two folders or `.npz`; memory does not grow with the number of images.

    DataError: as `score`.
    """
    if isinstance(first, ImageFolder) and isinstance(second, ImageFolder):
        check_same_size(first, second)
    return fid.frechet_distance(statistics_of(extractor, first), statistics_of(extractor, second))


def statistics_of(extractor: Extractor, images: ImageFolder | Path) -> fid.Statistics:
    """Statistics of a folder's images (cached), or those in a `.npz`."""
    if isinstance(images, ImageFolder):
        return extractor.statistics_once(images)
    return extractor.read_statistics(images)


def summarize_repeats(distances: Iterable[float], first_seed: int) -> dict[str, Any]:
    """Summarizes the distances of two or more sampling seeds, each with as many samples."""
    values = list(distances)
    return {
        "seeds": len(values),
        "first_seed": first_seed,
        "mean": float(np.mean(values)),
        "spread": max(values) - min(values),
        "deviation": float(np.std(values, ddof=1)),
    }


def copy_warning(share: float, max_copied: float) -> str | None:
    """A sentence where more than a share `max_copied` (0..1) of the samples are copies."""
    if share <= max_copied:
        return None
    return (
        f"COPIES OF TRAINING IMAGES: {share:.1%} of the samples (evaluate.max_copied allows "
        f"{max_copied:.1%}); look at metrics/pictures/nearest.png, show no samples of this model, "
        "and train on more images, for fewer epochs, or with dropout."
    )


def warnings(figures: Mapping[str, Any], copy_warning: str | None) -> list[str]:
    """Sentences on what makes the distance less reliable than it looks, and on copies."""
    few = [
        f"{figures[key]} {what} for {figures['dims']} dimensions: the distance depends more on "
        "their number than on the model; score more images, or lower evaluate.dims."
        for key, what in (("generated", "samples"), ("real", "real images"))
        if key in figures and figures[key] <= figures["dims"]
    ]
    return [*few, copy_warning] if copy_warning else few


def round_figures(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures, however nested, to six significant digits: further ones differ between machines."""
    short = dict(figures)
    for key, value in figures.items():
        if isinstance(value, Mapping):
            short[key] = round_figures(value)
        elif isinstance(value, float):
            short[key] = float(f"{value:.6g}")
    return short


def flat_numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among figures, on one level: {"face_rate": {"real": 0.9}} → face_rate_real."""
    flat = files.flatten(figures, "_")
    return {key: float(value) for key, value in flat.items() if isinstance(value, int | float)}


def summary(figures: Mapping[str, Any], distance_name: str) -> str:
    """The figures that matter most, in one line."""
    floor = f" (floor {figures['floor']:.4g})" if "floor" in figures else ""
    faces = figures["face_rate"]
    return (
        f"{distance_name} {figures[distance_name]:.4g}{floor} of {figures['generated']} images; "
        f"{faces['detector']} finds a face in {faces['generated']:.0%} of them and in "
        f"{faces['real']:.0%} of real crops; {figures['copies']['copied']:.1%} are copies"
    )
