"""Decides which crops stay in the data set, and why the others are left out."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from pttfaces.config import Curate
from pttfaces.curation.candidates import Candidate, Provenance
from pttfaces.curation.duplicates import find_duplicates
from pttfaces.denylist import DenyList
from pttfaces.tables import CropRow, DatasetRow, columns

DENIED, BLURRED, DUPLICATE = "denied", "blurred", "duplicate"
SMALL, ENLARGED, DARK, BRIGHT = "face too small", "enlarged too much", "too dark", "too bright"
TURNED, UNSURE = "head turned too far", "detector too unsure"
NO_FACE_AGAIN = "no face when cropped again"
CROP_REASONS = (
    *(DENIED, BLURRED, SMALL, ENLARGED, DARK, BRIGHT, TURNED, UNSURE),
    *(DUPLICATE, NO_FACE_AGAIN),
)

_SHARED_COLUMNS = [
    name for name in columns(CropRow) if name in columns(DatasetRow) and name != "reason"
]


def filter_crops(
    candidates: Sequence[Candidate],
    options: Curate,
    blur_threshold: float,
    deny: DenyList,
    without_face: Collection[str] = (),
) -> list[DatasetRow]:
    """A row for each candidate, with the first reason to leave it out, if any, and no split yet.

    A crop is denied if any source of its image is. Of crops that look alike the one with the
    largest face in its image stays; of equals, the first.

    blur_threshold: minimum sharpness; without_face: names of crops on which no face was found
    again, whose look-alikes stay.
    """

    def reason(candidate: Candidate) -> str:
        if _is_denied(candidate, deny):
            return DENIED
        fault = _find_fault(candidate.crop, options, blur_threshold)
        return fault or (NO_FACE_AGAIN if candidate.crop.crop in without_face else "")

    rows = [_row(candidate, reason(candidate)) for candidate in candidates]
    allowed = [index for index, row in enumerate(rows) if not row.reason]
    allowed.sort(key=lambda index: -rows[index].face_px)
    hashes = [candidates[index].crop.phash for index in allowed]
    duplicates = find_duplicates(hashes, options.duplicate_bits)
    for index, original in zip(allowed, duplicates, strict=True):
        if original is not None:
            name = rows[allowed[original]].crop
            rows[index] = replace(rows[index], reason=DUPLICATE, duplicate_of=name)
    return rows


def _is_denied(candidate: Candidate, deny: DenyList) -> bool:
    return any(
        deny.denies(
            article=source.article,
            author=source.author,
            url=source.url,
            sha256=candidate.sha256,
            crop=candidate.crop.crop,
        )
        for source in candidate.sources
    )


def _find_fault(crop: CropRow, options: Curate, blur_threshold: float) -> str:
    """The first of CROP_REASONS for which a crop's quality is out of bounds; "" for none."""
    checks = (
        (BLURRED, crop.sharpness, blur_threshold, None),
        (SMALL, crop.face_px, options.min_face_px, None),
        (ENLARGED, crop.upscale, None, options.max_upscale),
        (DARK, crop.brightness, options.min_brightness, None),
        (BRIGHT, crop.brightness, None, options.max_brightness),
        (TURNED, abs(crop.yaw), None, options.max_yaw),
        (TURNED, abs(crop.pitch), None, options.max_pitch),
        (UNSURE, crop.score, options.min_score, None),
    )
    for reason, value, low, high in checks:
        if (low is not None and value < low) or (high is not None and value > high):
            return reason
    return ""


def _row(candidate: Candidate, reason: str) -> DatasetRow:
    """The row of a crop; of a denied one only names that are digests stay."""
    source = candidate.sources[0] if reason != DENIED else Provenance("", "", "")
    return DatasetRow(
        article=source.article,
        author=source.author,
        url=source.url,
        sha256=candidate.sha256,
        split="",
        reason=reason,
        duplicate_of="",
        board=source.board,
        date=source.date,
        **{name: getattr(candidate.crop, name) for name in _SHARED_COLUMNS},
    )
