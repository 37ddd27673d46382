"""Choosing among crops: what is left out and why, and which articles are held out of training.

Knows tables; reads no picture and draws none.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Protocol

import pandas as pd

from pttfaces.curation.duplicates import likenesses, repeats
from pttfaces.errors import DataError
from pttfaces.faces.quality import HASH_BITS, MEASURES

COLUMNS = (
    *("crop", "article", "author", "url", "sha256", "face"),
    *(*MEASURES, "split", "reason", "duplicate_of"),
)

LEDGER_COLUMNS = ("path", "sha256", "article", "url")  # what is read of data/ledger.csv

DENIED, BLURRED, DUPLICATE = "denied", "blurred", "duplicate"
SMALL, ENLARGED, DARK, BRIGHT = "face too small", "enlarged too much", "too dark", "too bright"
TURNED, UNSURE = "head turned too far", "detector too unsure"
NO_FACE_AGAIN = "no face when cropped again"
REASONS = (
    *(DENIED, BLURRED, SMALL, ENLARGED, DARK, BRIGHT, TURNED, UNSURE),
    *(DUPLICATE, NO_FACE_AGAIN),
)

_CURES = {
    BLURRED: "lower blur_threshold",
    SMALL: "lower curate.min_face_px",
    ENLARGED: "raise curate.max_upscale",
    DARK: "lower curate.min_brightness",
    BRIGHT: "raise curate.max_brightness",
    TURNED: "raise curate.max_yaw and curate.max_pitch",
    UNSURE: "lower curate.min_score",
    DUPLICATE: "lower curate.duplicate_bits",
    NO_FACE_AGAIN: "set curate.recrop to false",
}

_INBOX = "inbox:"
_HASH = re.compile(rf"[0-9a-f]{{{HASH_BITS // 4}}}")
_FEWEST = 2
_FLAT = 1.0  # variance of the Laplacian below which a crop shows nothing: all such hashes are alike


class Denies(Protocol):
    """Whether something is on the deny list, by any of its names."""

    def __call__(self, *, article: str, author: str, url: str, sha256: str, crop: str) -> bool: ...


@dataclass(frozen=True)
class Limits:
    """What a crop must keep to; None asks for nothing.

    blur: least variance of the Laplacian; min_face_px: least shorter side of the face's box, in
    pixels of the picture; max_upscale: most crop pixels a picture's pixel; min_brightness,
    max_brightness: of the mean grey, 0…255; max_yaw, max_pitch: degrees to either side; min_score:
    the detector's, 0…1; duplicate_bits: crops whose perceptual hashes differ by at most this many
    bits are alike.
    """

    blur: float = 0.0
    min_face_px: float | None = None
    max_upscale: float | None = None
    min_brightness: float | None = None
    max_brightness: float | None = None
    max_yaw: float | None = None
    max_pitch: float | None = None
    min_score: float | None = None
    duplicate_bits: int = 0

    def fault(self, measures: Mapping[str, float]) -> str:
        """The first of REASONS for which a crop's measures are out of bounds; "" for none."""
        angles = {name: abs(measures[name]) for name in ("yaw", "pitch")}
        checks = (
            (BLURRED, measures["blur"], self.blur, None),
            (SMALL, measures["face_px"], self.min_face_px, None),
            (ENLARGED, measures["upscale"], None, self.max_upscale),
            (DARK, measures["brightness"], self.min_brightness, None),
            (BRIGHT, measures["brightness"], None, self.max_brightness),
            (TURNED, angles["yaw"], None, self.max_yaw),
            (TURNED, angles["pitch"], None, self.max_pitch),
            (UNSURE, measures["score"], self.min_score, None),
        )
        for reason, value, least, most in checks:
            if (least is not None and value < least) or (most is not None and value > most):
                return reason
        return ""


@dataclass(frozen=True)
class Source:
    """Where a picture came from. article and author are "" for what lay in the inbox."""

    article: str
    author: str
    url: str

    @property
    def group(self) -> str:
        """Pictures of one group never lie on both sides of the split: an article's, or those of
        one sub-folder of the inbox; a picture that lies in the inbox itself is its own group."""
        if self.article:
            return f"article:{self.article}"
        place = PurePosixPath(self.url.removeprefix(_INBOX))
        return self.url if len(place.parts) < 2 else f"{_INBOX}{place.parts[0]}/"


@dataclass(frozen=True)
class Candidate:
    """A crop and all that is known of it.

    crop: file name; sources: where its picture was found, the first one first; measures: values of
    MEASURES; phash: perceptual hash, in hex; reason: why it is left out, one of REASONS, or "";
    duplicate_of: the crop that stays in its place.
    """

    crop: str
    face: int
    sha256: str
    sources: tuple[Source, ...]
    measures: Mapping[str, float] = field(default_factory=dict)
    phash: str = ""
    reason: str = ""
    duplicate_of: str = ""


def candidates(
    crops: pd.DataFrame, ledger: pd.DataFrame, articles: Iterable[Mapping[str, Any]]
) -> list[Candidate]:
    """Every crop with its sources, in the order of the table of crops.

    crops: data/crops.csv; ledger: data/ledger.csv; both as text; articles: objects of
    data/articles.jsonl. DataError: a measure of a crop is none.
    """
    authors = {article["id"]: article.get("author") or "" for article in articles}
    sources: dict[str, list[Source]] = {}
    digests: dict[str, str] = {}
    for row in ledger[ledger["path"] != ""].itertuples():
        source = Source(row.article, authors.get(row.article, ""), row.url)
        sources.setdefault(row.path, []).append(source)
        digests[row.path] = row.sha256
    try:
        return [
            Candidate(
                crop=row["crop"],
                face=int(row["face"]),
                sha256=digests.get(row["image"], ""),
                sources=tuple(sources.get(row["image"], [Source("", "", "")])),
                measures={name: float(row[name]) for name in MEASURES},
                phash=_checked(row["phash"]),
            )
            for row in crops.to_dict("records")
        ]
    except ValueError as error:
        raise DataError(
            f"data/crops.csv has a measure that is none ({error}); delete it and run `dvc repro`."
        ) from None


def _checked(phash: str) -> str:
    if not _HASH.fullmatch(phash):
        raise ValueError(f"{phash!r} is no perceptual hash")
    return phash


def judge(
    crops: Sequence[Candidate],
    limits: Limits,
    denies: Denies,
    faceless: Collection[str] = (),
) -> list[Candidate]:
    """The crops with the first reason that holds for each, if any.

    A crop is denied if any source of its picture is. Of crops that look alike the one whose face
    has the most pixels in its picture stays; of equals, the first. faceless: names of crops on
    which no face was found again, so that none of those they look like is left out for them.
    """

    def reason(crop: Candidate) -> str:
        if _is_denied(crop, denies):
            return DENIED
        return limits.fault(crop.measures) or (NO_FACE_AGAIN if crop.crop in faceless else "")

    judged = [replace(crop, reason=reason(crop)) for crop in crops]
    allowed = [place for place, crop in enumerate(judged) if not crop.reason]
    allowed.sort(key=lambda place: -judged[place].measures["face_px"])
    found = repeats([judged[place].phash for place in allowed], limits.duplicate_bits)
    for place, repeated in zip(allowed, found, strict=True):
        if repeated is not None:
            original = judged[allowed[repeated]].crop
            judged[place] = replace(judged[place], reason=DUPLICATE, duplicate_of=original)
    return judged


def _is_denied(crop: Candidate, denies: Denies) -> bool:
    return any(
        denies(
            article=source.article,
            author=source.author,
            url=source.url,
            sha256=crop.sha256,
            crop=crop.crop,
        )
        for source in crop.sources
    )


def held_out(sizes: Mapping[str, int], share: float) -> set[str]:
    """Which groups to hold out, so that they have about `share` of all that is in the groups.

    sizes: group → how many crops it has (at least 1). Groups are taken in the order of their names'
    digests, which is as good as chance and the same on every run, each that still fits. With a
    share above 0 and two groups or more at least one is held out, and never all of them.
    """
    order = sorted(sizes, key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    if share <= 0 or len(order) < 2:
        return set()
    room = round(share * sum(sizes.values()))
    chosen: set[str] = set()
    for group in order:
        if sizes[group] <= room:
            chosen.add(group)
            room -= sizes[group]
    return chosen or {min(order, key=lambda group: sizes[group])}


def series(crops: Sequence[Candidate], duplicate_bits: int) -> dict[str, str]:
    """Crop's file name → the name of its series, whose crops lie on one side of the split.

    Series are the groups of sources, those joined that share a picture or crops that look alike:
    who posts a picture twice shows the same person twice. That is so of crops that are left out,
    too: it is the copies that are small and blurred. Denied crops join nothing and have none.
    Nor do crops that show nothing join others by their look.
    """
    parents: dict[str, str] = {}

    def head(group: str) -> str:
        while parents.setdefault(group, group) != group:
            parents[group] = parents[parents[group]]
            group = parents[group]
        return group

    def join(one: str, other: str) -> None:
        first, second = sorted((head(one), head(other)))
        parents[second] = first

    present = [crop for crop in crops if crop.reason != DENIED]
    groups = [crop.sources[0].group for crop in present]
    for crop, group in zip(present, groups, strict=True):
        for source in crop.sources:
            join(group, source.group)
    shows = [place for place, crop in enumerate(present) if crop.measures["blur"] >= _FLAT]
    for one, other in likenesses([present[place].phash for place in shows], duplicate_bits):
        join(groups[shows[one]], groups[shows[other]])
    return {crop.crop: head(group) for crop, group in zip(present, groups, strict=True)}


def split(
    crops: Sequence[Candidate], of_series: Mapping[str, str], holdout: float
) -> dict[str, str]:
    """Crop's file name → "train" or "holdout", for the crops that are not left out.

    of_series: as `series` has it.
    """
    kept = [crop.crop for crop in crops if not crop.reason]
    out = held_out(Counter(of_series[crop] for crop in kept), holdout)
    return {crop: "holdout" if of_series[crop] in out else "train" for crop in kept}


def rows_of(crops: Sequence[Candidate], sides: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of data/dataset.csv (COLUMNS); of a denied crop only names that are digests stay."""
    rows = []
    for crop in crops:
        source = crop.sources[0] if crop.reason != DENIED else Source("", "", "")
        rows.append(
            {
                "crop": crop.crop,
                "article": source.article,
                "author": source.author,
                "url": source.url,
                "sha256": crop.sha256,
                "face": crop.face,
                **crop.measures,
                "split": sides.get(crop.crop, ""),
                "reason": crop.reason,
                "duplicate_of": crop.duplicate_of,
            }
        )
    return rows


def summary(
    crops: Sequence[Candidate], sides: Mapping[str, str], of_series: Mapping[str, str]
) -> dict[str, Any]:
    """Counts: crops, kept, train, holdout, series on each side, left out by reason."""
    groups = {
        side: len({of_series[crop] for crop, its_side in sides.items() if its_side == side})
        for side in ("train", "holdout")
    }
    return {
        "crops": len(crops),
        "kept": len(sides),
        "train": sum(side == "train" for side in sides.values()),
        "holdout": sum(side == "holdout" for side in sides.values()),
        "train_series": groups["train"],
        "holdout_series": groups["holdout"],
        "left_out": {reason: sum(c.reason == reason for c in crops) for reason in REASONS},
    }


def sentence(counts: Mapping[str, Any]) -> str:
    """A summary's counts in words."""
    left_out = ", ".join(f"{count} {why}" for why, count in counts["left_out"].items() if count)
    return (
        f"{counts['train']} crops to train on, {counts['holdout']} held out; "
        f"left out: {left_out or 'none'}"
    )


def one_series(counts: Mapping[str, Any], holdout: float) -> str:
    """A hint, where none is held out of a summary's crops though some should be; else ""."""
    if holdout <= 0 or counts["holdout"]:
        return ""
    return (
        "curate: none is held out, for all crops are of one series (an article, or a folder in "
        "data/inbox, with its copies); add others, such as more folders, or set curate.holdout to 0"
    )


def check_enough(counts: Mapping[str, Any]) -> None:
    """DataError where a summary's crops are too few to train on."""
    if counts["kept"] < _FEWEST:
        most = max(counts["left_out"], key=counts["left_out"].__getitem__)
        cure = f"{_CURES[most]} or " if most in _CURES and counts["left_out"][most] else ""
        raise DataError(
            f"of {counts['crops']} crops {counts['kept']} can be used, and training needs at least "
            f"{_FEWEST} ({sentence(counts)}); look at metrics/pictures/contact_sheet.png, then "
            f"{cure}add pictures (data/inbox/)."
        )


def variances(crops: Sequence[Candidate]) -> list[float]:
    """Variance of the Laplacian of every crop that is not denied."""
    return [crop.measures["blur"] for crop in crops if crop.reason != DENIED]


def sheet_sections(
    crops: Sequence[Candidate], sides: Mapping[str, str], blur_threshold: float
) -> list[tuple[str, list[str]]]:
    """(caption, names of crops) of a contact sheet; what is denied is counted and not shown."""
    sections = [
        (f"{caption}: {len(names)}", names)
        for side, caption in (("train", "for training"), ("holdout", "held out"))
        for names in [[name for name, its_side in sides.items() if its_side == side]]
    ]
    causes = {BLURRED: f"{BLURRED}, variance of the Laplacian below {blur_threshold:g}"}
    for reason in REASONS:
        names = [crop.crop for crop in crops if crop.reason == reason]
        if names:
            caption = f"left out ({causes.get(reason, reason)}): {len(names)}"
            sections.append((caption, [] if reason == DENIED else names))
    return sections
