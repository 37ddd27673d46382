from dataclasses import replace
from typing import Any

import pytest
from candidates_support import (
    candidate,
    changed,
    copies_of,
    filtered,
    look,
    params,
)

from pttfaces.curation import filters, splits
from pttfaces.curation.candidates import NO_FACE_AGAIN, Candidate, Provenance
from pttfaces.denylist import DenyList


def reasons(candidates: list[Candidate], deny: str = "", **limits: Any) -> list[str]:
    return [row.reason for row in filtered(candidates, DenyList.of([deny]), **limits)]


def test_filter_crops_when_sharpness_is_the_threshold_keeps_the_crop() -> None:
    crops = [candidate(1, sharpness=99.99), candidate(2, sharpness=100.0)]
    assert reasons(crops) == ["blurred", ""]


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
def test_filter_crops_with_a_deny_entry_of_any_kind_removes_the_crop(entry: str) -> None:
    assert reasons([candidate(1), candidate(2, "M.1704074642.A.002")], entry) == ["", "denied"]


def test_filter_crops_when_a_face_is_denied_removes_all_of_its_image() -> None:
    """Another detector may give the face another number."""
    one, two = (changed(candidate(n), crop=f"{1:016x}-{n}.png") for n in (0, 1))
    assert reasons([one, two, candidate(2)], f"crop:{1:016x}-1.png") == ["denied", "denied", ""]


def test_filter_crops_when_any_article_of_an_image_is_denied_removes_it() -> None:
    again = Provenance("M.1704074649.A.009", "someone", "https://i.example/copy.jpg")
    one = candidate(1)
    twice = replace(one, sources=(*one.sources, again))
    assert reasons([twice], "article:M.1704074649.A.009") == ["denied"]


@pytest.mark.parametrize(
    ("limits", "quality", "reason"),
    [
        ({"min_face_px": 80}, {"face_px": 79}, "face too small"),
        ({"max_upscale": 2}, {"upscale": 2.1}, "enlarged too much"),
        ({"min_brightness": 40}, {"brightness": 39}, "too dark"),
        ({"max_brightness": 220}, {"brightness": 221}, "too bright"),
        ({"max_yaw": 30}, {"yaw": -31}, "head turned too far"),
        ({"max_pitch": 20}, {"pitch": 21}, "head turned too far"),
        ({"min_score": 0.5}, {"score": 0.4}, "detector too unsure"),
        ({"max_outside": 0.11}, {"outside": 0.12}, "too much outside its image"),
    ],
)
def test_filter_crops_with_a_limit_removes_what_is_beyond_it(
    limits: dict[str, Any], quality: dict[str, Any], reason: str
) -> None:
    """Without limits nothing is removed."""
    within = {
        name: value * 0.9 if reason.startswith(("e", "h", "too b", "too m")) else value * 2
        for name, value in quality.items()
    }
    crops = [candidate(1, **quality), candidate(2, **within)]
    assert reasons(crops, **limits) == [reason, ""]
    assert reasons(crops) == ["", ""]


def test_filter_crops_of_copies_keeps_the_largest_face() -> None:
    alike = [candidate(1, sharpness=5, face_px=900), candidate(2), candidate(3, face_px=300)]
    alike = [changed(one, phash=look("ff" * 32)) for one in alike]
    rows = filtered([*alike, candidate(4)])
    assert [row.reason for row in rows] == ["blurred", "duplicate", "", ""]
    assert rows[1].duplicate_of == alike[2].crop.crop
    equal = [candidate(number, phash=look("ff" * 32)) for number in (1, 2)]
    assert reasons(equal) == ["", "duplicate"], "of equals the first"


@pytest.mark.parametrize(
    ("clean", "worse"),
    [
        ({}, {"sharpness": 900.0}),  # a watermark
        ({"sharpness": 520.0}, {"outside": 0.2}),  # cut
        ({"outside": 0.0}, {"outside": None, "face_px": 150.0}),  # smaller
    ],
)
def test_filter_crops_of_copies_keeps_the_clean_one(
    clean: dict[str, Any], worse: dict[str, Any]
) -> None:
    """Though the other one's face is a little larger, as detections of copies differ."""
    other = {"face_px": 205.0} | worse
    crops = [candidate(n, phash=look("ff" * 32), **c) for n, c in enumerate((other, clean))]
    inside = [replace(one, sharpness=300.0) for one in crops]
    assert reasons(inside) == ["duplicate", ""]


def test_filter_crops_of_copies_with_a_sharpness_inside_the_face_drops_the_soft_one() -> None:
    """It has fewer edges in the whole crop, as a clean copy has."""
    soft, sharp = (
        replace(candidate(n, phash=look("ff" * 32), sharpness=edges), sharpness=inside)
        for n, edges, inside in ((1, 100.0, 200.0), (2, 400.0, 500.0))
    )
    assert reasons([soft, sharp]) == ["duplicate", ""]
    assert reasons([soft, sharp], sharpness_at="crop") == ["", "duplicate"]


def test_filter_crops_of_copies_keeps_the_one_in_colour() -> None:
    grey, coloured = (
        replace(candidate(n, phash=look("ff" * 32)), colour=colour)
        for n, colour in ((1, 1.0), (2, 40.0))
    )
    assert reasons([grey, coloured]) == ["duplicate", ""]


def test_filter_crops_without_duplicate_bits_keeps_copies_in_one_group() -> None:
    """Else training would see held-out images."""
    equal = [candidate(n, f"M.{n}", phash=look("ff" * 32)) for n in (1, 2)]
    assert reasons(equal, duplicate_bits=None) == ["", ""]
    assert len(set(splits.group_crops(equal, copies_of(equal, None)).values())) == 1


@pytest.mark.parametrize(("bits", "expected"), [(2, ["", "duplicate"]), (1, ["", ""])])
def test_filter_crops_finds_duplicates_within_duplicate_bits(
    bits: int, expected: list[str]
) -> None:
    crops = [candidate(1), candidate(2)]  # one bit each, not the same one
    assert reasons(crops, duplicate_bits=bits) == expected


def test_filter_crops_when_an_original_has_no_face_keeps_its_largest_copy() -> None:
    large, middle, small = (candidate(n, face_px=px) for n, px in ((1, 300), (2, 200), (3, 100)))
    crops = [changed(one, phash=look("ff" * 32)) for one in (small, large, middle)]
    crops[1] = replace(crops[1], reason=NO_FACE_AGAIN)
    rows = filters.filter_crops(crops, params(), copies_of(crops, 0))
    assert [row.reason for row in rows] == ["duplicate", "no face when cropped again", ""]
    assert rows[0].duplicate_of == middle.crop.crop


def test_filter_crops_gives_rows_with_the_crop_and_its_first_source() -> None:
    one = candidate(1, face=3, yaw=-7.5)
    (row,) = filtered([one])
    assert (row.crop, row.face, row.yaw) == (one.crop.crop, 3, -7.5)
    assert (row.article, row.author, row.url) == (
        "M.1704074641.A.001",
        "by-M.1704074641.A.001",
        "https://i.example/1.jpg",
    )
    assert (row.sha256, row.split, row.reason, row.duplicate_of) == (one.sha256, "", "", "")


def test_filter_crops_of_a_denied_crop_gives_a_row_without_its_source() -> None:
    (row,) = filtered([candidate(1)], DenyList.of(["article:M.1704074641.A.001"]))
    assert (row.reason, row.split) == ("denied", "")
    assert (row.article, row.author, row.url) == ("", "", "")
