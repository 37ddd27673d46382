from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from face_crop_plus import Cropper
from faces_support import Portrait, encoded
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from settings import group

from pttfaces import files, images, tables
from pttfaces.errors import DataError
from pttfaces.faces import alignment
from pttfaces.faces.alignment import FaceCropper
from pttfaces.faces.detectors import make_detector
from pttfaces.images import decode
from pttfaces.tables import CropRow, Detection, columns


@pytest.fixture(scope="module")
def cropper() -> FaceCropper:
    return FaceCropper(group("crop"))


def difference(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left.astype(int) - right).mean())


def test_crop_of_the_same_landmarks_equals_face_crop_plus_s(
    tmp_path: Path, portraits: list[Portrait], cropper: FaceCropper
) -> None:
    chosen = portraits[:3]
    names = [f"{number}.png" for number in range(len(chosen))]
    for name, portrait in zip(names, chosen, strict=True):
        files.write_bytes(tmp_path / "in" / name, portrait.png())
    given = np.stack([portrait.landmarks for portrait in chosen]).astype(np.float32)
    peer = Cropper(output_size=256, face_factor=0.65, padding="replicate", landmarks=(given, names))
    peer.landmarks = (given, np.array(names))
    peer.process_dir(str(tmp_path / "in"), str(tmp_path / "out"), desc=None)
    for name, portrait in zip(names, chosen, strict=True):
        crop = cropper.crop(portrait.pixels, portrait.landmarks)
        assert crop is not None
        assert (crop.pixels == images.read_rgb([tmp_path / "out" / name])[0]).all()


def test_crop_of_any_pose_puts_the_eyes_at_the_same_place(
    portraits: list[Portrait], cropper: FaceCropper
) -> None:
    """A dot on each true eye, drawn into the image, is where alignment should bring it."""
    places = []
    for portrait in portraits:
        marked = np.zeros_like(portrait.pixels)
        for x, y in portrait.landmarks[:2]:
            cv2.circle(marked, (round(x), round(y)), 3, (255, 255, 255), -1)
        crop = cropper.crop(marked, portrait.landmarks)
        assert crop is not None
        weight = crop.pixels[..., 0].astype(float)
        columns = np.arange(256)
        halves = (columns < 128, columns >= 128)
        places.append([(weight * half * columns).sum() / (weight * half).sum() for half in halves])
    spread = np.array(places).std(axis=0)
    assert spread.max() < 256 * 0.03


def test_crop_of_an_image_rotated_by_exif_is_the_same(
    portraits: list[Portrait], cropper: FaceCropper
) -> None:
    portrait, detector = portraits[2], make_detector(group("detect"))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(portrait.pixels).transpose(Image.Transpose.ROTATE_90)
    crops = []
    for content in (portrait.png(), encoded(turned, "PNG", exif=exif)):
        pixels = decode(content)
        crop = cropper.crop(pixels, detector.detect(pixels)[0].landmarks)
        assert crop is not None
        crops.append(crop.pixels)
    assert np.array_equal(crops[0], crops[1])


def test_crop_of_a_large_image_has_no_aliasing(cropper: FaceCropper) -> None:
    """Single-pixel stripes average to grey; skipping pixels would leave stripes."""
    stripes = np.zeros((3000, 3000, 3), np.uint8)
    stripes[:, ::2] = 255
    mean_face = cropper._cropper.landmarks_target / 256
    crop = cropper.crop(stripes, (mean_face * 2600 + 200).astype(np.float32))
    assert crop is not None
    assert crop.upscale < 0.11
    assert crop.pixels.std() < 12


def test_crop_of_an_image_that_is_shrunk_first_keeps_the_face_in_place(
    portraits: list[Portrait], cropper: FaceCropper
) -> None:
    portrait = portraits[4]
    larger = cv2.resize(portrait.pixels, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    small = cropper.crop(portrait.pixels, portrait.landmarks)
    large = cropper.crop(larger, (portrait.landmarks + 0.5) * 5 - 0.5)
    assert small is not None
    assert large is not None
    assert large.upscale == pytest.approx(small.upscale / 5, rel=1e-3)
    assert difference(small.pixels, large.pixels) < 3


def test_crop_of_landmarks_in_one_point_is_none(cropper: FaceCropper) -> None:
    assert cropper.crop(np.zeros((50, 50, 3), np.uint8), np.full((5, 2), 7, np.float32)) is None


@pytest.mark.parametrize("padding", ["constant", "replicate", "reflect", "reflect_101"])
@pytest.mark.parametrize("is_wide", [False, True])
def test_crop_of_an_image_longer_than_opencv_warps_is_that_of_its_part(
    padding: str, is_wide: bool
) -> None:
    """cv2.warpAffine takes sides up to 32,766 pixels."""
    cropper = FaceCropper(group("crop", padding=padding))
    part = np.random.default_rng(0).integers(0, 256, (1800, 700, 3), np.uint8)
    long = np.zeros((32767, 700, 3), np.uint8)
    long[: len(part)] = part
    points = np.array([[250, 500], [350, 500], [300, 560], [260, 620], [340, 620]], np.float32)
    if is_wide:
        part, long, points = (
            part.swapaxes(0, 1),
            long.swapaxes(0, 1),
            points + np.array([250, -250]),
        )
    found, expected = cropper.crop(long, points), cropper.crop(part, points)
    assert found is not None
    assert expected is not None
    assert difference(found.pixels, expected.pixels) < 0.1
    assert found.outside == pytest.approx(expected.outside, abs=1e-6)


@pytest.mark.parametrize("place", [(-1e7, 3e7), (40_000, 100)])
def test_crop_of_a_face_beyond_the_image_lies_outside(
    cropper: FaceCropper, place: tuple[float, float]
) -> None:
    mean_face = cropper._cropper.landmarks_target
    for shape in ((80, 100, 3), (33_000, 90, 3)):
        crop = cropper.crop(np.zeros(shape, np.uint8), (mean_face + place).astype(np.float32))
        assert crop is not None
        assert crop.outside == 1


@given(
    degrees=st.floats(-180, 180),
    distance=st.floats(20, 400),
    centre=st.tuples(st.floats(-50, 450), st.floats(-50, 550)),
)
def test_outside_is_the_share_of_pixels_that_show_nothing_of_the_image(
    degrees: float, distance: float, centre: tuple[float, float]
) -> None:
    cropper = FaceCropper(group("crop", padding="constant"))
    mean_face = cropper._cropper.landmarks_target
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = (mean_face - 128) / 100 * distance @ turn + centre
    crop = cropper.crop(np.full((500, 400, 3), 255, np.uint8), points.astype(np.float32))
    assert crop is not None
    assert crop.outside == pytest.approx(1 - crop.pixels.mean() / 255, abs=0.02)


def test_crop_all_of_an_image_that_is_gone_or_broken_says_so(
    tmp_path: Path, cropper: FaceCropper
) -> None:
    face = detected(f"{'a' * 64}.png", 0, cropper._cropper.landmarks_target)
    with pytest.raises(DataError, match=r"a\.png does not exist any more"):
        list(alignment.crop_all([[face]], tmp_path, tmp_path, cropper))
    (tmp_path / face.image).write_bytes(b"<html>")
    ((row,),) = alignment.crop_all([[face]], tmp_path, tmp_path, cropper)
    assert row.reason == "cannot be decoded: not a picture"


def test_crop_all_writes_measures_and_names_crops_after_their_image(
    tmp_path: Path, portraits: list[Portrait], cropper: FaceCropper
) -> None:
    faces = []
    for number, portrait in enumerate(portraits[:3]):
        name = f"{str(number) * 64}.png"
        files.write_bytes(tmp_path / "raw" / name, portrait.png())
        in_one_point = detected(name, 1, np.zeros((5, 2)))
        faces.append([detected(name, 0, portrait.landmarks), in_one_point])
    target = files.clean_folder(tmp_path / "crops")
    cropped = alignment.crop_all(faces, tmp_path / "raw", target, cropper)
    all_rows = [row for of_image in cropped for row in of_image]
    assert [row.face for row in all_rows] == [0, 1] * 3
    rows = [row for row in all_rows if not row.reason]
    assert [row.crop for row in rows] == [f"{str(n) * 16}-0.png" for n in range(3)]
    assert sorted(p.name for p in (tmp_path / "crops").iterdir()) == [row.crop for row in rows]
    assert {row.face_px for row in rows} == {120}
    assert all(row.sharpness > 0 and 0 < row.brightness < 255 for row in rows)
    assert {(row.crop, row.reason) for row in all_rows[1::2]} == {("", "cannot be aligned")}
    assert alignment.crop_metrics(all_rows)["not_aligned"] == 3
    tables.write(tmp_path / "crops.csv", all_rows, CropRow)
    read = tables.read(tmp_path / "crops.csv", CropRow)
    assert [str(row) for row in read] == [str(row) for row in all_rows]  # NaN is not equal to NaN


def detected(image: str, number: int, points: np.ndarray) -> Detection:
    box: dict[str, Any] = {"score": 0.7, "box_x": 0.0, "box_y": 0.0, "box_w": 120.0, "box_h": 150.0}
    landmarks: dict[str, Any] = dict(
        zip(columns(Detection)[9:19], points.ravel().tolist(), strict=True)
    )
    return Detection(image, 400, 480, number, **box, **landmarks, eyes_found=2)


def test_crop_metrics_without_a_crop_have_no_medians() -> None:
    counts = ("crops", "not_aligned", "upscaled", "beyond_image")
    assert alignment.crop_metrics([]) == dict.fromkeys(counts, 0)
