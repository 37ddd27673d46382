import cv2
import numpy as np
import pytest
import settings
from faces_support import Portrait, draw
from PIL import Image
from skimage import data

from pttfaces.faces import alignment, quality


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


FACE = quality.face_mask(64, 0.65)


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    """Three drawn faces, aligned at 256 px."""
    cropper, found = alignment.FaceCropper(settings.group("crop")), []
    for seed in range(3):
        portrait = draw(seed)
        aligned = cropper.crop(portrait.pixels, portrait.landmarks)
        assert aligned
        found.append(aligned.pixels)
    return found


def small(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.LANCZOS))


def degraded(crop: np.ndarray) -> dict[str, np.ndarray]:
    """The crop (256, 256, 3), visibly worse at 64 px in several ways."""
    rng = np.random.default_rng(1)
    behind = cv2.GaussianBlur(crop, (0, 0), 6)
    for part in (np.s_[:, :40], np.s_[:, -40:]):
        behind[part] = rng.integers(0, 255, behind[part].shape)
    tiny = [cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA) for side in (24, 20)]
    return {
        "defocus": cv2.GaussianBlur(crop, (0, 0), 5),
        "motion across": cv2.blur(crop, (24, 1)),
        "motion down": cv2.blur(crop, (1, 24)),
        "grain": np.clip(crop + rng.normal(0, 80, crop.shape), 0, 255).astype(np.uint8),
        "enlarged": cv2.resize(tiny[0], (256, 256), interpolation=cv2.INTER_CUBIC),
        "mosaic": cv2.resize(tiny[1], (256, 256), interpolation=cv2.INTER_NEAREST),
        "before a sharp background": behind,
        "blank": np.full_like(crop, 90),
    }


def test_face_sharpness_falls_to_half_in_whatever_way_a_face_is_degraded(
    faces: list[np.ndarray],
) -> None:
    """The variance of the Laplacian of the whole crop rises with grain, mosaic and background."""
    for crop in faces:
        sharp = quality.face_sharpness(small(crop), FACE)
        assert sharp > 300
        for kind, pixels in degraded(crop).items():
            assert quality.face_sharpness(small(pixels), FACE) < sharp / 2, kind
    assert quality.sharpness(degraded(faces[0])["grain"]) > quality.sharpness(faces[0])


def test_face_sharpness_of_a_photograph_falls_alike() -> None:
    crop = cv2.resize(data.astronaut()[:200, 124:324], (256, 256), interpolation=cv2.INTER_CUBIC)
    sharp = quality.face_sharpness(small(crop), FACE)
    assert sharp > 100
    for kind, pixels in degraded(crop).items():
        assert quality.face_sharpness(small(pixels), FACE) < sharp / 2, kind


@pytest.mark.parametrize("side", [8, 64, 256])
def test_face_mask_scales_with_the_image_and_the_face_factor(side: int) -> None:
    whole, half = (quality.face_mask(side, factor) for factor in (1.0, 0.5))
    assert whole.shape == (side, side)
    assert half.sum() == pytest.approx(whole.sum() / 4, rel=0.1 if side > 8 else 0.5)
    assert np.array_equal(whole, whole[:, ::-1])
    assert quality.face_mask(side, 0.001).any()


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
    assert np.abs(np.array(quality.pose(seen.astype(np.float32))) - angles).max() < 4
