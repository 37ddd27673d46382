"""All figures of one set of samples, under the names that they have in metrics and in MLflow.

Brings the room's parts together; knows nothing of parameters, DVC or MLflow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pttfaces.scores import frechet, kernel, neighbours
from pttfaces.scores.features import Extractor
from pttfaces.scores.folder import Pictures, check_same_size

_LEAST = 4  # pictures on each side: halves of them still have a covariance
_LEAST_HELD_OUT = 2


@dataclass(frozen=True)
class Sets:
    """What is scored and what it is scored against.

    reference: real pictures, or a `.npz` of statistics. trained: what the model learnt from;
    held_out: real pictures that it did not see, where there are any.
    """

    samples: Pictures
    reference: Pictures | Path
    trained: Pictures
    held_out: Pictures | None


def score(extractor: Extractor, sets: Sets) -> tuple[dict[str, Any], Image.Image]:
    """All figures of the samples, and the picture of those nearest to training pictures.

    DataError: fewer than two samples, pictures of different sizes or not readable, statistics that
    do not fit.
    """
    if isinstance(sets.reference, Pictures):
        check_same_size(sets.samples, sets.reference)
        real = extractor.embed_once(sets.reference)
        rows, statistics = real.rows, real.statistics
    else:
        rows, statistics = None, extractor.read_statistics(sets.reference)
    features = extractor.embed(sets.samples)
    figures: dict[str, Any] = {
        extractor.distance_name: frechet.distance(features.statistics, statistics),
        "features": extractor.name,
        "dims": extractor.dims,
        "network": extractor.digest[:16],
        "generated": len(sets.samples),
    }
    if rows is not None:
        figures["real"] = len(rows)
        figures |= against_pictures(extractor, features.rows, rows)
    figures["copies"], pairs = copies(extractor, sets, features.rows)
    return figures, pairs


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
    floor, count = frechet.floor(real, len(samples))
    kid, deviation = kernel.kid(samples, real)
    names = extractor.kid_name, f"{extractor.kid_name}_deviation"
    return {"floor": floor, "floor_count": count, names[0]: kid, names[1]: deviation}


def copies(
    extractor: Extractor, sets: Sets, features: np.ndarray
) -> tuple[dict[str, dict[str, float]], Image.Image]:
    """Figures on copying in pixels and in features (the samples', (N, D)), and the closest pairs.

    Distances in pixels are root mean squares of the difference in colour levels (0..255) at 32×32.
    """
    trained_rows = extractor.embed_once(sets.trained).rows
    trained_pixels = neighbours.pixel_views(sets.trained)[0]
    in_pixels = neighbours.nearest(neighbours.pixel_views(sets.samples), trained_pixels)
    in_features = neighbours.nearest([features], trained_rows)
    real_pixels = real_features = None
    if sets.held_out is not None and len(sets.held_out) >= _LEAST_HELD_OUT:
        real_rows = extractor.embed_once(sets.held_out).rows
        real_pixels = neighbours.nearest(neighbours.pixel_views(sets.held_out), trained_pixels)
        real_features = neighbours.nearest([real_rows], trained_rows)
    figures = {
        "pixels": neighbours.copy_figures(in_pixels, real_pixels, trained_pixels.shape[1] ** 0.5),
        "features": neighbours.copy_figures(in_features, real_features),
    }
    pairs = neighbours.pairs_picture(sets.samples, sets.trained, in_pixels, in_features)
    return figures, pairs


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


def numbers(figures: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers among figures, on one level: {"face_rate": {"real": 0.9}} → face_rate_real."""
    flat: dict[str, float] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            flat |= numbers(value, f"{prefix}{key}_")
        elif isinstance(value, int | float):
            flat[prefix + key] = float(value)
    return flat
