import contextlib
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from damage import DAMAGES, Damage
from faces_support import Portrait
from hypothesis import given
from PIL import Image

from pttfaces import files, tables
from pttfaces import images as pictures
from pttfaces.errors import DataError
from pttfaces.faces import detection
from pttfaces.faces.detectors.base import Detector, Face, Limits

LANDMARKS = np.arange(10, dtype=np.float32).reshape(5, 2)


def face(score: float, side: float) -> Face:
    return Face(score, (1.0, 2.0, side, side), LANDMARKS, 2)


class Counting(Detector):
    """Finds a large unsure, a small sure and a tiny face in every picture, and counts the calls."""

    name = "counting"

    def __init__(self, limits: Limits, version: int = 1) -> None:
        self.limits, self.identity, self.calls = limits, {"version": version}, 0

    def search(self, image: np.ndarray) -> list[Face]:
        self.calls += 1
        return [face(0.9, 60), face(0.5, 200), face(0.8, 10)]


def stored(folder: Path, *contents: bytes) -> list[detection.Picture]:
    listed = []
    for content in contents:
        sha256 = hashlib.sha256(content).hexdigest()
        files.write_bytes(folder / f"{sha256}.png", content)
        listed.append(detection.Picture(f"{sha256}.png", sha256))
    return listed


def table(
    pictures: list[detection.Picture], folder: Path, detector: Detector, which: str = "all"
) -> list[dict]:
    memory = detection.Memory(folder / "memory", detector)
    found = detection.search_all(pictures, folder, memory)
    return [
        row for picture, what in found for row in detection.rows_of(picture, what, detector, which)
    ]


def test_a_picture_is_searched_once_in_its_life(tmp_path: Path, portraits: list[Portrait]) -> None:
    pictures = stored(tmp_path, *(portrait.png() for portrait in portraits[:3]))
    detector = Counting(Limits())
    first = table(pictures, tmp_path, detector)
    assert detector.calls == 3
    for picture in pictures:
        (tmp_path / picture.path).unlink()
    assert table(pictures, tmp_path, detector) == first
    assert detector.calls == 3
    more = stored(tmp_path, portraits[3].png())
    table(pictures + more, tmp_path, detector)
    assert detector.calls == 4


@given(DAMAGES)
def test_a_damaged_memory_of_a_picture_is_made_anew(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    folder = tmp_path_factory.mktemp("memory")
    pixels = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    listed = stored(folder, pictures.png_bytes(pixels))
    detector = Counting(Limits())
    first = table(listed, folder, detector)
    (kept,) = (folder / "memory").rglob("*.json")
    kept.write_bytes(damage.of(kept.read_bytes()))
    assert table(listed, folder, detector) == first
    assert detector.calls == 2


def test_other_limits_do_not_search_again_and_another_detector_does(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    pictures = stored(tmp_path, portraits[0].png())
    assert len(table(pictures, tmp_path, Counting(Limits(0.0, 8, 640)))) == 3
    stricter = Counting(Limits(0.85, 8, 640))
    assert len(table(pictures, tmp_path, stricter)) == 1
    assert stricter.calls == 0
    other = Counting(Limits(), version=2)
    table(pictures, tmp_path, other)
    assert other.calls == 1


def test_changed_code_searches_again(
    tmp_path: Path, portraits: list[Portrait], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = stored(tmp_path, portraits[0].png())[0]
    detector = Counting(Limits())
    code = Path(detection.__file__).parent
    monkeypatch.setattr(detection, "__file__", str(tmp_path / "code" / "detection.py"))
    for name in ("decode.py", "detection.py", "face.py"):
        files.write_bytes(tmp_path / "code" / name, (code / name).read_bytes())
    table([picture], tmp_path, detector)
    for calls, name in enumerate(("decode.py", "detection.py", "face.py"), 2):
        changed = tmp_path / "code" / name
        changed.write_text(changed.read_text("utf-8") + "\n", encoding="utf-8")
        table([picture], tmp_path, detector)
        table([picture], tmp_path, detector)
        assert detector.calls == calls


def test_changed_code_of_a_detector_searches_again(
    tmp_path: Path, portraits: list[Portrait], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = stored(tmp_path, portraits[0].png())[0]
    detector, module = Counting(Limits()), sys.modules[__name__]
    table([picture], tmp_path, detector)
    (tmp_path / "other.py").write_text("")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "other.py"))
    table([picture], tmp_path, detector)
    assert detector.calls == 2


class Batched(Counting):
    """A detector that wants three pictures at once; tells one picture from another."""

    batch_size = 3

    def search_many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        self.calls += 1
        assert 0 < len(images) <= self.batch_size
        return [[face(0.9, float(image.mean()) + 100)] for image in images]


def test_a_detector_of_several_pictures_at_once_gives_each_its_own_faces(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    shapes = [portrait.pixels[: 480 - 20 * (n % 3)] for n, portrait in enumerate(portraits[:11])]
    contents = [pictures.png_bytes(Image.fromarray(pixels)) for pixels in shapes]
    listed = stored(tmp_path, *contents[:5], b"broken", *contents[5:])
    detector = Batched(Limits())
    rows = table(listed, tmp_path, detector)
    assert [row["image"] for row in rows] == [picture.path for picture in listed]
    assert rows.pop(5)["reason"].startswith("cannot be decoded")
    widths = [f"{pixels.mean() + 100:.2f}" for pixels in shapes]
    assert [row["box_w"] for row in rows] == widths
    calls = detector.calls
    assert calls < len(shapes)
    table(listed, tmp_path, detector)
    assert detector.calls == calls, "each is searched once in its life"


@pytest.mark.parametrize(
    ("which", "expected"),
    [("largest", [(0, "0.50")]), ("best", [(1, "0.90")]), ("all", [(0, "0.50"), (1, "0.90")])],
)
def test_the_faces_that_count(
    tmp_path: Path, portraits: list[Portrait], which: str, expected: list[tuple[int, str]]
) -> None:
    pictures = stored(tmp_path, portraits[0].png())
    rows = table(pictures, tmp_path, Counting(Limits(0.0, 48, 640)), which)
    assert [(row["face"], row["score"]) for row in rows] == expected


def test_broken_and_faceless_pictures_have_a_row_with_the_reason(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    pictures = stored(tmp_path, b"<html>", portraits[0].png())
    rows = table(pictures, tmp_path, Counting(Limits(min_size=4000)))
    assert [row["reason"] for row in rows] == ["cannot be decoded: not a picture", "no face"]
    counts = detection.summary(rows)
    assert (counts["pictures"], counts["unreadable"], counts["without_face"]) == (2, 1, 1)


def test_a_picture_of_the_ledger_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png is in the ledger"):
        table([detection.Picture("gone.png", "0" * 64)], tmp_path, Counting(Limits()))


def test_the_table_gives_the_faces_back(tmp_path: Path, portraits: list[Portrait]) -> None:
    pictures = stored(tmp_path, portraits[0].png(), b"broken")
    rows = table(pictures, tmp_path, Counting(Limits(min_size=48)))
    tables.write_dicts(tmp_path / "table.csv", rows, detection.COLUMNS)
    read = tables.read_csv(tmp_path / "table.csv", numbers=detection.NUMBERS)
    ((image, faces),) = detection.located_faces(read)
    assert image == pictures[0].path
    assert [(f.number, f.face_px, f.score) for f in faces] == [(0, 200, 0.5), (1, 60, 0.9)]
    assert (faces[0].landmarks == LANDMARKS).all()


@given(DAMAGES)
def test_a_damaged_table_of_detections_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    path = tmp_path_factory.mktemp("table") / "detections.csv"
    detector = Counting(Limits(min_size=100))
    found = detection.Found(300, 200, detector.search(np.zeros((2, 2, 3), np.uint8)))
    rows = [
        row
        for name in ("a.jpg", "b.jpg")
        for row in detection.rows_of(detection.Picture(name, name), found, detector, "all")
    ]
    rows.append({"image": "c.jpg", "reason": "cannot be decoded: broken"})
    tables.write_dicts(path, rows, detection.COLUMNS)
    path.write_bytes(damage.of(path.read_bytes()))
    with contextlib.suppress(DataError):
        table = tables.read_csv(path, detection.COLUMNS, detection.NUMBERS)
        for _, faces in detection.located_faces(table):
            assert all(face.landmarks.shape == (5, 2) for face in faces)
