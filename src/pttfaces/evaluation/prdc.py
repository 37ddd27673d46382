"""Computes precision, recall, density and coverage of two sets of features.

Precision and recall as improved by Kynkäänniemi et al. 2019, density and coverage by Naeem et al.
2020; a set's manifold is the union of balls around its rows, each of which reaches to its k-th
nearest neighbour in the same set.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pttfaces.evaluation.image_folder import ImageFolder
from pttfaces.images import sheet
from pttfaces.progress import progress

NEAREST_K = 5  # as in Naeem et al.
MAX_ROWS = 10_000  # of each set: the time grows with their product
_BLOCK = 512
_SHOWN = 32  # samples of the highest density, and of the lowest


@dataclass(frozen=True)
class Overlap:
    """How samples and real images fill each other's manifolds.

    precision, density: of the samples in the real manifold; recall, coverage: of the real images
    among the samples. Each is near 1 where the two are similar; density may be above 1.
    rows (S,): indices of the samples that were used; densities (S,): in how many real balls each of
    them lies, over k; realism (S,): the greatest ratio of a real ball's radius to the distance from
    its centre (Kynkäänniemi et al.), above 1 in the manifold.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    rows: np.ndarray
    densities: np.ndarray
    realism: np.ndarray

    def figures(self) -> dict[str, float]:
        """The four figures by name."""
        names = ("precision", "recall", "density", "coverage")
        return {name: getattr(self, name) for name in names}


def overlap(samples: np.ndarray, real: np.ndarray, k: int = NEAREST_K) -> Overlap:
    """Compares features of samples (N, D) with those of real images (M, D); N and M ≥ 2.

    Of more than 10,000 rows an evenly spread 10,000 are used. A set that has no k-th neighbour is
    compared by its last one.
    """
    k = min(k, len(samples) - 1, len(real) - 1)
    rows = spread(len(samples))
    real = np.asarray(real[spread(len(real))], np.float64)
    centre = real.mean(axis=0)  # distances are differences of large numbers far from it
    real, samples = real - centre, np.asarray(samples[rows], np.float64) - centre
    real_radii, sample_radii = radii(real, k), radii(samples, k)
    recalled = np.zeros(len(real), bool)
    nearest = np.full(len(real), np.inf)
    densities, realism = np.empty(len(samples)), np.empty(len(samples))
    with progress("precision and recall", len(samples), " samples") as bar:
        for start in range(0, len(samples), _BLOCK):
            block = slice(start, start + _BLOCK)
            distances = _distances(samples[block], real)
            recalled |= (distances < sample_radii[block, None]).any(axis=0)
            nearest = np.minimum(nearest, distances.min(axis=0))
            densities[block] = (distances < real_radii).sum(axis=1) / k
            with np.errstate(divide="ignore", invalid="ignore"):  # copies; equal real images
                realism[block] = np.nan_to_num(real_radii / distances, nan=1.0, posinf=np.inf).max(
                    axis=1
                )
            bar.update(len(distances))
    return Overlap(
        precision=float((densities > 0).mean()),
        recall=float(recalled.mean()),
        density=float(densities.mean()),
        coverage=float((nearest < real_radii).mean()),
        rows=rows,
        densities=densities,
        realism=realism,
    )


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


def radii(features: np.ndarray, k: int) -> np.ndarray:
    """Distance of each row of (N, D) to its k-th nearest other row: (N,); N > k."""
    blocks = []
    for start in range(0, len(features), _BLOCK):
        distances = _distances(features[start : start + _BLOCK], features)
        blocks.append(np.partition(distances, k, axis=1)[:, k])  # the row itself is the 0-th
    return np.concatenate(blocks)


def spread(count: int) -> np.ndarray:
    """At most 10,000 of `count` indices, evenly spread."""
    return np.linspace(0, count - 1, min(count, MAX_ROWS)).round().astype(int)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances (A, B) of (A, D) and (B, D) float64."""
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1)
    squares -= 2 * (first @ second.T)
    return np.sqrt(np.clip(squares, 0, None, out=squares), out=squares)
