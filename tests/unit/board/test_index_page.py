"""Index pages as ptt.cc writes them, in both layouts, and other pages."""

from contextlib import suppress

import pytest
from hostile.pages import DELETED, PINNED, ROW_2016, ROW_2020
from hostile.pages import index_page as page
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.board.index_page import parse_index, parse_popularity
from pttfaces.errors import SiteError

URL = "https://www.ptt.cc/bbs/Beauty/index2.html"


def test_parse_index_reads_rows_of_2020_and_2016_alike() -> None:
    index = parse_index(page(ROW_2020 + ROW_2016), URL)
    first, second = index.rows
    assert index.number == 2
    assert (first.id, first.title, first.author) == ("M.1704040318.A.E87", "[正妹] 一", "someone")
    assert first.href == "/bbs/Beauty/M.1704040318.A.E87.html"
    assert first.nrec == 38
    assert (second.id, second.title, second.author) == ("G.1451577600.A.0F1", "[神人] 二", "other")
    assert second.nrec == 100


def test_parse_index_of_a_deleted_row_gives_no_id() -> None:
    (row,) = parse_index(page(DELETED), URL).rows
    assert row.id is None
    assert row.author == "-"
    assert row.title.startswith("(本文已被刪除)")


def test_parse_index_of_a_link_to_another_site_gives_no_id() -> None:
    """A board must not make the client ask the machines of our network."""
    row = ROW_2020.replace('href="/', 'href="//169.254.169.254/')
    assert row != ROW_2020
    assert [row.id for row in parse_index(page(row), URL).rows] == [None]


def test_parse_index_leaves_out_rows_below_the_separator() -> None:
    index = parse_index(page(ROW_2020 + '<div class="r-list-sep"></div>' + PINNED), URL)
    assert [row.title for row in index.rows] == ["[正妹] 一"]


def test_parse_index_of_the_oldest_page_gives_number_one() -> None:
    assert parse_index(page(ROW_2020, before=""), URL).number == 1


def test_parse_index_of_a_row_that_is_not_closed_takes_no_cell_from_the_next() -> None:
    index = parse_index(page('<div class="r-ent"><div class="nrec">9</div>' + ROW_2020), URL)
    assert [(row.id, row.nrec) for row in index.rows] == [(None, 9), ("M.1704040318.A.E87", 38)]


def test_parse_index_when_elements_are_nested_deeply_reads_rows() -> None:
    assert len(parse_index(page("<div>" * 20_000 + ROW_2020), URL).rows) == 1


@pytest.mark.parametrize(
    ("cell", "value"),
    [("爆", 100), ("99", 99), ("1", 1), ("", None), ("X1", -10), ("X9", -90), ("XX", -100)],
)
def test_parse_popularity_gives_a_number(cell: str, value: int | None) -> None:
    assert parse_popularity(f" {cell}\n") == value


def test_parse_index_of_a_login_page_names_its_title() -> None:
    with pytest.raises(SiteError, match=r"not an index page .*Please log in"):
        parse_index("<html><title>Please log in</title><form></form></html>", URL)


@given(st.binary(max_size=2000))
def test_parse_index_of_any_bytes_raises_at_most_site_error(content: bytes) -> None:
    with suppress(SiteError):
        parse_index(content.decode(errors="replace"), URL)


BITS = ["<div class='r-ent'>", "</div>", "<a href='", "<!", "<![", "<!--", "&#", "]>", "<?"]
BITS += ["<div class='nrec'>", "<a class=btn href=/index99999999999999999999.html>", DELETED]
BITS += ["<div class='r-list-container'>", "<div class='btn-group-paging'>", "&#99999999999;"]
MARKUP = st.lists(st.sampled_from(BITS) | st.text(max_size=12), max_size=30).map("".join)


@given(MARKUP)
def test_parse_index_of_any_markup_raises_at_most_site_error(text: str) -> None:
    for candidate in (text, page(text)):
        with suppress(SiteError):
            parse_index(candidate, URL)
