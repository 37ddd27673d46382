import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from damage import DAMAGES, Damage
from hypothesis import given
from hypothesis import strategies as st

from pttfaces import tables
from pttfaces.curation import filters
from pttfaces.curation.filters import Candidate, Limits, Source
from pttfaces.denylist import DenyList
from pttfaces.errors import DataError
from pttfaces.faces import quality
from pttfaces.faces.quality import MEASURES

NOBODY = DenyList().denies
SHARP = Limits(blur=100)
USUAL = dict.fromkeys(MEASURES, 0.0) | {"blur": 500.0, "face_px": 200.0, "upscale": 1.0}


def candidate(number: int, article: str = "M.1704074641.A.001", **measured: float) -> Candidate:
    """A crop that looks like no other one, of a picture of its own."""
    source = Source(article, f"by-{article}", f"https://i.example/{number}.jpg")
    name, phash = f"{number:016x}-0.png", f"{2 ** (number % 200):064x}"
    return Candidate(name, 0, f"{number:064x}", (source,), USUAL | measured, phash)


def judged(crops: list[Candidate], deny: str = "", limits: Limits = SHARP) -> list[str]:
    denied = DenyList.of([deny])
    return [crop.reason for crop in filters.judge(crops, limits, denied.denies)]


def test_a_crop_at_the_threshold_stays_and_one_below_goes() -> None:
    crops = [candidate(1, blur=99.99), candidate(2, blur=100.0)]
    assert judged(crops) == ["blurred", ""]


@pytest.mark.parametrize(
    "entry",
    [
        "article:M.1704074642.A.002",
        "author:by-m.1704074642.a.002",
        "url:https://i.example/2.jpg",
        f"sha256:{2:064x}",
        f"crop:{2:016x}-0.png",
    ],
)
def test_the_deny_list_removes_by_every_kind_of_name(entry: str) -> None:
    assert judged([candidate(1), candidate(2, "M.1704074642.A.002")], entry) == ["", "denied"]


def test_a_denied_face_stays_out_under_another_number() -> None:
    one, two = (replace(candidate(n), crop=f"{1:016x}-{n}.png") for n in (0, 1))
    assert judged([one, two, candidate(2)], f"crop:{1:016x}-1.png") == ["denied", "denied", ""]


def test_a_picture_is_denied_by_any_article_that_it_is_in() -> None:
    again = Source("M.1704074649.A.009", "someone", "https://i.example/copy.jpg")
    crop = candidate(1)
    twice = replace(crop, sources=(*crop.sources, again))
    assert judged([twice], "article:M.1704074649.A.009") == ["denied"]


@pytest.mark.parametrize(
    ("limits", "measured", "reason"),
    [
        (Limits(min_face_px=80), {"face_px": 79}, "face too small"),
        (Limits(max_upscale=2), {"upscale": 2.1}, "enlarged too much"),
        (Limits(min_brightness=40), {"brightness": 39}, "too dark"),
        (Limits(max_brightness=220), {"brightness": 221}, "too bright"),
        (Limits(max_yaw=30), {"yaw": -31}, "head turned too far"),
        (Limits(max_pitch=20), {"pitch": 21}, "head turned too far"),
        (Limits(min_score=0.5), {"score": 0.4}, "detector too unsure"),
    ],
)
def test_a_limit_leaves_out_what_is_beyond_it_and_none_leaves_out_nothing(
    limits: Limits, measured: dict[str, float], reason: str
) -> None:
    within = {
        name: value * 0.9 if reason.startswith(("e", "h", "too b")) else value * 2
        for name, value in measured.items()
    }
    crops = [candidate(1, **measured), candidate(2, **within)]
    assert judged(crops, limits=limits) == [reason, ""]
    assert judged(crops, limits=Limits()) == ["", ""]


def test_of_crops_that_look_alike_the_one_of_the_largest_face_stays() -> None:
    alike = [candidate(1, blur=5, face_px=900), candidate(2), candidate(3, face_px=300)]
    alike = [replace(crop, phash="ff" * 32) for crop in alike]
    other = candidate(4)
    found = filters.judge([*alike, other], SHARP, NOBODY)
    assert [crop.reason for crop in found] == ["blurred", "duplicate", "", ""]
    assert found[1].duplicate_of == alike[2].crop
    equal = [replace(candidate(number), phash="ff" * 32) for number in (1, 2)]
    assert judged(equal) == ["", "duplicate"], "of equals the first"


@pytest.mark.parametrize(("bits", "reasons"), [(2, ["", "duplicate"]), (1, ["", ""])])
def test_how_alike_is_alike_is_a_number_of_bits(bits: int, reasons: list[str]) -> None:
    crops = [candidate(1), candidate(2)]  # one bit each, not the same one
    assert judged(crops, limits=Limits(duplicate_bits=bits)) == reasons


@given(
    sizes=st.dictionaries(st.text(min_size=1), st.integers(1, 30), max_size=40),
    share=st.floats(0, 0.5),
)
def test_some_groups_are_held_out_and_never_all(sizes: dict[str, int], share: float) -> None:
    out = filters.held_out(sizes, share)
    assert out <= set(sizes)
    assert out == filters.held_out(dict(reversed(sizes.items())), share)
    if len(sizes) < 2 or share == 0:
        assert not out
    else:
        assert 1 <= len(out) < len(sizes)


@given(
    sizes=st.dictionaries(st.text(min_size=1), st.integers(1, 30), min_size=2, max_size=40),
    share=st.floats(0.01, 0.5),
)
def test_the_share_held_out_misses_by_less_than_one_group(
    sizes: dict[str, int], share: float
) -> None:
    held_out = sum(sizes[group] for group in filters.held_out(sizes, share))
    assert abs(held_out - share * sum(sizes.values())) <= max(sizes.values()) + 0.5


def test_of_many_articles_the_share_held_out_is_nearly_met() -> None:
    sizes = {f"article:{number}": 3 + number % 5 for number in range(70)}
    held_out = sum(sizes[group] for group in filters.held_out(sizes, 0.1))
    assert abs(held_out - 0.1 * sum(sizes.values())) < 3


@given(articles=st.lists(st.integers(0, 9), max_size=40), share=st.floats(0, 0.5))
def test_no_article_lies_on_both_sides(articles: list[int], share: float) -> None:
    crops = [candidate(number, f"M.{article}") for number, article in enumerate(articles)]
    sides = filters.split(crops, filters.series(crops, 0), share)
    assert set(sides) == {crop.crop for crop in crops}
    of_article: dict[str, set[str]] = {}
    for crop in crops:
        of_article.setdefault(crop.sources[0].article, set()).add(sides[crop.crop])
    assert all(len(found) == 1 for found in of_article.values())


def test_articles_that_share_a_picture_or_a_look_lie_on_one_side() -> None:
    """Whatever the share: each pair of articles is one person's series."""
    crops = [candidate(number, f"M.{number}") for number in range(24)]
    for number in range(0, 24, 4):
        again = Source(f"M.{number + 1}", "", "https://i.example/again.jpg")
        crops[number] = replace(crops[number], sources=(*crops[number].sources, again))
        small, large = crops[number + 2], crops[number + 3]
        crops[number + 3] = replace(large, phash=small.phash, sources=large.sources)
        crops.append(replace(candidate(100 + number, f"M.{number + 3}")))
    found = filters.judge(crops, SHARP, NOBODY)
    series = filters.series(found, SHARP.duplicate_bits)
    for share in (0.1, 0.3, 0.5):
        sides = filters.split(found, series, share)
        assert set(sides.values()) == {"train", "holdout"}
        for number in range(0, 24, 4):
            assert sides[crops[number].crop] == sides[crops[number + 1].crop]
            assert sides[crops[number + 2].crop] == sides[candidate(100 + number).crop]
    assert len(set(series.values())) == 12


@pytest.mark.parametrize("fault", [{"blur": 5.0}, {"face_px": 20.0}])
def test_a_copy_that_is_left_out_for_what_copies_are_like_joins_all_the_same(
    fault: dict[str, float],
) -> None:
    """And so does the one in the middle of a chain, of which only one end is its original."""
    crops = [candidate(number, f"M.{number}") for number in range(6)]
    for number, bits in ((1, 0), (2, 20), (3, 40)):
        crops[number] = replace(crops[number], phash=f"{2**bits - 1:064x}")
    crops[2] = replace(crops[2], measures=USUAL | fault)
    limits = replace(SHARP, min_face_px=50, duplicate_bits=20)
    found = filters.judge(crops[1:], limits, NOBODY)
    assert [crop.reason for crop in found[:3]] == ["", found[1].reason, ""]
    assert found[1].reason
    series = filters.series(found, limits.duplicate_bits)
    assert len({series[crop.crop] for crop in found[:3]}) == 1
    denied = filters.judge(crops[1:], limits, DenyList.of(["author:by-M.2"]).denies)
    series = filters.series(denied, limits.duplicate_bits)
    assert series[crops[1].crop] != series[crops[3].crop], "who is denied joins nothing"


def test_crops_that_show_nothing_join_nothing_though_all_of_them_are_alike() -> None:
    """As of black spacers: else their articles were one series, and none could be held out."""
    flat = [candidate(number, f"M.{number}", blur=0.2) for number in range(3)]
    hashed = quality.perceptual_hash(np.zeros((256, 256, 3), np.uint8))
    crops = [replace(crop, phash=hashed) for crop in flat]
    assert len(set(filters.series(crops, 30).values())) == 3


def test_a_copy_takes_the_place_of_an_original_without_a_face() -> None:
    large, middle, small = (candidate(n, face_px=px) for n, px in ((1, 300), (2, 200), (3, 100)))
    crops = [replace(crop, phash="ff" * 32) for crop in (small, large, middle)]
    found = filters.judge(crops, SHARP, NOBODY, faceless={large.crop})
    assert [crop.reason for crop in found] == ["duplicate", "no face when cropped again", ""]
    assert found[0].duplicate_of == middle.crop


def test_pictures_of_an_inbox_folder_stay_together_and_loose_ones_do_not() -> None:
    groups = [Source("", "", f"inbox:{name}").group for name in ("a/1.jpg", "a/b/2.jpg", "3.jpg")]
    assert groups[0] == groups[1]
    assert groups[2] not in groups[:2]
    assert Source("", "", "inbox:a").group != groups[0]


def test_a_crop_is_traced_to_all_places_of_its_picture() -> None:
    ledger = pd.DataFrame(
        [
            ("M.1", "https://i.example/1.jpg", "ab", "x.jpg"),
            ("M.2", "https://i.example/2.jpg", "ab", "x.jpg"),
            ("M.3", "https://i.example/3.jpg", "", ""),
        ],
        columns=["article", "url", "sha256", "path"],
    )
    quality = {**dict.fromkeys(MEASURES, "1.0"), "phash": "ab" * 32}
    crops = pd.DataFrame([{"crop": "x-0.png", "image": "x.jpg", "face": "0"} | quality])
    (crop,) = filters.candidates(crops, ledger, [{"id": "M.1", "author": "ann"}])
    assert crop.sources == (
        Source("M.1", "ann", "https://i.example/1.jpg"),
        Source("M.2", "", "https://i.example/2.jpg"),
    )
    assert crop.sha256 == "ab"


def test_rows_name_nobody_who_is_denied() -> None:
    crops = filters.judge([candidate(1)], SHARP, DenyList.of(["article:M.1704074641.A.001"]).denies)
    (row,) = filters.rows_of(crops, {})
    assert (row["reason"], row["split"]) == ("denied", "")
    assert (row["article"], row["author"], row["url"]) == ("", "", "")
    assert all("M.1" not in str(section) for section in filters.sheet_sections(crops, {}, 100))
    assert crops[0].crop not in str(filters.sheet_sections(crops, {}, 100))


def test_one_crop_is_too_few() -> None:
    crops = [candidate(1), candidate(2, blur=3)]
    crops = filters.judge(crops, SHARP, NOBODY)
    with pytest.raises(DataError, match=r"of 2 crops 1 can be used.*1 blurred.*lower blur_thres"):
        filters.check_enough(counts(crops))
    crops = filters.judge(crops, Limits(min_score=0.5), NOBODY)
    with pytest.raises(DataError, match=r"2 detector too unsure.*then lower curate\.min_score or"):
        filters.check_enough(counts(crops))
    with pytest.raises(DataError, match=r"of 0 crops.*then add pictures"):
        filters.check_enough(counts([]))


def counts(crops: list[Candidate], holdout: float = 0.1) -> dict[str, Any]:
    series = filters.series(crops, SHARP.duplicate_bits)
    return filters.summary(crops, filters.split(crops, series, holdout), series)


def test_who_asks_for_a_hold_out_and_gets_none_is_told_why() -> None:
    one, two = candidate(1, "M.1"), candidate(2, "M.2")
    again = replace(two, sources=one.sources)
    assert "one series" in filters.one_series(counts([one, again]), 0.1)
    assert filters.one_series(counts([one, two]), 0.1) == ""
    assert filters.one_series(counts([one], holdout=0), 0) == ""


@given(DAMAGES, st.booleans())
def test_damaged_tables_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage, of_crops: bool
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    image = {
        "path": "a.jpg",
        "sha256": "a" * 64,
        "article": "M.1704074641.A.001",
        "url": "http://a.test/1",
    }
    rows = [
        USUAL | {"crop": f"a-{n}.png", "image": "a.jpg", "face": n, "phash": f"{n}" * 64}
        for n in (0, 1)
    ]
    tables.write_dicts(folder / "crops.csv", rows, quality.COLUMNS)
    tables.write_dicts(folder / "ledger.csv", [image], filters.LEDGER_COLUMNS)

    def chosen() -> list[Candidate]:
        crops = tables.read_csv(folder / "crops.csv", names=quality.COLUMNS)
        ledger = tables.read_csv(folder / "ledger.csv", names=filters.LEDGER_COLUMNS)
        found = filters.candidates(crops, ledger, [{"id": "M.1704074641.A.001", "author": "x"}])
        return filters.judge(found, SHARP, NOBODY)

    assert len(chosen()) == 2
    path = folder / ("crops.csv" if of_crops else "ledger.csv")
    path.write_bytes(damage.of(path.read_bytes()))
    with contextlib.suppress(DataError):
        assert len(chosen()) <= 2
