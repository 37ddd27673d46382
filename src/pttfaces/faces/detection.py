"""Finding the faces of many pictures, each once: the table of detections and the memory behind it.

Knows a folder of pictures and a detector; not where the pictures came from.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pttfaces import files
from pttfaces.errors import DataError
from pttfaces.faces.detectors.base import Detector, Face, within_limits
from pttfaces.faces.parallel import ordered_map
from pttfaces.images import UnreadableError, decode

_BATCHES = 3  # so many are decoded before the first is searched: like shapes find each other

Selection = Literal["largest", "best", "all"]

_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
LANDMARK_COLUMNS = tuple(f"{point}_{axis}" for point in _POINTS for axis in "xy")
COLUMNS = (
    *("image", "width", "height", "face", "score", "box_x", "box_y", "box_w", "box_h"),
    *LANDMARK_COLUMNS,
    *("eyes_found", "reason"),
)
_REAL = ("score", "box_x", "box_y", "box_w", "box_h", *LANDMARK_COLUMNS)
NUMBERS = {
    **dict.fromkeys(("width", "height", "face", "eyes_found"), "Int64"),
    **dict.fromkeys(_REAL, "Float64"),
}


@dataclass(frozen=True)
class Located:
    """A face of a picture, as the table has it.

    number: of the face in its picture; face_px: shorter side of its box, in pixels of the picture;
    landmarks: (5, 2) float32, in pixels of the picture; score: the detector's.
    """

    number: int
    face_px: float
    landmarks: np.ndarray
    score: float


@dataclass(frozen=True)
class Picture:
    """A picture to search. path: relative to the folder of pictures; sha256: of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Found:
    """What was found in a picture.

    width, height: in pixels, upright; 0 where the picture cannot be decoded, for which `reason`
    says why. faces: all that the detector saw, whatever its limits.
    """

    width: int
    height: int
    faces: list[Face]
    reason: str = ""


class Memory:
    """A detector that remembers: a picture is searched once in its life.

    folder: where the results lie, by content, detector and code; one small file a picture, so that
    a kill costs the pictures under way and no more.
    """

    def __init__(self, folder: Path, detector: Detector) -> None:
        self.detector = detector
        key = files.digest_json({"code": detector.cache_version, "detector": detector.identity})
        self._folder = folder / f"{detector.name}-{key[:16]}"

    def search(self, sha256: str, read: Callable[[], bytes]) -> Found:
        """What is in the picture of that digest; `read` gives its bytes if it is a new one."""
        opened = self.open(sha256, read)
        if isinstance(opened, Found):
            return opened
        return self.keep(sha256, opened, self.detector.search(opened))

    def open(self, sha256: str, read: Callable[[], bytes]) -> np.ndarray | Found:
        """A new picture's pixels (H, W, 3) uint8, to be searched; of others what is known."""
        if (known := self._known(sha256)) is not None:
            return known
        try:
            return decode(read())
        except UnreadableError as error:
            return self._write(sha256, Found(0, 0, [], f"cannot be decoded: {error}"))

    def keep(self, sha256: str, pixels: np.ndarray, faces: list[Face]) -> Found:
        """Remembers the faces of a picture that was searched."""
        height, width = pixels.shape[:2]
        return self._write(sha256, Found(width, height, faces))

    def _known(self, sha256: str) -> Found | None:
        """What is remembered of a picture; nothing, too, where its file is damaged."""
        path = self._path(sha256)
        content = files.unseal(path.read_bytes()) if path.exists() else None
        if content is None:
            return None
        value = json.loads(content)
        return Found(**{**value, "faces": [_face_of(face) for face in value["faces"]]})

    def _write(self, sha256: str, found: Found) -> Found:
        faces = [{**asdict(face), "landmarks": face.landmarks.tolist()} for face in found.faces]
        content = json.dumps({**asdict(found), "faces": faces}).encode()
        files.write_bytes(self._path(sha256), files.seal(content))
        return found

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / f"{sha256}.json"


def _face_of(value: dict[str, Any]) -> Face:
    landmarks = np.array(value["landmarks"], np.float32)
    return Face(value["score"], tuple(value["box"]), landmarks, value["eyes_found"])


def search_all(
    pictures: Iterable[Picture], folder: Path, memory: Memory
) -> Iterator[tuple[Picture, Found]]:
    """What is in each picture, in their order, on all cores.

    A detector that wants several pictures at once gets them decoded meanwhile; no more than a few
    batches are held. DataError: a picture of the list is not in the folder.
    """

    def look(picture: Picture) -> Found:
        return memory.search(picture.sha256, lambda: _read(folder / picture.path))

    def opened(picture: Picture) -> np.ndarray | Found:
        return memory.open(picture.sha256, lambda: _read(folder / picture.path))

    if memory.detector.batch_size == 1:
        return ordered_map(look, pictures)
    return _in_batches(ordered_map(opened, pictures), memory)


def _in_batches(
    opened: Iterable[tuple[Picture, np.ndarray | Found]], memory: Memory
) -> Iterator[tuple[Picture, Found]]:
    """Searches what has been decoded, `_BATCHES` batches' worth at a time, like shapes together."""
    waiting = iter(opened)
    while window := list(islice(waiting, memory.detector.batch_size * _BATCHES)):
        new = [(picture, what) for picture, what in window if isinstance(what, np.ndarray)]
        new.sort(key=lambda entry: entry[1].shape[0] / entry[1].shape[1])
        found = {picture: what for picture, what in window if isinstance(what, Found)}
        for start in range(0, len(new), memory.detector.batch_size):
            batch = new[start : start + memory.detector.batch_size]
            faces = memory.detector.search_many([pixels for _, pixels in batch])
            for (picture, pixels), its_faces in zip(batch, faces, strict=True):
                found[picture] = memory.keep(picture.sha256, pixels, its_faces)
        yield from ((picture, found[picture]) for picture, _ in window)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path} is in the ledger and not on disk; run `dvc repro download` to fetch it again."
        ) from None


def select(faces: Sequence[Face], which: Selection) -> list[tuple[int, Face]]:
    """The faces that count, each with its number in `faces` (largest first).

    which: "largest" and "best" (highest score) give one face at most, "all" every face.
    """
    numbered = list(enumerate(faces))
    if which == "all" or not numbered:
        return numbered
    if which == "largest":
        return numbered[:1]
    return [max(numbered, key=lambda entry: entry[1].score)]


def rows_of(
    picture: Picture, found: Found, detector: Detector, which: Selection
) -> list[dict[str, Any]]:
    """Rows of the table (COLUMNS): one a face, or one that says why there is none."""
    size = {"image": picture.path, "width": found.width, "height": found.height}
    if found.reason:
        return [{"image": picture.path, "reason": found.reason}]
    chosen = select(within_limits(found.faces, detector.limits), which)
    if not chosen:
        return [{**size, "reason": "no face"}]
    return [size | {"face": number} | _row(face) for number, face in chosen]


def _row(face: Face) -> dict[str, Any]:
    numbers = (face.score, *face.box, *face.landmarks.ravel().tolist())
    row = {column: f"{number:.2f}" for column, number in zip(_REAL, numbers, strict=True)}
    return row | {"eyes_found": face.eyes_found, "reason": ""}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts over a whole table's rows; eyes_found_share: faces of which both eyes were seen."""
    faces = [row for row in rows if not row["reason"]]
    pictures = len({row["image"] for row in rows})
    with_face = len({row["image"] for row in faces})
    unreadable = sum(row["reason"].startswith("cannot be decoded") for row in rows)
    both = sum(row["eyes_found"] == 2 for row in faces)
    return {
        "pictures": pictures,
        "with_face": with_face,
        "without_face": pictures - with_face - unreadable,
        "unreadable": unreadable,
        "faces": len(faces),
        "eyes_found_share": round(both / len(faces), 4) if faces else 0.0,
    }


def located_faces(table: pd.DataFrame) -> list[tuple[str, list[Located]]]:
    """The faces of every picture that has any, from the table of detections read with NUMBERS.

    DataError: a number of a face is missing.
    """
    faces = table[table["reason"] == ""]
    if faces[list(NUMBERS)].isna().to_numpy().any():
        raise DataError(
            "data/detections.csv has a face without its place; delete it and run `dvc repro`."
        )
    return [
        (str(image), [_located(row) for _, row in rows.iterrows()])
        for image, rows in faces.groupby("image", sort=True)
    ]


def _located(row: pd.Series) -> Located:
    landmarks = row[list(LANDMARK_COLUMNS)].to_numpy(np.float32).reshape(5, 2)
    face_px = min(float(row["box_w"]), float(row["box_h"]))
    return Located(int(row["face"]), face_px, landmarks, float(row["score"]))
