"""The demo's drawn people: found by detectors, sharp or blurred, and the same every time."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pttfaces.demo.drawing import Drawing, Person, blurred, group, portrait, scene

FindFaces = Callable[..., np.ndarray]
SIZES = ((480, 640), (640, 480), (512, 512), (720, 540))
# Where face-crop-plus puts the five landmarks, as shares of the side of a crop with face_factor 1.
STANDARD = np.array(
    [(0.3156, 0.4616), (0.6826, 0.4616), (0.5003, 0.6405), (0.3495, 0.8247), (0.6534, 0.8247)]
)


def _portrait(seed: int) -> Drawing:
    rng = np.random.default_rng([404, seed])
    return portrait(Person.random(rng), rng, SIZES[seed % len(SIZES)])


@pytest.fixture(scope="module")
def portraits() -> list[Drawing]:
    return [_portrait(seed) for seed in range(48)]


@pytest.fixture(scope="module")
def find_faces() -> FindFaces:
    """Haar's frontal face cascade: equalised grey, scale 1.1, 5 neighbours."""
    path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(str(path))

    def find(drawing: Drawing, smallest: int = 96) -> np.ndarray:
        gray = cv2.equalizeHist(cv2.cvtColor(np.asarray(drawing.image), cv2.COLOR_RGB2GRAY))
        boxes = cascade.detectMultiScale(gray, 1.1, 5, minSize=(smallest, smallest))
        return np.asarray(boxes, np.float64).reshape(-1, 4)

    return find


def _holds(box: np.ndarray, landmarks: np.ndarray) -> bool:
    """Whether the centre of a box (x, y, width, height) lies amid a face's landmarks."""
    low, high = landmarks.min(0), landmarks.max(0)
    centre = box[:2] + box[2:] / 2
    return bool(np.all(centre > low) and np.all(centre < high))


def _found(drawing: Drawing, boxes: np.ndarray) -> bool:
    return len(boxes) > 0 and _holds(
        boxes[np.argmax(boxes[:, 2] * boxes[:, 3])], drawing.landmarks[0]
    )


def _crop(drawing: Drawing) -> np.ndarray:
    """The first face, aligned, 256 × 256, as face_factor 0.65 has it."""
    target = (STANDARD * 256 * 0.65 + 0.35 * 128).astype(np.float32)
    matrix, _ = cv2.estimateAffinePartial2D(
        drawing.landmarks[0], target, ransacReprojThreshold=1000.0
    )
    return cv2.warpAffine(
        np.asarray(drawing.image), matrix, (256, 256), borderMode=cv2.BORDER_REPLICATE
    )


def _laplacian_variance(drawing: Drawing) -> float:
    gray = cv2.cvtColor(_crop(drawing), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(gray, cv2.CV_64F).var())


def test_portrait_gives_faces_that_haar_nearly_always_finds(
    portraits: list[Drawing], find_faces: FindFaces
) -> None:
    found = [_found(drawing, find_faces(drawing)) for drawing in portraits]
    assert np.mean(found) >= 0.95


def test_group_gives_faces_that_haar_nearly_always_finds(find_faces: FindFaces) -> None:
    found = []
    for seed in range(8):
        rng = np.random.default_rng([405, seed])
        people = [Person.random(rng) for _ in range(2 + seed % 2)]
        drawing = group(people, rng, SIZES[seed % len(SIZES)])
        assert drawing.landmarks.shape == (len(people), 5, 2)
        assert np.all(np.diff(drawing.landmarks[:, 2, 0]) > 0)  # people stand from left to right
        boxes = find_faces(drawing)
        found += [any(_holds(box, face) for box in boxes) for face in drawing.landmarks]
    assert np.mean(found) >= 0.9


def test_scene_gives_images_in_which_haar_finds_nearly_no_face(find_faces: FindFaces) -> None:
    scenes = [scene(np.random.default_rng([406, k]), SIZES[k % len(SIZES)]) for k in range(20)]
    assert all(drawing.landmarks.shape == (0, 5, 2) for drawing in scenes)
    assert np.mean([len(find_faces(drawing, smallest=48)) > 0 for drawing in scenes]) <= 0.1


def test_blurred_of_a_sharp_portrait_falls_below_the_blur_threshold(
    portraits: list[Drawing], find_faces: FindFaces
) -> None:
    """Its face is still found."""
    soft = [blurred(drawing, np.random.default_rng(k)) for k, drawing in enumerate(portraits)]
    sharp_values = np.array([_laplacian_variance(drawing) for drawing in portraits])
    soft_values = np.array([_laplacian_variance(drawing) for drawing in soft])
    assert sharp_values.min() > 100
    assert np.mean(sharp_values > 150) > 0.97
    assert soft_values.max() < 50
    found = [_found(drawing, find_faces(drawing)) for drawing in soft[::4]]
    assert np.mean(found) >= 0.8


def test_portrait_gives_landmarks_inside_the_image_in_their_order(portraits: list[Drawing]) -> None:
    for seed, drawing in enumerate(portraits):
        assert drawing.image.size == SIZES[seed % len(SIZES)]
        assert drawing.image.mode == "RGB"
        assert drawing.landmarks.shape == (1, 5, 2)
        assert drawing.landmarks.dtype == np.float32
        left_eye, right_eye, nose, mouth_left, mouth_right = drawing.landmarks[0]
        assert np.all(drawing.landmarks > 0)
        assert np.all(drawing.landmarks < drawing.image.size)
        assert left_eye[0] < right_eye[0]
        assert mouth_left[0] < mouth_right[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(mouth_left[1], mouth_right[1])


def test_portrait_gives_landmarks_on_the_features_they_name(portraits: list[Drawing]) -> None:
    """Pupils are dark: the middle of an eye is darker than the cheek below it."""
    darker = []
    for drawing in portraits:
        gray = cv2.cvtColor(_crop(drawing), cv2.COLOR_RGB2GRAY).astype(np.float32)
        gray = cv2.GaussianBlur(gray, (0, 0), 3)
        for x, y in STANDARD[:2] * 256 * 0.65 + 0.35 * 128:
            darker.append(gray[round(y), round(x)] < gray[round(y) + 26, round(x)] - 15)
    assert np.mean(darker) > 0.9


def test_portrait_and_scene_of_the_same_seed_are_the_same_bytes() -> None:
    for draw in (_portrait, lambda seed: scene(np.random.default_rng(seed), (320, 240))):
        first, again = draw(3), draw(3)
        assert first.image.tobytes() == again.image.tobytes()
        assert np.array_equal(first.landmarks, again.landmarks)


def test_person_random_of_the_same_seed_is_the_same_person() -> None:
    people = [Person.random(np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert people[0] == people[1]
    assert len(set(people)) == 2


def test_portrait_with_any_number_of_opencv_threads_is_the_same_image() -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = _portrait(5).image.tobytes()
        cv2.setNumThreads(4)
        assert _portrait(5).image.tobytes() == alone
    finally:
        cv2.setNumThreads(threads)


def test_portrait_of_one_person_by_another_generator_is_another_image() -> None:
    person = Person.random(np.random.default_rng(8))
    one, other = (portrait(person, np.random.default_rng(k), (320, 320)) for k in (1, 2))
    assert one.image.tobytes() != other.image.tobytes()


def test_portrait_of_two_people_differs_more_than_two_of_one_person() -> None:
    """Distance of small aligned crops, each with its own mean and contrast taken out."""
    looks = []
    for k in range(12):
        person = Person.random(np.random.default_rng([407, k]))
        images = [portrait(person, np.random.default_rng([408, i]), (360, 360)) for i in (1, 2)]
        crops = [cv2.resize(_crop(p), (24, 24), interpolation=cv2.INTER_AREA) for p in images]
        looks.append([(c[2:22, 4:20] - c.mean()) / c.std() for c in crops])
    same = np.mean([np.abs(one - other).mean() for one, other in looks])
    apart = np.mean(
        [np.abs(looks[i][0] - looks[j][1]).mean() for i in range(12) for j in range(12) if i != j]
    )
    assert apart > 1.2 * same
    assert len({Person.random(np.random.default_rng(k)).hair for k in range(60)}) >= 6
