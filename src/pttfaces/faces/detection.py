"""Finds the faces of many images, searches each image once, and makes the table of detections."""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from pttfaces import files
from pttfaces.errors import DataError
from pttfaces.faces.detectors.base import Detector, Face
from pttfaces.faces.parallel import Engine, Threads, ordered_map
from pttfaces.images import NoDecoderError, UnreadableError, decode
from pttfaces.tables import Detection, LedgerRow, columns

_WINDOW_BATCHES = 3  # searched together, so that images of like shapes can share a batch
_MAX_CHUNK = 256  # images, most of them known
UNREADABLE = "cannot be decoded"
NO_FACE = "no face"
TOO_SMALL = "smaller than detect.min_size"
UNSURE = "below detect.threshold"
_NEAR_SCORE = 0.15  # of the best face's score: a larger face with less is none in 1 of 200 images

_NUMBERS = columns(Detection)[1:-1]  # the columns that every face has
_REALS = _NUMBERS[_NUMBERS.index("score") : _NUMBERS.index("eyes_found")]
_LANDMARKS = _REALS[-10:]


@dataclass(frozen=True)
class SearchResult:
    """What a detector finds in an image.

    width, height: in pixels, upright; 0 where the image cannot be decoded, for which `reason`
    says why. faces: all that the detector saw, whatever its limits.
    """

    width: int
    height: int
    faces: list[Face]
    reason: str = ""


@dataclass(frozen=True)
class NotSearched(SearchResult):
    """An image for which this environment has no decoder; another one may have it."""


class DetectionCache:
    """A detector whose results are kept by content, detector and CACHE_VERSION.

    folder: for one small file per image, so that a kill loses only the images in progress.
    """

    def __init__(self, folder: Path, detector: Detector) -> None:
        self.detector = detector
        key = files.digest_json({"code": detector.cache_version, "detector": detector.identity})
        self._folder = folder / f"{detector.name}-{key[:16]}"

    def search(self, sha256: str, read: Callable[[], bytes]) -> SearchResult:
        """The faces of the image with that digest; `read` returns its bytes if it is new."""
        if (known := self.get(sha256)) is not None:
            return known
        (found,) = search_contents(self.detector, [read()])
        self.put(sha256, found)
        return found

    def get(self, sha256: str) -> SearchResult | None:
        """The cached result; None without one, or where its file is damaged."""
        path = self._path(sha256)
        try:
            value = files.parse_record(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return SearchResult(**{**value, "faces": [_parse_face(face) for face in value["faces"]]})

    def put(self, sha256: str, found: SearchResult) -> None:
        """Adds the result of an image that was searched, or replaces it."""
        if isinstance(found, NotSearched):
            return
        faces = [{**asdict(face), "landmarks": face.landmarks.tolist()} for face in found.faces]
        files.write_text(self._path(sha256), json.dumps({**asdict(found), "faces": faces}))

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / f"{sha256}.json"


def _parse_face(value: dict[str, Any]) -> Face:
    landmarks = np.array(value["landmarks"], np.float32)
    return Face(**{**value, "box": tuple(value["box"]), "landmarks": landmarks})


def downloaded_images(ledger: Iterable[LedgerRow]) -> list[LedgerRow]:
    """The first row of every image in the ledger, sorted by path."""
    images: dict[str, LedgerRow] = {}
    for row in ledger:
        if row.path:
            images.setdefault(row.path, row)
    return [images[path] for path in sorted(images)]


_Chunk = list[tuple[LedgerRow, bytes | SearchResult]]


def search_all(
    images: Iterable[LedgerRow], folder: Path, cache: DetectionCache, engine: Engine | None = None
) -> Iterator[tuple[LedgerRow, SearchResult]]:
    """Searches each image below `folder`, in their order; those in the cache only once.

    engine: what searches them, by default threads. No more than a few batches of images are held.
    DataError: an image of the ledger is not in the folder.
    """
    engine, detector = engine or Threads(), cache.detector
    batch_size = engine.batch_size(detector)
    size = batch_size * _WINDOW_BATCHES if batch_size > 1 else engine.items_per_call
    chunks = _chunks(images, folder, cache, size)
    search = functools.partial(_search_chunk, detector)
    for chunk, results in engine.ordered_map(search, chunks, whole_device=detector.uses_device):
        for (image, content), found in zip(chunk, results, strict=True):
            if isinstance(content, bytes):
                cache.put(image.sha256, found)
            yield image, found


def _chunks(
    images: Iterable[LedgerRow], folder: Path, cache: DetectionCache, size: int
) -> Iterator[_Chunk]:
    """The images in their order, with their results, or the bytes of `size` new ones per chunk."""
    chunk: _Chunk = []
    new = 0
    for image in images:
        known = cache.get(image.sha256)
        chunk.append((image, _read(folder / image.path) if known is None else known))
        new += known is None
        if new == size or len(chunk) == _MAX_CHUNK:
            yield chunk
            chunk, new = [], 0
    if chunk:
        yield chunk


def _search_chunk(detector: Detector, chunk: _Chunk) -> list[SearchResult]:
    contents = [content for _, content in chunk if isinstance(content, bytes)]
    found = iter(search_contents(detector, contents))
    return [next(found) if isinstance(content, bytes) else content for _, content in chunk]


def search_contents(detector: Detector, contents: Sequence[bytes]) -> list[SearchResult]:
    """Searches image files; those of like shapes together where the detector takes batches."""
    opened = (
        [_decode(content) for content in contents]
        if detector.batch_size == 1
        else [pixels for _, pixels in ordered_map(_decode, contents)]
    )
    found = {n: pixels for n, pixels in enumerate(opened) if isinstance(pixels, SearchResult)}
    new = [(n, pixels) for n, pixels in enumerate(opened) if isinstance(pixels, np.ndarray)]
    new.sort(key=lambda entry: entry[1].shape[0] / entry[1].shape[1])
    for start in range(0, len(new), detector.batch_size):
        batch = new[start : start + detector.batch_size]
        faces = detector.search_many([pixels for _, pixels in batch])
        for (n, pixels), its_faces in zip(batch, faces, strict=True):
            found[n] = SearchResult(pixels.shape[1], pixels.shape[0], its_faces)
    return [found[n] for n in range(len(contents))]


def _decode(content: bytes) -> np.ndarray | SearchResult:
    """The pixels (H, W, 3) uint8 of an image file, or why there are none."""
    try:
        return decode(content)
    except NoDecoderError as error:
        return NotSearched(0, 0, [], f"{UNREADABLE}: {error}")
    except UnreadableError as error:
        return SearchResult(0, 0, [], f"{UNREADABLE}: {error}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path} is in the ledger, but not on disk; run `dvc repro download` to restore it."
        ) from None


def select_faces(faces: Sequence[Face], which: str) -> list[tuple[int, Face]]:
    """The faces that count, each with its number in `faces` (largest first).

    which: detect.faces: "all" every face; the others one at most: "best" the one with the highest
    score, "largest" the largest of those whose score is near the best.
    """
    numbered = list(enumerate(faces))
    if which == "all" or not numbered:
        return numbered
    best = max(numbered, key=lambda entry: entry[1].score)
    if which == "best":
        return [best]
    return [next(entry for entry in numbered if entry[1].score >= best[1].score - _NEAR_SCORE)]


def table_rows(image: str, found: SearchResult, detector: Detector) -> list[Detection]:
    """A row for each face of an image that counts, or one that says why there is none.

    image: its path below data/raw.
    """
    if found.reason:
        return [Detection(image, reason=found.reason)]
    chosen = select_faces(detector.within_limits(found.faces), detector.options.faces)
    if not chosen:
        return [Detection(image, found.width, found.height, reason=_why_none(found, detector))]
    return [_row(image, found, number, face) for number, face in chosen]


def _why_none(found: SearchResult, detector: Detector) -> str:
    """Why an image has no face that counts."""
    if not found.faces:
        return NO_FACE
    is_sure = any(face.score >= detector.options.threshold for face in found.faces)
    return TOO_SMALL if is_sure else UNSURE


def _row(image: str, found: SearchResult, number: int, face: Face) -> Detection:
    values = (face.score, *face.box, *face.landmarks.ravel().tolist())
    reals: dict[str, Any] = dict(zip(_REALS, values, strict=True))
    return Detection(image, found.width, found.height, number, **reals, eyes_found=face.eyes_found)


def detection_metrics(rows: Sequence[Detection]) -> dict[str, Any]:
    """The figures of metrics/detect.json.

    left_out: images without a face that counts, by reason; eyes_found_share: faces of which both
    eyes were seen.
    """
    faces = [row for row in rows if not row.reason]
    images = len({row.image for row in rows})
    with_face = len({row.image for row in faces})
    unreadable = sum(row.reason.startswith(UNREADABLE) for row in rows)
    both = sum(row.eyes_found == 2 for row in faces)
    return {
        "pictures": images,
        "with_face": with_face,
        "without_face": images - with_face - unreadable,
        "left_out": {
            reason: sum(row.reason == reason for row in rows)
            for reason in (NO_FACE, TOO_SMALL, UNSURE)
        },
        "unreadable": unreadable,
        "faces": len(faces),
        "eyes_found_share": round(both / len(faces), 4) if faces else 0.0,
    }


def faces_by_image(rows: Iterable[Detection]) -> list[list[Detection]]:
    """The faces of the table, those of one image together, sorted by image.

    DataError: a face lacks a number.
    """
    faces = sorted((row for row in rows if not row.reason), key=lambda row: row.image)
    if not np.isfinite([_values(face, _NUMBERS) for face in faces]).all():
        raise DataError(
            "data/detections.csv has a face without a position; delete it and run `dvc repro`."
        )
    return [list(group) for _, group in groupby(faces, key=lambda row: row.image)]


def landmarks(face: Detection) -> np.ndarray:
    """A face's landmarks, (5, 2) float32, in pixels of its image."""
    return _values(face, _LANDMARKS).astype(np.float32).reshape(5, 2)


def face_px(face: Detection) -> float:
    """Shorter side of a face's box, in pixels of its image."""
    return float(_values(face, ("box_w", "box_h")).min())


def _values(face: Detection, names: Sequence[str]) -> np.ndarray:
    """Numbers of a row, float64; NaN for an empty cell."""
    return np.array([getattr(face, name) for name in names], float)
