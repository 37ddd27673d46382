"""Counts what curation kept and left out, and says what to change where too little is kept."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pttfaces.curation.filters import CROP_REASONS
from pttfaces.curation.splits import HOLDOUT, TRAIN
from pttfaces.errors import DataError
from pttfaces.tables import DatasetRow

_MIN_CROPS = 2


def curation_metrics(rows: Sequence[DatasetRow], groups: Mapping[str, str]) -> dict[str, Any]:
    """The figures of metrics/curate.json, where groups are called series.

    groups: as `splits.group_crops` returns them.
    """
    splits, reasons = Counter(row.split for row in rows), Counter(row.reason for row in rows)
    series = Counter(split for split, _ in {(row.split, groups.get(row.crop)) for row in rows})
    return {
        "crops": len(rows),
        "kept": reasons[""],
        "train": splits[TRAIN],
        "holdout": splits[HOLDOUT],
        "train_series": series[TRAIN],
        "holdout_series": series[HOLDOUT],
        "left_out": {reason: reasons[reason] for reason in CROP_REASONS},
    }


def describe_curation(figures: Mapping[str, Any]) -> str:
    """A summary's figures as a sentence."""
    left_out = ", ".join(f"{count} {why}" for why, count in figures["left_out"].items() if count)
    return (
        f"{figures['train']} crops to train on, {figures['holdout']} held out; "
        f"left out: {left_out or 'none'}"
    )


def explain_empty_holdout(figures: Mapping[str, Any], holdout: float) -> str:
    """Why no crop is held out though some should be; "" where that is not so."""
    if holdout <= 0 or figures["holdout"]:
        return ""
    return (
        "curate: no crop is held out, because all of them belong to one group (an article, or a "
        "folder in data/inbox, with its copies and recognized people). Add others, such as more "
        "folders, raise curate.same_person if people are recognized, or set curate.holdout to 0."
    )


def check_enough(figures: Mapping[str, Any]) -> None:
    """DataError: a summary's crops are too few to train on."""
    if figures["kept"] >= _MIN_CROPS:
        return
    counts = figures["left_out"]
    reason = max(counts, key=counts.__getitem__)
    remedy = f"{CROP_REASONS[reason]} or " if CROP_REASONS[reason] and counts[reason] else ""
    raise DataError(
        f"{figures['kept']} of {figures['crops']} crops can be used, and training needs at least "
        f"{_MIN_CROPS} ({describe_curation(figures)}); look at metrics/pictures/contact_sheet.png, "
        f"then {remedy}add images (data/inbox/)."
    )
