import io

import cv2
import numpy as np
import pytest
from faces_support import Portrait, encoded
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pttfaces.curation import duplicates
from pttfaces.faces import quality


def test_blur_is_opencv_s_variance_of_the_laplacian(portraits: list[Portrait]) -> None:
    crop = np.ascontiguousarray(portraits[0].pixels[:256, :256])
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    assert quality.laplacian_variance(crop) == cv2.Laplacian(grey, cv2.CV_64F).var()


def test_blur_falls_as_a_crop_is_blurred(portraits: list[Portrait]) -> None:
    crop = np.ascontiguousarray(portraits[0].pixels[:256, :256])
    found = [
        quality.laplacian_variance(cv2.GaussianBlur(crop, (0, 0), sigma) if sigma else crop)
        for sigma in (0, 1, 2, 4)
    ]
    assert found == sorted(found, reverse=True)


def test_blur_of_another_crop_size_is_that_of_the_crop_at_256(portraits: list[Portrait]) -> None:
    crop = np.ascontiguousarray(portraits[0].pixels[:256, :256])
    doubled = crop.repeat(2, axis=0).repeat(2, axis=1)
    expected = quality.laplacian_variance(crop)
    assert quality.laplacian_variance(doubled) == pytest.approx(expected, rel=0.05)


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


def test_the_perceptual_hash_knows_a_copy_and_tells_others_apart(
    portraits: list[Portrait],
) -> None:
    crops = [Image.fromarray(portrait.pixels).resize((256, 256)) for portrait in portraits[:4]]
    copy = Image.open(io.BytesIO(encoded(crops[0].resize((150, 150)), "JPEG", quality=70)))
    hashes = [quality.perceptual_hash(np.asarray(crop)) for crop in crops]
    hashes.append(quality.perceptual_hash(np.asarray(copy.resize((256, 256)))))
    assert {4 * len(text) for text in hashes} == {quality.HASH_BITS}
    assert duplicates.repeats(hashes, 30) == [None, None, None, None, 0]
    assert duplicates.alike(hashes[:1], hashes, 30) == [0, 4]


@given(hashes=st.lists(st.binary(min_size=32, max_size=32), max_size=30), bits=st.integers(0, 128))
def test_whatever_repeats_is_alike_and_whatever_is_kept_is_not(
    hashes: list[bytes], bits: int
) -> None:
    def differing(left: int, right: int) -> int:
        numbers = [int.from_bytes(hashes[place]) for place in (left, right)]
        return (numbers[0] ^ numbers[1]).bit_count()

    found = duplicates.repeats([content.hex() for content in hashes], bits)
    kept = [place for place, other in enumerate(found) if other is None]
    assert all(differing(a, b) > bits for a in kept for b in kept if a < b)
    assert all(differing(place, of) <= bits for place, of in enumerate(found) if of is not None)
    assert all(of in kept for of in found if of is not None)


def test_the_histogram_counts_every_crop_and_has_an_edge_at_the_original_s_threshold() -> None:
    values = [0, 3, 99.99, 100, 101, 5000, 1e6]
    bins = quality.blur_histogram(values)
    assert sum(count for _, count in bins) == len(values)
    assert sum(count for edge, count in bins if edge < 100) == 3
    assert 100 in [edge for edge, _ in bins]
