import cv2
import numpy as np
import pytest
from faces_support import Portrait

from pttfaces.faces import quality


def test_sharpness_is_opencv_s_variance_of_the_laplacian(portraits: list[Portrait]) -> None:
    crop = np.ascontiguousarray(portraits[0].pixels[:256, :256])
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    assert quality.sharpness(crop) == cv2.Laplacian(grey, cv2.CV_64F).var()


def test_sharpness_falls_as_a_crop_is_blurred(portraits: list[Portrait]) -> None:
    crop = np.ascontiguousarray(portraits[0].pixels[:256, :256])
    found = [
        quality.sharpness(cv2.GaussianBlur(crop, (0, 0), sigma) if sigma else crop)
        for sigma in (0, 1, 2, 4)
    ]
    assert found == sorted(found, reverse=True)


def test_sharpness_of_another_size_is_that_of_the_crop_at_256(
    portraits: list[Portrait],
) -> None:
    crop = np.ascontiguousarray(portraits[0].pixels[:256, :256])
    doubled = crop.repeat(2, axis=0).repeat(2, axis=1)
    expected = quality.sharpness(crop)
    assert quality.sharpness(doubled) == pytest.approx(expected, rel=0.05)


def test_brightness_is_the_mean_grey() -> None:
    assert quality.brightness(np.full((8, 8, 3), 77, np.uint8)) == 77


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 0, 0), (0, 20, 0), (0, 0, 15), (-25, 10, -20)])
def test_pose_is_that_of_a_head_turned_so(angles: tuple[float, float, float]) -> None:
    """A head in space, its nose towards the viewer, is turned and looked at from afar."""
    yaw, pitch, roll = np.radians(angles)
    head = np.array([[-1, 0, 0], [1, 0, 0], [0, 1.2, -0.9], [-0.8, 2.1, 0], [0.8, 2.1, 0]])
    up = [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
    aside = [[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]]
    round_ = [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    seen = (head @ np.transpose(np.array(round_) @ aside @ up))[:, :2] * 37 + [300, 200]
    pose = quality.pose(seen.astype(np.float32))
    assert np.abs(np.array([pose.yaw, pose.pitch, pose.roll]) - angles).max() < 4


def test_sharpness_histogram_counts_every_crop_with_an_edge_at_the_threshold() -> None:
    """At 100, the original's."""
    values = [0, 3, 99.99, 100, 101, 5000, 1e6]
    bins = quality.sharpness_histogram(values)
    assert sum(one.crops for one in bins) == len(values)
    assert sum(one.crops for one in bins if one.variance < 100) == 3
    assert 100 in [one.variance for one in bins]
