"""Choosing among crops: what is left out and why, and which articles are held out of training.

Knows tables; reads no picture and draws none.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Protocol

import pandas as pd

from pttfaces.errors import DataError

COLUMNS = (
    *("crop", "article", "author", "url", "sha256", "face"),
    *("blur", "face_px", "upscale", "brightness", "score", "split", "reason"),
)
MEASURES = ("blur", "face_px", "upscale", "brightness", "score")
NUMBERS = {"face": "int64", **dict.fromkeys(MEASURES, "float64")}

DENIED, BLURRED, DUPLICATE = "denied", "blurred", "duplicate"
NO_FACE_AGAIN = "no face when cropped again"
REASONS = (DENIED, BLURRED, DUPLICATE, NO_FACE_AGAIN)

_INBOX = "inbox:"
_FEWEST = 2


class Denies(Protocol):
    """Whether something is on the deny list, by any of its names."""

    def __call__(self, *, article: str, author: str, url: str, sha256: str, crop: str) -> bool: ...


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
    MEASURES; reason: why it is left out, one of REASONS, or "".
    """

    crop: str
    face: int
    sha256: str
    sources: tuple[Source, ...]
    measures: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


def candidates(
    crops: pd.DataFrame, ledger: pd.DataFrame, articles: Iterable[Mapping[str, Any]]
) -> list[Candidate]:
    """Every crop with its sources, in the order of the table of crops.

    crops: read with NUMBERS; ledger: as text; articles: objects of data/articles.jsonl.
    """
    authors = {article["id"]: article.get("author") or "" for article in articles}
    sources: dict[str, list[Source]] = {}
    digests: dict[str, str] = {}
    for row in ledger[ledger["path"] != ""].itertuples():
        source = Source(row.article, authors.get(row.article, ""), row.url)
        sources.setdefault(row.path, []).append(source)
        digests[row.path] = row.sha256
    return [
        Candidate(
            crop=row["crop"],
            face=int(row["face"]),
            sha256=digests.get(row["image"], ""),
            sources=tuple(sources.get(row["image"], [Source("", "", "")])),
            measures={name: float(row[name]) for name in MEASURES},
        )
        for _, row in crops.iterrows()
    ]


def judge(
    crops: Sequence[Candidate],
    blur_threshold: float,
    denies: Denies,
    digest: Callable[[str], str],
) -> list[Candidate]:
    """The crops with the first reason that holds for each, if any.

    A crop is denied if any source of its picture is. digest: a crop's file name → digest of its
    content; of equal crops the first one that is not left out stays.
    """
    seen: set[str] = set()
    judged = []
    for crop in crops:
        reason = ""
        if _is_denied(crop, denies):
            reason = DENIED
        elif crop.measures["blur"] < blur_threshold:
            reason = BLURRED
        elif (content := digest(crop.crop)) in seen:
            reason = DUPLICATE
        else:
            seen.add(content)
        judged.append(replace(crop, reason=reason))
    return judged


def give_up(crops: Sequence[Candidate], name: str) -> list[Candidate]:
    """The crops, the one called `name` left out because no face was found on it again."""
    return [replace(crop, reason=NO_FACE_AGAIN) if crop.crop == name else crop for crop in crops]


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


def split(crops: Sequence[Candidate], holdout: float) -> dict[str, str]:
    """Crop's file name → "train" or "holdout", for the crops that are not left out."""
    kept = [crop for crop in crops if not crop.reason]
    sizes: dict[str, int] = {}
    for crop in kept:
        group = crop.sources[0].group
        sizes[group] = sizes.get(group, 0) + 1
    out = held_out(sizes, holdout)
    return {c.crop: "holdout" if c.sources[0].group in out else "train" for c in kept}


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
            }
        )
    return rows


def summary(crops: Sequence[Candidate], sides: Mapping[str, str]) -> dict[str, Any]:
    """Counts: crops, kept, train, holdout, groups on each side, left out by reason."""
    groups = {
        side: len({c.sources[0].group for c in crops if sides.get(c.crop) == side})
        for side in ("train", "holdout")
    }
    return {
        "crops": len(crops),
        "kept": len(sides),
        "train": sum(side == "train" for side in sides.values()),
        "holdout": sum(side == "holdout" for side in sides.values()),
        "train_groups": groups["train"],
        "holdout_groups": groups["holdout"],
        "left_out": {reason: sum(c.reason == reason for c in crops) for reason in REASONS},
    }


def sentence(counts: Mapping[str, Any]) -> str:
    """A summary's counts in words."""
    left_out = ", ".join(f"{count} {why}" for why, count in counts["left_out"].items() if count)
    return (
        f"{counts['train']} crops to train on, {counts['holdout']} held out; "
        f"left out: {left_out or 'none'}"
    )


def check_enough(counts: Mapping[str, Any]) -> None:
    """DataError where a summary's crops are too few to train on."""
    if counts["kept"] < _FEWEST:
        raise DataError(
            f"of {counts['crops']} crops {counts['kept']} can be used, and training needs at least "
            f"{_FEWEST} ({sentence(counts)}); look at metrics/pictures/contact_sheet.png, then "
            "lower blur_threshold or add pictures (data/inbox/)."
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
