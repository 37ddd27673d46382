from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from candidates_support import candidate, changed, filtered, grouped, look
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.curation import splits
from pttfaces.curation.candidates import Candidate, Provenance
from pttfaces.denylist import DenyList
from pttfaces.faces import quality


def split(candidates: list[Candidate], share: float) -> dict[str, str]:
    """Crop's file name → its split."""
    rows = filtered(candidates)
    split_rows = splits.split_rows(rows, grouped(candidates), share)
    return {row.crop: row.split for row in split_rows if not row.reason}


@given(
    sizes=st.dictionaries(st.text(min_size=1), st.integers(1, 30), max_size=40),
    share=st.floats(0, 0.5),
)
def test_choose_holdout_of_any_sizes_takes_some_groups_and_never_all(
    sizes: dict[str, int], share: float
) -> None:
    held_out = splits.choose_holdout(sizes, share)
    assert held_out <= set(sizes)
    assert held_out == splits.choose_holdout(dict(reversed(sizes.items())), share)
    if len(sizes) < 2 or share == 0:
        assert not held_out
    else:
        assert 1 <= len(held_out) < len(sizes)


@given(
    sizes=st.dictionaries(st.text(min_size=1), st.integers(1, 30), min_size=2, max_size=40),
    share=st.floats(0.01, 0.5),
)
def test_choose_holdout_of_any_sizes_misses_the_share_by_at_most_one_group(
    sizes: dict[str, int], share: float
) -> None:
    held_out = sum(sizes[group] for group in splits.choose_holdout(sizes, share))
    assert abs(held_out - share * sum(sizes.values())) <= max(sizes.values()) + 0.5


def test_choose_holdout_of_many_groups_nearly_meets_the_share() -> None:
    sizes = {f"article:{number}": 3 + number % 5 for number in range(70)}
    held_out = sum(sizes[group] for group in splits.choose_holdout(sizes, 0.1))
    assert abs(held_out - 0.1 * sum(sizes.values())) < 3


@given(articles=st.lists(st.integers(0, 9), max_size=40), share=st.floats(0, 0.5))
def test_split_rows_of_any_articles_puts_none_in_both_splits(
    articles: list[int], share: float
) -> None:
    crops = [candidate(number, f"M.{article}") for number, article in enumerate(articles)]
    found = split(crops, share)
    assert set(found) == {one.crop.crop for one in crops}
    of_article: dict[str, set[str]] = {}
    for one in crops:
        of_article.setdefault(one.sources[0].article, set()).add(found[one.crop.crop])
    assert all(len(its_splits) == 1 for its_splits in of_article.values())


def test_split_rows_of_removed_crops_gives_no_split() -> None:
    crops = [candidate(1), candidate(2, sharpness=1.0)]
    rows = filtered(crops)
    assert [row.split for row in splits.split_rows(rows, grouped(crops), 0.1)] == [
        "train",
        "",
    ]


def test_split_rows_of_articles_that_share_an_image_or_a_duplicate_gives_one_split() -> None:
    """Whatever the share: each pair of articles shows one person."""
    crops = [candidate(number, f"M.{number}") for number in range(24)]
    for number in range(0, 24, 4):
        again = Provenance(f"M.{number + 1}", "", "https://i.example/again.jpg")
        one = crops[number]
        crops[number] = replace(one, sources=(*one.sources, again))
        crops[number + 3] = changed(crops[number + 3], phash=crops[number + 2].crop.phash)
        crops.append(candidate(100 + number, f"M.{number + 3}"))
    rows, groups = filtered(crops), grouped(crops)
    for share in (0.1, 0.3, 0.5):
        found = {row.crop: row.split for row in splits.split_rows(rows, groups, share)}
        assert set(found.values()) == {"train", "holdout", ""}
        for number in range(0, 24, 4):
            first, second, third = (crops[number + n].crop.crop for n in (0, 1, 2))
            assert found[first] == found[second]
            assert found[third] == found[candidate(100 + number).crop.crop]
    assert len(set(groups.values())) == 12


@pytest.mark.parametrize("fault", [{"sharpness": 5.0}, {"face_px": 20.0}])
def test_group_crops_when_a_copy_is_removed_joins_its_groups(fault: dict[str, float]) -> None:
    """And so does the one in the middle of a chain, of which only one end is its original."""
    limits: dict[str, Any] = {"min_face_px": 50, "duplicate_bits": 20}
    hashes = [look(f"{2**bits - 1:064x}") for bits in (0, 20, 40)]
    chain = [
        candidate(1, "M.1", phash=hashes[0]),
        candidate(2, "M.2", phash=hashes[1], **fault),
        candidate(3, "M.3", phash=hashes[2]),
    ]
    crops = [*chain, candidate(4, "M.4"), candidate(5, "M.5")]
    rows = filtered(crops, **limits)
    assert [row.reason for row in rows[:3]] == ["", rows[1].reason, ""]
    assert rows[1].reason
    groups = grouped(crops, bits=20)
    assert len({groups[one.crop.crop] for one in chain}) == 1
    groups = grouped(crops, DenyList.of(["author:by-M.2"]), 20)
    assert groups[chain[0].crop.crop] != groups[chain[2].crop.crop], "denied crops join nothing"


def test_group_crops_of_blank_crops_joins_no_groups() -> None:
    """As of black spacers: else their articles were one group, and none could be held out."""
    phash = quality.perceptual_hash(np.zeros((256, 256, 3), np.uint8))
    crops = [candidate(n, f"M.{n}", sharpness=0.2, phash=phash) for n in range(3)]
    assert len(set(grouped(crops, bits=30).values())) == 3
