"""Parses index pages of a ptt.cc board: their rows, and their number among the pages."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bs4 import SoupStrainer, Tag

from pttfaces.board.article_ids import article_id_in, posted_at
from pttfaces.board.html import parse_html, text_of, title_of
from pttfaces.errors import SiteError

_POPULARITY = {"爆": 100, "XX": -100}
_POPULARITY |= {f"X{tens}": -10 * tens for tens in range(1, 10)}
_POPULARITY |= {str(number): number for number in range(100)}
_PARTS = SoupStrainer("div", class_=re.compile("btn-group-paging|r-list-container"))
_PAGE_NUMBER = re.compile(r"/index(\d+)\.html$")


@dataclass(frozen=True)
class IndexRow:
    """A row of an index page.

    id: None for a row without a link to an article (a deleted post); nrec: popularity from −100
    (XX) to 100 (爆), None where the cell is blank.
    """

    id: str | None
    href: str
    title: str
    author: str
    nrec: int | None


@dataclass(frozen=True)
class IndexPage:
    """An index page: its number (1 is the oldest), and its rows, oldest first, none pinned."""

    number: int
    rows: tuple[IndexRow, ...]

    @property
    def times(self) -> list[int]:
        """When its articles were posted, in the rows' order; deleted ones have no time."""
        times = (posted_at(row.id) for row in self.rows if row.id)
        return [time for time in times if time is not None]


def parse_index(text: str, url: str) -> IndexPage:
    """Parses an index page in the layout of 2016 or 2020.

    SiteError: the page is something else, such as a login page.
    """
    parts = parse_html(text, _PARTS)
    listing = parts.find("div", class_="r-list-container")
    paging = parts.select("div.btn-group-paging a.btn")
    if listing is None or len(paging) < 3:
        raise SiteError(
            f"{url} is not an index page of a ptt.cc board (its title: {title_of(text)}); "
            "check board.base_url and board.name, and open the address in a browser."
        )
    # The second button leads to the page before; on the oldest page it has no address.
    before = _PAGE_NUMBER.search(str(paging[1].get("href", "")))
    number = int(before[1][-9:]) + 1 if before else 1
    return IndexPage(number, tuple(_rows(listing)))


def parse_popularity(text: str) -> int | None:
    """The number in a popularity cell: 爆 is 100, 1 to 99, X1 to X9 are −10 to −90, XX is −100."""
    return _POPULARITY.get(text.strip())


def _rows(listing: Tag) -> Iterator[IndexRow]:
    rows: list[dict[str, Tag]] = []  # class of a cell → the cell
    for div in listing.find_all("div"):
        classes = div.get_attribute_list("class")
        if "r-list-sep" in classes:
            break  # the rows below are pinned
        if "r-ent" in classes:
            rows.append({})
        for name in classes if rows else ():
            rows[-1].setdefault(name, div)
    for row in rows:
        title = row.get("title")
        # Only the title's own link: the menu beside the author holds further ones.
        link = title.find("a", href=True, recursive=False) if title else None
        href = str(link["href"]) if link else ""
        yield IndexRow(
            id=article_id_in(href) if re.match(r"/[^/\\]", href) else None,  # of this site
            href=href,
            title=text_of(link or title),
            author=text_of(row.get("author")),
            nrec=parse_popularity(text_of(row.get("nrec"))),
        )
