"""Finds the faces of many images, searches each image once, and makes the table of detections."""

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
_LANDMARKS = _NUMBERS[-11:-1]  # the last is eyes_found


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

    def search(self, content: bytes) -> SearchResult:
        """The faces of an image file."""
        sha256 = files.digest_bytes(content)
        if (known := self.get(sha256)) is not None:
            return known
        (found,) = _search_chunk(self.detector, [(sha256, content)])
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


_Content = bytes | SearchResult
"""An image's file, or what is known of it."""


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
) -> Iterator[list[tuple[LedgerRow, _Content]]]:
    """The images in their order, with their results, or the bytes of `size` new ones per chunk."""
    chunk: list[tuple[LedgerRow, _Content]] = []
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


def _search_chunk(
    detector: Detector, chunk: Sequence[tuple[object, _Content]]
) -> list[SearchResult]:
    """The faces of each image; those of like shapes together where the detector takes batches."""
    opened = [pixels for _, pixels in ordered_map(_decode, [content for _, content in chunk])]
    found = {n: known for n, known in enumerate(opened) if isinstance(known, SearchResult)}
    new = [(n, pixels) for n, pixels in enumerate(opened) if isinstance(pixels, np.ndarray)]
    new.sort(key=lambda entry: entry[1].shape[0] / entry[1].shape[1])
    for start in range(0, len(new), detector.batch_size):
        batch = new[start : start + detector.batch_size]
        faces = detector.search_many([pixels for _, pixels in batch])
        for (n, pixels), its_faces in zip(batch, faces, strict=True):
            found[n] = SearchResult(pixels.shape[1], pixels.shape[0], its_faces)
    return [found[n] for n in range(len(chunk))]


def _decode(content: _Content) -> np.ndarray | SearchResult:
    """The pixels (H, W, 3) uint8 of an image file, or why there are none."""
    if isinstance(content, SearchResult):
        return content
    try:
        return decode(content)
    except UnreadableError as error:
        kind = NotSearched if isinstance(error, NoDecoderError) else SearchResult
        return kind(0, 0, [], f"{UNREADABLE}: {error}")


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
        is_sure = any(face.score >= detector.options.threshold for face in found.faces)
        reason = NO_FACE if not found.faces else TOO_SMALL if is_sure else UNSURE
        return [Detection(image, found.width, found.height, reason=reason)]
    rows = []
    for number, face in chosen:
        place = (*face.box, *face.landmarks.ravel().tolist())
        values = (found.width, found.height, number, face.score, *place, face.eyes_found)
        cells: dict[str, Any] = dict(zip(_NUMBERS, values, strict=True))
        rows.append(Detection(image, **cells))
    return rows


def detection_metrics(rows: Sequence[Detection]) -> dict[str, Any]:
    """The figures of metrics/detect.json.

    left_out: images without a face that counts, by reason; eyes_found_share: faces of which both
    eyes were seen.
    """
    faces = [row for row in rows if not row.reason]
    with_face, both = len({row.image for row in faces}), sum(row.eyes_found == 2 for row in faces)
    reasons = Counter(row.reason.partition(":")[0] for row in rows)
    left_out = {reason: reasons[reason] for reason in (NO_FACE, TOO_SMALL, UNSURE)}
    return {
        "pictures": with_face + len(rows) - len(faces),
        "with_face": with_face,
        "without_face": sum(left_out.values()),
        "left_out": left_out,
        "unreadable": reasons[UNREADABLE],
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
