"""Groups the crops that belong together, and splits the groups into training and hold-out."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pttfaces.curation.candidates import DENIED, Candidate
from pttfaces.tables import DatasetRow

TRAIN, HOLDOUT = "train", "holdout"

_MIN_SHARPNESS = 1.0  # below it a crop shows nothing: all such hashes are similar


def group_crops(candidates: Sequence[Candidate], *pairs: np.ndarray) -> dict[str, str]:
    """Crop's file name → its group, whose crops are all on one side of the split.

    pairs: of indices (P, 2), of copies from `find_copies`, of one person from `pairs_of_people`.
    Groups are articles and folders of the inbox, and those that share an image, have copies of one
    or show a person that is recognized are one: who posts an image twice shows the same person
    twice. Crops that are left out count, too, because copies are often small and blurred; not those
    that are denied, which have no group. Crops that show nothing do not connect groups by their
    look. A group of several is called by the first of their names.
    """
    groups = [  # of each candidate's sources
        [] if each.reason == DENIED else [source.group for source in each.sources]
        for each in candidates
    ]
    names = sorted(set(chain.from_iterable(groups)))
    numbers = {name: number for number, name in enumerate(names)}
    links = [(numbers[own[0]], numbers[group]) for own in groups for group in own]
    for pair in chain.from_iterable(each.tolist() for each in pairs):
        if all(groups[n] and candidates[n].crop.sharpness >= _MIN_SHARPNESS for n in pair):
            links.append((numbers[groups[pair[0]][0]], numbers[groups[pair[1]][0]]))
    components = number_components(len(names), np.array(links, int).reshape(-1, 2))
    first_names: dict[int, str] = {}
    for name, component in zip(names, components, strict=True):
        first_names.setdefault(component, name)
    return {
        each.crop.crop: first_names[components[numbers[own[0]]]]
        for each, own in zip(candidates, groups, strict=True)
        if own
    }


def number_components(count: int, links: np.ndarray) -> list[int]:
    """The number of the connected component of each of `count` nodes; links: pairs (P, 2)."""
    graph = coo_array((np.ones(len(links)), tuple(links.T)), (count, count))
    components: list[int] = connected_components(graph, directed=False)[1].tolist()
    return components


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
