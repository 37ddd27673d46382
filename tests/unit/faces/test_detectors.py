import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from faces_support import Portrait
from settings import group, params
from skimage.data import astronaut

from pttfaces import config
from pttfaces.demo import drawing
from pttfaces.errors import ParamsError, WeightsError
from pttfaces.faces.detectors import Detector, Face, make_detector
from pttfaces.faces.detectors.base import angle_between, drop_overlapping
from pttfaces.faces.detectors.view import View

# Where the stage has downloaded it, or where PTTFACES_YUNET names it.
YUNET = Path(
    os.environ.get("PTTFACES_YUNET", ".cache/weights/face_detection_yunet_2023mar.onnx")
).absolute()


def make(name: str, weights: Path | None = None, **changes: Any) -> Detector:
    given = weights and str(weights)
    return make_detector(group("detect", detector=name, weights=given, **changes))


def errors(face: Face, portrait: Portrait) -> np.ndarray:
    """Distance of each landmark from the truth, in eye distances: (5,)."""
    distance = np.linalg.norm(portrait.landmarks[1] - portrait.landmarks[0])
    return np.linalg.norm(face.landmarks - portrait.landmarks, axis=1) / distance


def same(left: list[Face], right: list[Face]) -> bool:
    return len(left) == len(right) and all(
        (a.score, a.box, a.eyes_found) == (b.score, b.box, b.eyes_found)
        and (a.landmarks == b.landmarks).all()
        for a, b in zip(left, right, strict=True)
    )


def test_haar_finds_drawn_faces_and_their_landmarks(portraits: list[Portrait]) -> None:
    detector = make("haar")
    found = [detector.detect(portrait.pixels) for portrait in portraits]
    assert [len(faces) for faces in found] == [1] * len(portraits)
    assert all(faces[0].eyes_found == 2 for faces in found)
    distances = np.array([errors(f[0], p) for f, p in zip(found, portraits, strict=True)])
    assert distances[:, :2].max() < 0.12, "eyes"
    assert distances.mean(axis=1).max() < 0.12, "all five, on average over a face"


@pytest.mark.skipif(not YUNET.exists(), reason="YuNet's file is not in .cache/weights")
def test_yunet_finds_drawn_faces_and_their_landmarks(portraits: list[Portrait]) -> None:
    detector = make("yunet", YUNET)
    found = [detector.detect(portrait.pixels) for portrait in portraits]
    assert [len(faces) for faces in found] == [1] * len(portraits)
    distances = np.array([errors(f[0], p) for f, p in zip(found, portraits, strict=True)])
    assert distances[:, :2].mean() < 0.04, "eyes"
    assert distances.mean() < 0.04, "all five"
    assert distances.mean(axis=1).max() < 0.08, "all five, on average over a face"


@pytest.mark.skipif(not YUNET.exists(), reason="YuNet's file is not in .cache/weights")
def test_yunet_finds_nothing_in_narrow_images_without_a_face(portraits: list[Portrait]) -> None:
    """Whatever it searched before: what OpenCV computes of a side of 32 pixels is not written."""
    detector = make("yunet", YUNET)
    rng = np.random.default_rng(0)
    for portrait in portraits[:10]:
        assert len(detector.search(portrait.pixels)) == 1
        for _ in range(10):
            side, other = int(rng.integers(1, 33)), int(rng.integers(1, 640))
            shape = (side, other) if rng.random() < 0.5 else (other, side)
            assert detector.search(np.zeros((*shape, 3), np.uint8)) == [], shape


@pytest.mark.skipif(not YUNET.exists(), reason="YuNet's file is not in .cache/weights")
def test_yunet_places_the_landmarks_of_a_smaller_copy_alike(portraits: list[Portrait]) -> None:
    detector = make("yunet", YUNET)
    for portrait in portraits[:4]:
        half = cv2.resize(portrait.pixels, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
        (face,), (copy,) = detector.detect(portrait.pixels), detector.detect(half)
        again = replace(copy, landmarks=(copy.landmarks + 0.5) / 0.6 - 0.5)
        found = Portrait(portrait.pixels, face.landmarks)
        assert errors(again, found).max() < 0.08


@pytest.mark.parametrize("roll", [0.0, 90.0, -37.0])
@pytest.mark.parametrize(
    "box",
    [(0, 0, 30, 40), (-50, -60, 80, 90), (95, 75, 5, 5), (200, 300, 20, 20), (10, 5, 900, 900)],
)
def test_view_maps_its_points_back_to_the_image(
    box: tuple[float, float, float, float], roll: float
) -> None:
    """Also at a face on the edge, and at a box beyond it."""
    image = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
    view = View.of(image, box, 140, roll)
    assert view.pixels.shape == (320, 320, 3)
    centre, above = view.in_image(np.array([[159.5, 159.5], [159.5, 19.5]]))
    assert np.abs(centre - np.array(box[:2]) - np.array(box[2:]) / 2 + 0.5).max() < 1e-6
    side, angle = max(box[2:]), np.radians(roll)
    assert np.abs(above - centre - [side * np.sin(angle), -side * np.cos(angle)]).max() < 1e-6


@pytest.mark.parametrize("scale", [0.4, 2.0, 6.0])
@pytest.mark.parametrize("roll", [0.0, 25.0, 180.0])
def test_view_shows_the_face_upright_at_the_given_size(scale: float, roll: float) -> None:
    """Whatever its size and roll in the image: the means of what both views show are near."""
    image = cv2.GaussianBlur(astronaut(), (0, 0), 3)
    box = (165.0, 70.0, 110.0, 140.0)
    expected = View.of(image, box, 140).pixels.astype(int)
    centre = np.array(box[:2]) + np.array(box[2:]) / 2 - 0.5
    matrix = cv2.getRotationMatrix2D(centre.tolist(), -roll, scale)
    matrix[:, 2] += 700 * scale - centre  # where the face's middle is now
    side = round(1400 * scale)
    turned = cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
    extent = np.array(box[2:]) * scale
    left, top = 700 * scale + 0.5 - extent / 2
    found = View.of(turned, (left, top, *extent), 140, roll).pixels
    assert np.abs(found - expected).mean() < 4


def test_view_of_a_part_of_a_huge_image_is_sharp_and_not_aliased() -> None:
    stripes = np.zeros((4000, 4000, 3), np.uint8)
    stripes[:, ::2] = 255
    view = View.of(stripes, (500, 500, 3000, 3000), 140, 30)
    assert view.pixels.std() < 12


class Dots(Detector):
    """Sees a face in a red and a green eye and a blue mouth, if it is nearly upright; it sees half
    of its roll."""

    name, cache_version, identity = "dots", "1", {}

    def __init__(self, turns: bool, sure: bool = True) -> None:
        self.options, self.sure = group("detect", turns=turns, min_size=8), sure
        self.looks = 0

    def look(self, image: np.ndarray) -> list[Face]:
        self.looks += 1
        dots = []
        for channel in range(3):
            bright = image[..., channel].astype(int) - np.delete(image, channel, 2).max(axis=2)
            rows, columns = np.nonzero(bright > 100)
            if not len(rows):
                return []
            dots.append([columns.mean(), rows.mean()])
        left, right, mouth = np.array(dots)
        face = Face(0.9, (0, 0, 1, 1), np.array([left, right, mouth, mouth, mouth]), 2)
        if abs(face.roll) > 50:
            return []
        angle, middle = np.radians(face.roll / 2), np.array([left, right, mouth]).mean(axis=0)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = (face.landmarks - middle) @ turn + middle
        side = 2 * float(np.linalg.norm(right - left))
        box = (float(middle[0] - side / 2 + 0.5), float(middle[1] - side / 2 + 0.5), side, side)
        return [Face(0.9, box, points.astype(np.float32), 2)]

    def is_sure(self, face: Face) -> bool:
        return self.sure


def dots(degrees: float, shape: tuple[int, int] = (300, 240)) -> tuple[np.ndarray, np.ndarray]:
    """An image with such a face, turned clockwise; its eyes and mouth (3, 2)."""
    image = np.full((*shape, 3), 90, np.uint8)
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = np.array([[-20, -12], [20, -12], [0, 24]]) @ turn + (130, 140)
    for point, colour in zip(points, ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True):
        cv2.circle(image, [round(x) for x in point], 5, colour, -1)
    return image, points


@pytest.mark.parametrize("shape", [(300, 240), (240, 2000)])
@pytest.mark.parametrize("degrees", range(-165, 181, 15))
def test_search_with_turns_finds_a_face_at_any_roll(degrees: int, shape: tuple[int, int]) -> None:
    image, points = dots(degrees, shape)
    (face,) = Dots(turns=True).search(image)
    assert abs(angle_between(face.roll, degrees)) < 8
    assert np.abs(face.landmarks[:3] - points).max() < 4
    centre = np.array(face.box[:2]) + np.array(face.box[2:]) / 2 - 0.5
    assert np.abs(centre - points.mean(axis=0)).max() < 3
    assert face.box[2] == pytest.approx(80, rel=0.1)


def test_search_turns_an_image_only_where_no_face_is_sure() -> None:
    upright, lying = dots(0)[0], dots(90)[0]
    detector = Dots(turns=False)
    assert detector.search(lying) == []
    assert detector.looks == 1
    detector = Dots(turns=True)
    assert len(detector.search(upright)) == 1
    assert detector.looks == 1
    assert len(detector.search(lying)) == 1
    assert detector.looks == 1 + 5
    unsure = Dots(turns=True, sure=False)
    assert len(unsure.search(upright)) == 1, "what was seen stays"
    assert unsure.search(lying) == []


def test_haar_with_turns_finds_drawn_faces_in_every_quarter_turn(portraits: list[Portrait]) -> None:
    detector = make("haar", turns=True)
    for turns, portrait in enumerate(portraits[:4]):
        (face,) = detector.detect(np.ascontiguousarray(np.rot90(portrait.pixels, turns)))
        assert abs(angle_between(face.roll, -90 * turns)) < 15


@pytest.mark.skipif(not YUNET.exists(), reason="YuNet's file is not in .cache/weights")
@pytest.mark.parametrize("degrees", [0, 20, 45, 90, 135, 180])
def test_yunet_with_turns_places_the_landmarks_of_a_turned_photograph(degrees: int) -> None:
    detector, image = make("yunet", YUNET, turns=True), astronaut()
    (upright,) = detector.detect(image)
    matrix = cv2.getRotationMatrix2D((224, 130), -degrees, 1)
    matrix[:, 2] += (60, 150)
    turned = cv2.warpAffine(image, matrix, (640, 640), borderMode=cv2.BORDER_REPLICATE)
    faces = detector.detect(turned)
    face = max(faces, key=lambda face: face.score)
    expected = upright.landmarks @ matrix[:, :2].T + matrix[:, 2]
    eyes = np.linalg.norm(upright.landmarks[1] - upright.landmarks[0])
    assert np.linalg.norm(face.landmarks - expected, axis=1).max() < 0.15 * eyes


def test_haar_finds_one_face_with_both_eyes_on_a_photograph() -> None:
    (face,) = make("haar").detect(astronaut())
    assert face.eyes_found == 2
    # Eyes of the astronaut as read off the photograph, whose eyes are 45 pixels apart.
    assert np.abs(face.landmarks[:2] - [[201, 105], [245, 105]]).max() < 0.12 * 45
    assert 0.5 < face.score < 1


def test_haar_finds_the_same_face_in_a_much_larger_image(portraits: list[Portrait]) -> None:
    portrait = portraits[1]
    small = make("haar").detect(portrait.pixels)[0]
    larger = cv2.resize(portrait.pixels, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    face = make("haar", max_side=480).detect(larger)[0]
    distance = np.linalg.norm(small.landmarks[1] - small.landmarks[0])
    assert np.abs((face.landmarks + 0.5) / 4 - 0.5 - small.landmarks).max() < 0.06 * distance


def test_haar_sees_no_face_in_scenes() -> None:
    detector = make("haar")
    scenes = [drawing.scene(np.random.default_rng(seed)) for seed in range(6)]
    assert [detector.detect(np.asarray(s.image.convert("RGB"))) for s in scenes] == [[]] * 6


def test_detect_gives_faces_largest_first_within_the_limits() -> None:
    rng = np.random.default_rng(3)
    group = drawing.group([drawing.Person.random(rng) for _ in range(3)], rng)
    pixels = np.asarray(group.image.convert("RGB"))
    faces = make("haar").detect(pixels)
    assert len(faces) == 3
    assert [face.area for face in faces] == sorted((f.area for f in faces), reverse=True)
    middle = sorted(face.score for face in faces)[1]
    assert len(make("haar", threshold=middle).detect(pixels)) == 2
    assert make("haar", min_size=300).detect(pixels) == []


def test_drop_overlapping_keeps_the_earlier_face() -> None:
    points = np.zeros((5, 2), np.float32)
    sure = Face(0.8, (177, 151, 174, 174), points, 2)
    figure = Face(0.3, (72, 38, 390, 390), points, 1)
    beside = Face(0.5, (340, 151, 174, 174), points, 2)
    assert drop_overlapping([sure, beside, figure]) == [sure, beside]


def test_detect_in_an_image_smaller_than_any_face_finds_none() -> None:
    assert make("haar").detect(np.zeros((5, 3, 3), np.uint8)) == []


def test_detect_with_any_number_of_opencv_threads_finds_the_same(portraits: list[Portrait]) -> None:
    detector, before = make("haar"), cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = [detector.detect(portrait.pixels) for portrait in portraits[:4]]
        cv2.setNumThreads(4)
        assert all(
            same(faces, detector.detect(p.pixels))
            for faces, p in zip(alone, portraits[:4], strict=True)
        )
    finally:
        cv2.setNumThreads(before)


def test_detector_shared_by_threads_finds_the_same(portraits: list[Portrait]) -> None:
    detector = make("haar")
    alone = [detector.detect(portrait.pixels) for portrait in portraits[:4]]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.detect, [p.pixels for p in portraits[:4]] * 2))
    assert all(same(a, b) for a, b in zip(alone * 2, together, strict=True))


def test_make_detector_of_other_weights_raises_weights_error(tmp_path: Path) -> None:
    path = tmp_path / "yunet.onnx"
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"not the expected weights file.*detect\.weights"):
        make("yunet", path)


def test_make_detector_of_missing_weights_names_the_file(tmp_path: Path) -> None:
    for name in ("yunet", "retinaface"):
        with pytest.raises(WeightsError, match=r"nowhere\.bin does not exist"):
            make(name, tmp_path / "nowhere.bin")


def test_make_detector_of_other_weights_names_the_parameter_that_named_them(tmp_path: Path) -> None:
    path = tmp_path / "yunet.onnx"
    path.write_bytes(b"something else")
    of_evaluate = group("evaluate", detector="yunet", detector_weights=str(path))
    with pytest.raises(WeightsError, match=r"evaluate\.detector_weights"):
        make_detector(of_evaluate.face_detector(64), "evaluate.detector_weights")


def test_check_of_an_unknown_detector_raises_params_error() -> None:
    values = params().model_dump(by_alias=True)
    values["detect"]["detector"] = "viola"
    with pytest.raises(ParamsError, match=r"detect\.detector is 'viola'.*haar, yunet, retinaface"):
        config.check(values)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a weights file was unpickled",))


def test_retinaface_refuses_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "retinaface_detector.pth"
    torch.save({"body": Trap()}, path)
    with pytest.raises(WeightsError, match="does not hold its weights"):
        make("retinaface", path)
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="does not hold its weights"):
        make("retinaface", path)


def random_retinaface(path: Path) -> Any:
    """RetinaFace with random weights, which are written to `path`, too.

    Its landmarks are drawn into the image, where a trained network has them: thousands of pixels
    away, float32 itself is too coarse for what the tests ask.
    """
    import torch
    from face_crop_plus.models.retinaface import RetinaFace

    torch.manual_seed(0)
    network = RetinaFace(strategy="all", vis=0.2).eval()
    for head in network.LandmarkHead:
        head.conv1x1.weight.data *= 0.01
    torch.save(network.state_dict(), path)
    return network


# Sides that are multiples of 32, which the network's strides ask for, and sides that are padded.
@pytest.mark.parametrize("size", [(96, 64), (64, 128), (90, 60), (65, 97)])
def test_retinaface_gives_what_face_crop_plus_predicts(
    tmp_path: Path, portraits: list[Portrait], size: tuple[int, int]
) -> None:
    """With random weights: what is compared is what becomes of the network's output."""
    import torch

    path = tmp_path / "retinaface_detector.pth"
    network = random_retinaface(path)
    pixels = cv2.resize(portraits[0].pixels, size, interpolation=cv2.INTER_AREA)
    found = make("retinaface", path, min_size=1).search(pixels)
    mean = (123, 117, 104)  # RGB; face-crop-plus subtracts it, so that nothing is left of padding
    below, right = -size[1] % 32, -size[0] % 32
    padded = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_CONSTANT, value=mean)
    expected, _ = network.predict(torch.from_numpy(padded).permute(2, 0, 1)[None].float())
    assert len(found) == len(expected) > 0
    landmarks = np.stack([face.landmarks for face in found])
    np.testing.assert_allclose(landmarks, expected, rtol=0, atol=1e-3)
    assert all(0.2 < face.score <= 1 for face in found)


def test_retinaface_finds_in_a_batch_what_it_finds_alone(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    """With random weights and images of several shapes, some of which share a batch."""
    path = tmp_path / "retinaface_detector.pth"
    random_retinaface(path)
    detector = make("retinaface", path, min_size=1)
    sizes = [(96, 64), (90, 60), (64, 100), (96, 64)]
    images = [
        cv2.resize(portrait.pixels, size, interpolation=cv2.INTER_AREA)
        for portrait, size in zip(portraits, sizes, strict=False)
    ]
    for image, together in zip(images, detector.search_many(images), strict=True):
        alone = detector.search(image)
        assert len(together) == len(alone) > 0
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_allclose(one.landmarks, other.landmarks, rtol=0, atol=1e-3)
