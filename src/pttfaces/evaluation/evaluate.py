"""All figures of one set of samples, under the names that they have in metrics and in MLflow.

Brings the room's parts together; knows nothing of parameters, DVC or MLflow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pttfaces import files
from pttfaces import images as sheets
from pttfaces.evaluation import fid, memorization, prdc
from pttfaces.evaluation import kid as kernel
from pttfaces.evaluation.features import Extractor
from pttfaces.evaluation.image_folder import Pictures, check_same_size
from pttfaces.evaluation.memorization import Copying
from pttfaces.evaluation.prdc import Overlap

_LEAST = 4  # pictures on each side: halves of them still have a covariance
_LEAST_HELD_OUT = 2
_SHOWN = 32  # pictures of the highest density, and of the lowest
_SHARES = np.linspace(0, 1, 101)
_DIGEST = 16  # hex digits that tell two contents apart

COMPARABLE = ("trained_digest", "reference_digest", "features", "network", "dims", "generated")
"""Figures in which two models' evaluations have to be equal before their distances compare."""


Source = Pictures | Path
"""Pictures, or a `.npz` of statistics."""


@dataclass(frozen=True)
class Sets:
    """What is scored and what it is scored against.

    trained: what the model learnt from; held_out: real pictures that it did not see, where there
    are any.
    """

    samples: Pictures
    reference: Source
    trained: Pictures
    held_out: Pictures | None


@dataclass(frozen=True)
class Report:
    """figures: by name, nested; pictures: by file name; neighbours: a row for each sample, with the
    real pictures nearest to it; distances: a row for each hundredth of the pictures, with the
    distances below which that share lies; copy_warning: a sentence where samples are copies."""

    figures: dict[str, Any]
    pictures: dict[str, Image.Image]
    neighbours: list[dict[str, Any]]
    distances: list[dict[str, float | None]]
    copy_warning: str | None


def score(extractor: Extractor, sets: Sets, max_copied: float) -> Report:
    """Everything that is to be said of the samples.

    max_copied: the share of them (0..1) that may be copies of training pictures.
    DataError: fewer than two samples, pictures of different sizes or not readable, statistics that
    do not fit.
    """
    if isinstance(sets.reference, Pictures):
        check_same_size(sets.samples, sets.reference)
        real = extractor.embed_once(sets.reference)
        rows, statistics, reference = real.rows, real.statistics, sets.reference.digest()
    else:
        rows, statistics = None, extractor.read_statistics(sets.reference)
        reference = files.digest_file(sets.reference)
    features = extractor.embed(sets.samples)
    figures: dict[str, Any] = {
        extractor.distance_name: fid.distance(features.statistics, statistics),
        "features": extractor.name,
        "dims": extractor.dims,
        "network": extractor.digest[:_DIGEST],
        "trained_digest": sets.trained.digest()[:_DIGEST],
        "reference_digest": reference[:_DIGEST],
        "generated": len(sets.samples),
    }
    if rows is not None:
        figures["real"] = len(rows)
        figures |= against_pictures(extractor, features.rows, rows)
        overlap = prdc.overlap(features.rows, rows)
        figures |= overlap.figures()
    else:  # the picture wants a real manifold all the same
        overlap = prdc.overlap(features.rows, extractor.embed_once(sets.trained).rows)
    kinds = copying(extractor, sets, features.rows)
    by_name = {name: one.figures() for name, one in kinds.items()}
    share = memorization.copied(by_name.values())
    verdict = {"copied": share, "max_copied": max_copied, "too_many": share > max_copied}
    figures["copies"] = verdict | by_name
    warning = copy_warning(share, max_copied)
    near = kinds["pixels"].trained, kinds["features"].trained
    pictures = {
        "nearest.png": memorization.pairs_picture(sets.samples, sets.trained, *near),
        "density.png": density_picture(sets.samples, overlap),
    }
    return Report(figures, pictures, neighbour_rows(sets, kinds), distance_rows(kinds), warning)


def against_pictures(
    extractor: Extractor, samples: np.ndarray, real: np.ndarray
) -> dict[str, float | int]:
    """Floor and KID, which need the features (N, D) and (M, D) themselves; nothing below 4 each.

    floor: the distance between real and real; floor_count: pictures on one side of it. As many as
    there are samples, unless the real pictures are fewer than twice that: then half of them, and
    the floor is higher than as many pictures as there are samples would have it.
    """
    if min(len(samples), len(real)) < _LEAST:
        return {}
    floor, count = fid.floor(real, len(samples))
    kid, deviation = kernel.kid(samples, real)
    names = extractor.kid_name, f"{extractor.kid_name}_deviation"
    return {"floor": floor, "floor_count": count, names[0]: kid, names[1]: deviation}


def copying(extractor: Extractor, sets: Sets, features: np.ndarray) -> dict[str, Copying]:
    """The nearest real pictures of the samples, whose features are (N, D), by kind of distance.

    Distances in pixels are root mean squares of the difference in colour levels (0..255) at 32×32.
    """
    held_out = sets.held_out
    if held_out is not None and len(held_out) < _LEAST_HELD_OUT:
        held_out = None
    views = {
        "pixels": memorization.pixel_views,
        "features": lambda pictures: [extractor.embed_once(pictures).rows],
    }
    kinds = {}
    for name, view in views.items():
        ours = [features] if name == "features" else view(sets.samples)
        trained = view(sets.trained)[0]
        real = view(held_out) if held_out is not None else None
        kinds[name] = Copying(
            trained=memorization.nearest(ours, trained),
            held_out=memorization.nearest(ours, real[0]) if real else None,
            real=memorization.nearest(real, trained) if real else None,
            unit=trained.shape[1] ** 0.5 if name == "pixels" else 1.0,
        )
    return kinds


def density_picture(samples: Pictures, overlap: Overlap) -> Image.Image:
    """The samples that lie where real pictures are dense, and those that lie where there are none.

    Among samples of one density those with the greater realism come first.
    """
    order = np.lexsort((overlap.realism, overlap.densities))
    most = min(_SHOWN, len(order) // 2)
    best, worst = overlap.rows[order[::-1][:most]], overlap.rows[order[:most]]
    sections = [
        ("samples of the highest density among real pictures", samples.read(best)),
        ("samples of the lowest density", samples.read(worst)),
    ]
    return sheets.sheet(sections, columns=8)


def neighbour_rows(sets: Sets, kinds: Mapping[str, Copying]) -> list[dict[str, Any]]:
    """For each sample the nearest training picture and held-out picture, with their distances."""
    rows: list[dict[str, Any]] = [{"sample": path.name} for path in sets.samples.paths]
    for kind, one in kinds.items():
        for split, near, pictures in (
            ("train", one.trained, sets.trained),
            ("holdout", one.held_out, sets.held_out),
        ):
            if near is None or pictures is None:
                continue
            for row, index, distance in zip(rows, near.index, near.first, strict=True):
                row[f"{kind}_{split}"] = pictures.paths[index].name
                row[f"{kind}_{split}_distance"] = float(f"{distance / one.unit:.6g}")
    return rows


def distance_rows(kinds: Mapping[str, Copying]) -> list[dict[str, float | None]]:
    """The distributions of all distances, side by side; None where there are no such pictures."""
    columns = {
        f"{kind}_{name}": values
        for kind, one in kinds.items()
        for name, values in one.quantiles(_SHARES).items()
    }
    rows: list[dict[str, float | None]] = []
    for number, share in enumerate(_SHARES):
        row: dict[str, float | None] = {"share": round(float(share), 2)}
        for name, values in columns.items():
            row[name] = None if values is None else float(f"{values[number]:.6g}")
        rows.append(row)
    return rows


def distance(extractor: Extractor, first: Source, second: Source) -> float:
    """The distance of two folders or `.npz`, and no more: memory does not grow with the pictures.

    DataError: as `score`.
    """
    if isinstance(first, Pictures) and isinstance(second, Pictures):
        check_same_size(first, second)
    return fid.distance(*(statistics(extractor, source) for source in (first, second)))


def statistics(extractor: Extractor, source: Source) -> fid.Statistics:
    """Of a folder's pictures, computed once for their content, or those in a `.npz`."""
    if isinstance(source, Pictures):
        return extractor.statistics_once(source)
    return extractor.read_statistics(source)


def repeated(distances: Sequence[float], first_seed: int) -> dict[str, Any]:
    """The distance over two or more sampling seeds, each with as many samples."""
    return {
        "seeds": len(distances),
        "first_seed": first_seed,
        "mean": float(np.mean(distances)),
        "spread": max(distances) - min(distances),
        "deviation": float(np.std(distances, ddof=1)),
    }


def copy_warning(share: float, most: float) -> str | None:
    """A sentence where more than a share `most` (0..1) of the samples are copies."""
    if share <= most:
        return None
    return (
        f"COPIES OF TRAINING PICTURES: {share:.1%} of the samples (evaluate.max_copied allows "
        f"{most:.1%}); look at metrics/pictures/nearest.png, show no samples of this model, and "
        "train on more pictures, for fewer epochs, or with dropout."
    )


def warnings(figures: Mapping[str, Any]) -> list[str]:
    """Sentences on what makes the distance weaker than it looks."""
    return [
        f"{figures[key]} {what} for {figures['dims']} dimensions: the distance depends more on "
        "their number than on the model; score more pictures, or lower evaluate.dims."
        for key, what in (("generated", "samples"), ("real", "real pictures"))
        if key in figures and figures[key] <= figures["dims"]
    ]


def rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures, however nested, to six significant digits: more would be a machine's rounding."""
    short = dict(figures)
    for key, value in figures.items():
        if isinstance(value, Mapping):
            short[key] = rounded(value)
        elif isinstance(value, float):
            short[key] = float(f"{value:.6g}")
    return short


def numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among figures, on one level: {"face_rate": {"real": 0.9}} → face_rate_real."""
    flat = files.flatten(figures, "_")
    return {key: float(value) for key, value in flat.items() if isinstance(value, int | float)}
