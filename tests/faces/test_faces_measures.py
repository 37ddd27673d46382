import cv2
import numpy as np
import pytest
from faces_support import Portrait

from pttfaces.faces import measures


def test_blur_is_opencv_s_variance_of_the_laplacian(portraits: list[Portrait]) -> None:
    crop = np.ascontiguousarray(portraits[0].pixels[:256, :256])
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    assert measures.laplacian_variance(crop) == cv2.Laplacian(grey, cv2.CV_64F).var()


def test_blur_falls_as_a_crop_is_blurred(portraits: list[Portrait]) -> None:
    crop = np.ascontiguousarray(portraits[0].pixels[:256, :256])
    found = [
        measures.laplacian_variance(cv2.GaussianBlur(crop, (0, 0), sigma) if sigma else crop)
        for sigma in (0, 1, 2, 4)
    ]
    assert found == sorted(found, reverse=True)


def test_blur_of_another_crop_size_is_that_of_the_crop_at_256(portraits: list[Portrait]) -> None:
    crop = np.ascontiguousarray(portraits[0].pixels[:256, :256])
    doubled = crop.repeat(2, axis=0).repeat(2, axis=1)
    expected = measures.laplacian_variance(crop)
    assert measures.laplacian_variance(doubled) == pytest.approx(expected, rel=0.05)


def test_brightness_is_the_mean_grey() -> None:
    assert measures.brightness(np.full((8, 8, 3), 77, np.uint8)) == 77


def test_the_histogram_counts_every_crop_and_has_an_edge_at_the_original_s_threshold() -> None:
    values = [0, 3, 99.99, 100, 101, 5000, 1e6]
    bins = measures.blur_histogram(values)
    assert sum(count for _, count in bins) == len(values)
    assert sum(count for edge, count in bins if edge < 100) == 3
    assert 100 in [edge for edge, _ in bins]
