from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from faces_support import Portrait
from skimage.data import astronaut

from pttfaces.demo import drawing
from pttfaces.errors import ParamsError, WeightsError
from pttfaces.faces import haar
from pttfaces.faces.detectors import Face, make_detector

YUNET = Path(".cache/weights/face_detection_yunet_2023mar.onnx").absolute()


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
    detector = make_detector("haar")
    found = [detector.detect(portrait.pixels) for portrait in portraits]
    assert [len(faces) for faces in found] == [1] * len(portraits)
    assert all(faces[0].eyes_found == 2 for faces in found)
    distances = np.array([errors(f[0], p) for f, p in zip(found, portraits, strict=True)])
    assert distances[:, :2].max() < 0.12, "eyes"
    assert distances.mean(axis=1).max() < 0.12, "all five, on average over a face"


@pytest.mark.skipif(not YUNET.exists(), reason="YuNet's file is not in .cache/weights")
def test_yunet_finds_drawn_faces_and_their_landmarks(portraits: list[Portrait]) -> None:
    detector = make_detector("yunet", str(YUNET))
    found = [detector.detect(portrait.pixels) for portrait in portraits]
    assert [len(faces) for faces in found] == [1] * len(portraits)
    distances = [errors(f[0], p)[:2].max() for f, p in zip(found, portraits, strict=True)]
    assert max(distances) < 0.12


def test_haar_finds_one_face_with_both_eyes_on_a_photograph() -> None:
    (face,) = make_detector("haar").detect(astronaut())
    assert face.eyes_found == 2
    # Eyes of the astronaut as read off the photograph, whose eyes are 45 pixels apart.
    assert np.abs(face.landmarks[:2] - [[201, 105], [245, 105]]).max() < 0.12 * 45
    assert 0.5 < face.score < 1


def test_haar_finds_the_same_face_in_a_much_larger_picture(portraits: list[Portrait]) -> None:
    portrait = portraits[1]
    small = make_detector("haar").detect(portrait.pixels)[0]
    larger = cv2.resize(portrait.pixels, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    face = make_detector("haar", max_side=480).detect(larger)[0]
    distance = np.linalg.norm(small.landmarks[1] - small.landmarks[0])
    assert np.abs((face.landmarks + 0.5) / 4 - 0.5 - small.landmarks).max() < 0.06 * distance


def test_haar_sees_no_face_in_scenes() -> None:
    detector = make_detector("haar")
    scenes = [drawing.scene(np.random.default_rng(seed)) for seed in range(6)]
    assert [detector.detect(np.asarray(s.image.convert("RGB"))) for s in scenes] == [[]] * 6


def test_faces_come_largest_first_and_within_the_limits() -> None:
    rng = np.random.default_rng(3)
    group = drawing.group([drawing.Person.random(rng) for _ in range(3)], rng)
    pixels = np.asarray(group.image.convert("RGB"))
    faces = make_detector("haar").detect(pixels)
    assert len(faces) == 3
    assert [face.area for face in faces] == sorted((f.area for f in faces), reverse=True)
    middle = sorted(face.score for face in faces)[1]
    assert len(make_detector("haar", threshold=middle).detect(pixels)) == 2
    assert make_detector("haar", min_size=300).detect(pixels) == []


def test_of_faces_in_one_place_the_surest_stays() -> None:
    points = np.zeros((5, 2), np.float32)
    sure = Face(0.8, (177, 151, 174, 174), points, 2)
    figure = Face(0.3, (72, 38, 390, 390), points, 1)
    beside = Face(0.5, (340, 151, 174, 174), points, 2)
    assert haar._one_a_place([figure, beside, sure]) == [sure, beside]


def test_a_picture_smaller_than_any_face_has_none() -> None:
    assert make_detector("haar").detect(np.zeros((5, 3, 3), np.uint8)) == []


def test_the_number_of_threads_changes_nothing(portraits: list[Portrait]) -> None:
    detector, before = make_detector("haar"), cv2.getNumThreads()
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


def test_threads_may_share_a_detector(portraits: list[Portrait]) -> None:
    detector = make_detector("haar")
    alone = [detector.detect(portrait.pixels) for portrait in portraits[:4]]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.detect, [p.pixels for p in portraits[:4]] * 2))
    assert all(same(a, b) for a, b in zip(alone * 2, together, strict=True))


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "yunet.onnx"
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"not the expected file.*detect\.weights"):
        make_detector("yunet", str(path))


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    for name in ("yunet", "retinaface"):
        with pytest.raises(WeightsError, match=r"nowhere\.bin does not exist"):
            make_detector(name, str(tmp_path / "nowhere.bin"))


def test_an_unknown_detector_is_refused() -> None:
    with pytest.raises(ParamsError, match="haar, yunet, retinaface"):
        make_detector("viola")


def test_retinaface_refuses_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "retinaface_detector.pth"
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="does not hold its weights"):
        make_detector("retinaface", str(path))


def test_retinaface_gives_what_face_crop_plus_predicts(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    """With random weights: what is compared is what is made of the network's output."""
    import torch
    from face_crop_plus.models.retinaface import RetinaFace

    torch.manual_seed(0)
    network = RetinaFace(strategy="all", vis=0.2).eval()
    path = tmp_path / "retinaface_detector.pth"
    torch.save(network.state_dict(), path)
    pixels = cv2.resize(portraits[0].pixels, (96, 64), interpolation=cv2.INTER_AREA)
    found = make_detector("retinaface", str(path), min_size=1).search(pixels)
    expected, _ = network.predict(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())
    assert len(found) == len(expected) > 0
    landmarks = np.stack([face.landmarks for face in found])
    np.testing.assert_allclose(landmarks, expected, atol=1e-3)
    assert all(0.2 < face.score <= 1 for face in found)
