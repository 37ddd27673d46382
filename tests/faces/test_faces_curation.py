import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.denylist import DenyList
from pttfaces.errors import DataError
from pttfaces.faces import curation
from pttfaces.faces.curation import Candidate, Source


def candidate(number: int, article: str = "M.1.A.001", blur: float = 500.0) -> Candidate:
    source = Source(article, f"by {article}", f"https://i.example/{number}.jpg")
    return Candidate(f"{number:016x}-0.png", 0, f"{number:064x}", (source,), {"blur": blur})


def judged(crops: list[Candidate], deny: str = "", threshold: float = 100.0) -> list[str]:
    kind, _, value = deny.partition(":")
    denied = DenyList({kind: frozenset([value])} if deny else {})
    found = curation.judge(crops, threshold, denied.denies, lambda name: name)
    return [crop.reason for crop in found]


def test_a_crop_at_the_threshold_stays_and_one_below_goes() -> None:
    crops = [candidate(1, blur=99.99), candidate(2, blur=100.0)]
    assert judged(crops) == ["blurred", ""]


@pytest.mark.parametrize(
    "entry",
    [
        "article:M.2.A.002",
        "author:by m.2.a.002",
        "url:https://i.example/2.jpg",
        f"sha256:{2:064x}",
        f"crop:{2:016x}-0.png",
    ],
)
def test_the_deny_list_removes_by_every_kind_of_name(entry: str) -> None:
    assert judged([candidate(1), candidate(2, "M.2.A.002")], entry) == ["", "denied"]


def test_a_picture_is_denied_by_any_article_that_it_is_in() -> None:
    again = Source("M.9.A.009", "someone", "https://i.example/copy.jpg")
    crop = candidate(1)
    twice = Candidate(crop.crop, 0, crop.sha256, (*crop.sources, again), crop.measures)
    assert judged([twice], "article:M.9.A.009") == ["denied"]


def test_of_equal_crops_the_first_that_is_not_left_out_stays() -> None:
    crops = [candidate(1, blur=5), candidate(2), candidate(3)]
    found = curation.judge(crops, 100, DenyList().denies, lambda name: "same")
    assert [crop.reason for crop in found] == ["blurred", "", "duplicate"]


@given(
    sizes=st.dictionaries(st.text(min_size=1), st.integers(1, 30), max_size=40),
    share=st.floats(0, 0.5),
)
def test_some_groups_are_held_out_and_never_all(sizes: dict[str, int], share: float) -> None:
    out = curation.held_out(sizes, share)
    assert out <= set(sizes)
    assert out == curation.held_out(dict(reversed(sizes.items())), share)
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
    held_out = sum(sizes[group] for group in curation.held_out(sizes, share))
    assert abs(held_out - share * sum(sizes.values())) <= max(sizes.values()) + 0.5


def test_of_many_articles_the_share_held_out_is_nearly_met() -> None:
    sizes = {f"article:{number}": 3 + number % 5 for number in range(70)}
    held_out = sum(sizes[group] for group in curation.held_out(sizes, 0.1))
    assert abs(held_out - 0.1 * sum(sizes.values())) < 3


@given(articles=st.lists(st.integers(0, 9), max_size=40), share=st.floats(0, 0.5))
def test_no_article_lies_on_both_sides(articles: list[int], share: float) -> None:
    crops = [candidate(number, f"M.{article}") for number, article in enumerate(articles)]
    sides = curation.split(crops, share)
    assert set(sides) == {crop.crop for crop in crops}
    of_article: dict[str, set[str]] = {}
    for crop in crops:
        of_article.setdefault(crop.sources[0].article, set()).add(sides[crop.crop])
    assert all(len(found) == 1 for found in of_article.values())


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
    measures = dict.fromkeys(curation.MEASURES, 1.0)
    crops = pd.DataFrame([{"crop": "x-0.png", "image": "x.jpg", "face": 0} | measures])
    (crop,) = curation.candidates(crops, ledger, [{"id": "M.1", "author": "ann"}])
    assert crop.sources == (
        Source("M.1", "ann", "https://i.example/1.jpg"),
        Source("M.2", "", "https://i.example/2.jpg"),
    )
    assert crop.sha256 == "ab"


def test_rows_name_nobody_who_is_denied() -> None:
    crops = curation.judge(
        [candidate(1)], 100, DenyList({"article": frozenset(["M.1.A.001"])}).denies, lambda n: n
    )
    (row,) = curation.rows_of(crops, {})
    assert (row["reason"], row["split"]) == ("denied", "")
    assert (row["article"], row["author"], row["url"]) == ("", "", "")
    assert all("M.1" not in str(section) for section in curation.sheet_sections(crops, {}, 100))
    assert crops[0].crop not in str(curation.sheet_sections(crops, {}, 100))


def test_one_crop_is_too_few() -> None:
    crops = [candidate(1), candidate(2, blur=3)]
    crops = curation.judge(crops, 100, DenyList().denies, lambda name: name)
    counts = curation.summary(crops, curation.split(crops, 0.1))
    with pytest.raises(DataError, match=r"of 2 crops 1 can be used.*1 blurred"):
        curation.check_enough(counts)
