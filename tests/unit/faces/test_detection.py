import contextlib
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import DAMAGES, Damage
from faces_support import Portrait, ledger_row
from hypothesis import given
from PIL import Image
from settings import group

from pttfaces import config, files, images, tables
from pttfaces.errors import DataError
from pttfaces.faces import detection
from pttfaces.faces.detectors.base import Detector, Face
from pttfaces.tables import Detection, LedgerRow

LANDMARKS = np.arange(10, dtype=np.float32).reshape(5, 2)


def face(score: float, side: float) -> Face:
    return Face(score, (1.0, 2.0, side, side), LANDMARKS, 2)


def options(**changes: Any) -> config.Detect:
    """The group `detect`, in which every face counts."""
    return group("detect", **{"faces": "all"} | changes)


class Counting(Detector):
    """Finds a large unsure, a small sure and a tiny face in every image, and counts the calls."""

    name = "counting"

    def __init__(self, identity: int = 1, cache_version: str = "1", **changes: Any) -> None:
        self.options, self.calls = options(**changes), 0
        self.identity, self.cache_version = {"identity": identity}, cache_version

    def look(self, image: np.ndarray) -> list[Face]:
        self.calls += 1
        return [face(0.9, 60), face(0.5, 200), face(0.8, 10)]

    def is_sure(self, face: Face) -> bool:
        return True


def stored(folder: Path, *contents: bytes) -> list[LedgerRow]:
    rows = []
    for content in contents:
        sha256 = hashlib.sha256(content).hexdigest()
        files.write_bytes(folder / f"{sha256}.png", content)
        rows.append(ledger_row(f"{sha256}.png", sha256))
    return rows


def table(listed: list[LedgerRow], folder: Path, detector: Detector) -> list[Detection]:
    cache = detection.DetectionCache(folder / "cache", detector)
    results = detection.search_all(listed, folder, cache)
    return [
        row for image, found in results for row in detection.table_rows(image.path, found, detector)
    ]


def test_search_all_of_the_same_image_searches_it_once(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    listed = stored(tmp_path, *(portrait.png() for portrait in portraits[:3]))
    detector = Counting()
    first = table(listed, tmp_path, detector)
    assert detector.calls == 3
    for image in listed:
        (tmp_path / image.path).unlink()
    assert table(listed, tmp_path, detector) == first
    assert detector.calls == 3
    more = stored(tmp_path, portraits[3].png())
    table(listed + more, tmp_path, detector)
    assert detector.calls == 4


def test_search_all_with_a_cut_result_in_the_cache_searches_again(tmp_path: Path) -> None:
    pixels = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    listed = stored(tmp_path, images.png_bytes(pixels))
    detector = Counting()
    first = table(listed, tmp_path, detector)
    (kept,) = (tmp_path / "cache").rglob("*.json")
    for length in (0, 1, kept.stat().st_size - 1):
        kept.write_bytes(kept.read_bytes()[:length])
        assert table(listed, tmp_path, detector) == first
    assert detector.calls == 4


def test_search_all_with_other_limits_uses_the_cache_and_another_detector_does_not(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    listed = stored(tmp_path, portraits[0].png())
    assert len(table(listed, tmp_path, Counting(min_size=8))) == 3
    stricter = Counting(min_size=8, threshold=0.85)
    assert len(table(listed, tmp_path, stricter)) == 1
    assert stricter.calls == 0
    other = Counting(identity=2)
    table(listed, tmp_path, other)
    assert other.calls == 1


def test_search_all_with_another_cache_version_searches_again(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    rows = stored(tmp_path, portraits[0].png())
    detectors = [Counting(cache_version=version) for version in ("1", "2", "1")]
    for detector in detectors:
        table(rows, tmp_path, detector)
    assert [detector.calls for detector in detectors] == [1, 1, 0]


class Batched(Counting):
    """A detector that takes three images at once, and finds another face in each."""

    batch_size = 3

    def look_many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        self.calls += 1
        assert 0 < len(images) <= self.batch_size
        return [[face(0.9, float(image.mean()) + 100)] for image in images]


def test_search_all_in_batches_gives_each_image_its_own_faces(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    shapes = [portrait.pixels[: 480 - 20 * (n % 3)] for n, portrait in enumerate(portraits[:11])]
    contents = [images.png_bytes(Image.fromarray(pixels)) for pixels in shapes]
    listed = stored(tmp_path, *contents[:5], b"broken", *contents[5:])
    detector = Batched(min_size=8)
    rows = table(listed, tmp_path, detector)
    assert [row.image for row in rows] == [image.path for image in listed]
    assert rows.pop(5).reason.startswith("cannot be decoded")
    assert [row.box_w for row in rows] == [float(pixels.mean()) + 100 for pixels in shapes]
    calls = detector.calls
    assert calls < len(shapes)
    table(listed, tmp_path, detector)
    assert detector.calls == calls, "each is searched once"


@pytest.mark.parametrize(
    ("which", "expected"),
    [("largest", [(1, 0.9)]), ("best", [(1, 0.9)]), ("all", [(0, 0.5), (1, 0.9)])],
)
def test_table_rows_have_the_faces_that_detect_faces_selects(
    tmp_path: Path, portraits: list[Portrait], which: str, expected: list[tuple[int, float]]
) -> None:
    listed = stored(tmp_path, portraits[0].png())
    rows = table(listed, tmp_path, Counting(min_size=48, faces=which))
    assert [(row.face, row.score) for row in rows] == expected


def test_select_faces_takes_the_largest_of_those_with_a_score_near_the_best() -> None:
    """A large box of a low score beside a good face is seldom a face."""
    faces = [face(0.7, 300), face(0.76, 200), face(0.9, 100), face(0.6, 20)]
    assert detection.select_faces(faces, "largest") == [(1, faces[1])]
    assert detection.select_faces(faces[2:], "largest") == [(0, faces[2])]
    assert detection.select_faces([], "largest") == []


def test_table_rows_of_broken_images_and_of_those_without_a_face_give_the_reason(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    class Blind(Counting):
        def look(self, image: np.ndarray) -> list[Face]:
            return []

    listed = stored(tmp_path, b"<html>", portraits[0].png())
    rows = table(listed, tmp_path, Counting(min_size=4000))
    rows += table(listed[1:], tmp_path, Counting(threshold=0.95))
    rows += table(listed[1:], tmp_path, Counting(threshold=0.85, min_size=100))
    rows += table(listed[1:], tmp_path, Blind(identity=2))
    small, unsure = "smaller than detect.min_size", "below detect.threshold"
    assert [row.reason for row in rows] == [
        *("cannot be decoded: not a picture", small, unsure, small, "no face"),
    ]
    rows = [replace(row, image=str(number)) for number, row in enumerate(rows)]
    counts = detection.detection_metrics(rows)
    assert (counts["pictures"], counts["unreadable"], counts["without_face"]) == (5, 1, 4)
    assert counts["left_out"] == {"no face": 1, small: 2, unsure: 1}


def test_search_all_without_a_decoder_tries_again_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (listed,) = stored(tmp_path, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (row,) = table([listed], tmp_path, Counting())
    assert row.reason == "cannot be decoded: HEIC needs pillow-heif, which `make heic` installs"
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_search_all_when_an_image_is_gone_raises_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png is in the ledger"):
        table([ledger_row("gone.png", "0" * 64)], tmp_path, Counting())


def test_faces_by_image_of_a_written_table_gives_the_faces_back(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    listed = stored(tmp_path, portraits[0].png(), b"broken")
    rows = table(listed, tmp_path, Counting(min_size=48))
    tables.write(tmp_path / "table.csv", rows, Detection)
    (faces,) = detection.faces_by_image(tables.read(tmp_path / "table.csv", Detection))
    assert {face.image for face in faces} == {listed[0].path}
    found = [(face.face, detection.face_px(face), face.score) for face in faces]
    assert found == [(0, 200, 0.5), (1, 60, 0.9)]
    assert (detection.landmarks(faces[0]) == LANDMARKS).all()


def test_faces_by_image_of_a_face_without_a_position_raises_data_error(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    row = table(stored(tmp_path, portraits[0].png()), tmp_path, Counting())[0]
    for damage in ({"nose_x": None}, {"box_w": float("nan")}, {"eyes_found": None}):
        with pytest.raises(DataError, match="has a face without a position"):
            detection.faces_by_image([replace(row, **damage)])


def test_downloaded_images_are_those_of_the_ledger_each_once_by_path() -> None:
    rows = [ledger_row(path, path) for path in ("b.png", "", "a.png", "b.png")]
    assert [row.path for row in detection.downloaded_images(rows)] == ["a.png", "b.png"]


@given(DAMAGES)
def test_faces_by_image_of_a_damaged_table_raises_at_most_data_error(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    path = tmp_path_factory.mktemp("table") / "detections.csv"
    detector = Counting(min_size=100)
    found = detection.SearchResult(300, 200, detector.search(np.zeros((2, 2, 3), np.uint8)))
    rows = [
        row for name in ("a.jpg", "b.jpg") for row in detection.table_rows(name, found, detector)
    ]
    rows.append(Detection("c.jpg", reason="cannot be decoded: broken"))
    tables.write(path, rows, Detection)
    path.write_bytes(damage.of(path.read_bytes()))
    with contextlib.suppress(DataError):
        for faces in detection.faces_by_image(tables.read(path, Detection)):
            assert all(np.isfinite(detection.landmarks(face)).all() for face in faces)
