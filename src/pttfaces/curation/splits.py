"""Groups the crops that belong together, and splits the groups into training and hold-out."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from pttfaces.curation.candidates import Candidate
from pttfaces.curation.filters import DENIED
from pttfaces.tables import DatasetRow

TRAIN, HOLDOUT = "train", "holdout"

_MIN_SHARPNESS = 1.0  # below it a crop shows nothing: all such hashes are similar


def group_crops(
    candidates: Sequence[Candidate], rows: Sequence[DatasetRow], *pairs: np.ndarray
) -> dict[str, str]:
    """Crop's file name → its group, whose crops are all on one side of the split.

    rows: those of the candidates, from `filter_crops`; pairs: of indices (P, 2), of copies from
    `find_copies`, of one person from `pairs_of_people`. Groups are articles and folders of the
    inbox, and those that share an image, have copies of one or show a person that is recognized
    are one: who posts an image twice shows the same person twice. Crops that are left out count,
    too, because copies are often small and blurred; not those that are denied, which have no group.
    Crops that show nothing do not connect groups by their look.
    """
    parents: dict[str, str] = {}

    def root(group: str) -> str:
        while parents.setdefault(group, group) != group:
            parents[group] = parents[parents[group]]
            group = parents[group]
        return group

    def join(first: str, second: str) -> None:
        first_root, second_root = sorted((root(first), root(second)))
        parents[second_root] = first_root

    allowed = [
        candidate for candidate, row in zip(candidates, rows, strict=True) if row.reason != DENIED
    ]
    for candidate in allowed:
        for source in candidate.sources:
            join(candidate.sources[0].group, source.group)
    connects = [
        row.reason != DENIED and candidate.crop.sharpness >= _MIN_SHARPNESS
        for candidate, row in zip(candidates, rows, strict=True)
    ]
    for first, second in chain.from_iterable(each.tolist() for each in pairs):
        if connects[first] and connects[second]:
            join(candidates[first].sources[0].group, candidates[second].sources[0].group)
    return {candidate.crop.crop: root(candidate.sources[0].group) for candidate in allowed}


def split_rows(
    rows: Sequence[DatasetRow], groups: Mapping[str, str], holdout: float
) -> list[DatasetRow]:
    """The rows with their split; those that are left out have none.

    groups: as `group_crops` returns them; holdout: share of the crops to hold out.
    """
    sizes = Counter(groups[row.crop] for row in rows if not row.reason)
    held_out = choose_holdout(sizes, holdout)
    return [
        row
        if row.reason
        else replace(row, split=HOLDOUT if groups[row.crop] in held_out else TRAIN)
        for row in rows
    ]


def choose_holdout(sizes: Mapping[str, int], share: float) -> set[str]:
    """The groups to hold out, so that they have about `share` of all crops.

    sizes: group → how many crops it has (at least 1). Groups are tried in the order of their names'
    digests, which is as good as random and the same in every run, and taken while they fit. With a
    share above 0 and two groups or more at least one is held out, and never all of them.
    """
    order = sorted(sizes, key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    if share <= 0 or len(order) < 2:
        return set()
    remaining = round(share * sum(sizes.values()))
    chosen: set[str] = set()
    for group in order:
        if sizes[group] <= remaining:
            chosen.add(group)
            remaining -= sizes[group]
    return chosen or {min(order, key=lambda group: sizes[group])}
