"""Decides which crops stay in the data set, and why the others are left out."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from pttfaces.config import Params
from pttfaces.curation.candidates import DENIED, NO_FACE_AGAIN, Candidate, Provenance
from pttfaces.curation.splits import number_components
from pttfaces.tables import CropRow, DatasetRow, columns

BLURRED, DUPLICATE = "blurred", "duplicate"
SMALL, ENLARGED, DARK, BRIGHT = "face too small", "enlarged too much", "too dark", "too bright"
TURNED, UNSURE = "head turned too far", "detector too unsure"
OUTSIDE = "too much outside its image"
FREQUENT = "person in enough others"
CROP_REASONS = {  # → what lets more such crops stay
    DENIED: "",
    BLURRED: "lower blur_threshold",
    SMALL: "lower curate.min_face_px",
    ENLARGED: "raise curate.max_upscale",
    DARK: "lower curate.min_brightness",
    BRIGHT: "raise curate.max_brightness",
    TURNED: "raise curate.max_yaw and curate.max_pitch",
    UNSURE: "lower curate.min_score",
    OUTSIDE: "raise curate.max_outside",
    DUPLICATE: "lower curate.duplicate_bits",
    FREQUENT: "raise curate.max_per_person",
    NO_FACE_AGAIN: "set curate.recrop to false",
}

_SHARED_COLUMNS = set(columns(CropRow)) & set(columns(DatasetRow)) - {"reason", "sharpness"}
# How the clean one of several copies is chosen: by measures of which more is better, each with the
# value that counts as good as the best one, because detections of copies differ a little.
_Preference = tuple[Callable[[Candidate], float], Callable[[float], float]]
_SIZE: _Preference = (lambda each: each.crop.face_px, lambda best: 0.9 * best)
_INSIDE: _Preference = (lambda each: 1 - (each.crop.outside or 0.0), lambda best: best - 0.08)
_SHARPNESS: _Preference = (lambda each: each.sharpness, lambda best: 0.75 * best)
_COLOUR: _Preference = (lambda each: each.colour or 0.0, lambda best: 0.5 * best)
# What is laid over an image adds edges: a watermark, a border, the blocks of another JPEG.
_PLAINNESS: _Preference = (lambda each: -each.crop.sharpness, lambda best: 1.15 * best)
_PREFERENCES = {
    "crop": (_SIZE, _INSIDE, _PLAINNESS),
    "image_size": (_SIZE, _INSIDE, _SHARPNESS, _COLOUR, _PLAINNESS),
}


def filter_crops(
    candidates: Sequence[Candidate],
    params: Params,
    copies: np.ndarray,
    same_person: np.ndarray | None = None,
) -> list[DatasetRow]:
    """A row for each candidate, with the first reason to leave it out, if any, and no split yet.

    Of copies the clean one stays among those with the largest faces.

    copies, same_person: pairs (P, 2) of candidates, from `find_copies` and `pairs_of_people`; the
    latter where curate.max_per_person is set.
    """
    rows = [_row(candidate, find_fault(candidate, params)) for candidate in candidates]
    if params.curate.duplicate_bits is not None:
        _drop_copies(rows, candidates, copies, _PREFERENCES[params.curate.sharpness_at])
    if params.curate.max_per_person is not None and same_person is not None:
        people = number_components(len(rows), same_person)
        _limit_people(rows, people, params.curate.max_per_person)
    return rows


def find_fault(candidate: Candidate, params: Params) -> str:
    """The first of CROP_REASONS for which a crop stays out by itself; "" for none."""
    if candidate.reason:
        return candidate.reason
    crop, options = candidate.crop, params.curate
    checks = (
        (BLURRED, candidate.sharpness, params.blur_threshold, None),
        (SMALL, crop.face_px, options.min_face_px, None),
        (ENLARGED, crop.upscale, None, options.max_upscale),
        (DARK, crop.brightness, options.min_brightness, None),
        (BRIGHT, crop.brightness, None, options.max_brightness),
        (TURNED, abs(crop.yaw), None, options.max_yaw),
        (TURNED, abs(crop.pitch), None, options.max_pitch),
        (UNSURE, crop.score, options.min_score, None),
        (OUTSIDE, crop.outside or 0.0, None, options.max_outside),
    )
    for reason, value, low, high in checks:
        if (low is not None and value < low) or (high is not None and value > high):
            return reason
    return ""


def _drop_copies(
    rows: list[DatasetRow],
    candidates: Sequence[Candidate],
    copies: np.ndarray,
    preferences: Sequence[_Preference],
) -> None:
    """Gives each copy among the rows without a reason one, but for those that stay: the copies of
    the largest face that is left, then the next one's, until no two that stay are copies."""
    near = defaultdict(list)
    for first, second in copies.tolist():
        if not rows[first].reason and not rows[second].reason:
            near[first].append(second)
            near[second].append(first)
    undecided = set(near)
    for index in sorted(near, key=lambda index: (-rows[index].face_px, index)):
        if index in undecided:
            alike = [index, *(other for other in near[index] if other in undecided)]
            stays = _cleanest(alike, candidates, preferences)
            dropped = undecided.intersection(near[stays])
            undecided -= {stays, *dropped}
            for other in dropped:
                name = rows[stays].crop
                rows[other] = replace(rows[other], reason=DUPLICATE, duplicate_of=name)


def _cleanest(
    alike: Iterable[int], candidates: Sequence[Candidate], preferences: Sequence[_Preference]
) -> int:
    """Which of the candidates with these indices to keep: all of them are copies of the first one,
    which stays in doubt."""
    for measure, tolerated in preferences:
        values = {index: measure(candidates[index]) for index in alike}
        limit = tolerated(max(values.values()))
        alike = [index for index, value in values.items() if value >= limit]
    return next(iter(alike))


def _limit_people(rows: list[DatasetRow], people: Sequence[int], limit: int) -> None:
    """Gives all but the sharpest `limit` rows of a person a reason, if they have none."""
    kept: Counter[int] = Counter()
    for index in sorted(range(len(rows)), key=lambda index: (-rows[index].sharpness, index)):
        if not rows[index].reason:
            kept[people[index]] += 1
            if kept[people[index]] > limit:
                rows[index] = replace(rows[index], reason=FREQUENT)


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
        sharpness=candidate.sharpness,
        **{name: getattr(candidate.crop, name) for name in _SHARED_COLUMNS},
    )
