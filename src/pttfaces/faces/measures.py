"""What is measured of a crop, to choose by: sharpness, brightness, size.

Knows pixels and landmarks only.
"""

from collections.abc import Iterable

import cv2
import numpy as np

BLUR_SIDE = 256  # side at which blur is measured, so that one threshold fits every crop size
# Histogram edges in quarters of an octave around 100, the original's threshold: 0, 6.25 … 6400.
BLUR_EDGES = (0.0, *(100 * 2 ** (step / 4) for step in range(-16, 25)))


def laplacian_variance(rgb: np.ndarray) -> float:
    """Variance of the Laplacian: the higher, the sharper.

    rgb: (H, W, 3) uint8. Grey, 256×256, OpenCV's default kernel, as in the original; a crop of
    another size is resized first.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if grey.shape != (BLUR_SIDE, BLUR_SIDE):
        grey = cv2.resize(grey, (BLUR_SIDE, BLUR_SIDE), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def brightness(rgb: np.ndarray) -> float:
    """Mean grey value, 0 (black) … 255 (white). rgb: (H, W, 3) uint8."""
    return float(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).mean())


def blur_histogram(variances: Iterable[float]) -> list[tuple[float, int]]:
    """(lower edge of the bin, crops in it) for every bin of BLUR_EDGES; the last one is open."""
    edges = np.array([*BLUR_EDGES, np.inf])
    counts, _ = np.histogram(np.fromiter(variances, float), edges)
    return [(round(edge, 2), int(n)) for edge, n in zip(BLUR_EDGES, counts, strict=True)]
