"""Parses index pages of a ptt.cc board: their rows, and their number among the pages."""

import re
from dataclasses import dataclass

from pttfaces.board.article_ids import article_id_in, posted_at
from pttfaces.board.html import Node, has_class, parse_html, text_at, title_of
from pttfaces.errors import SiteError

EXPLODED = 100  # 爆: a hundred pushes or more

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
    tree = parse_html(text)
    listing = tree.css_first("div.r-list-container")
    paging = tree.css("div.btn-group-paging a.btn")
    if listing is None or len(paging) < 3:
        raise SiteError(
            f"{url} is not an index page of a ptt.cc board (its title: {title_of(text)}); "
            "check board.base_url and board.name, and open the address in a browser."
        )
    # The second button leads to the page before; on the oldest page it has no address.
    before = _PAGE_NUMBER.search(paging[1].attributes.get("href") or "")
    number = int(before[1][-9:]) + 1 if before else 1
    rows: list[IndexRow] = []
    for block in listing.css("div.r-ent, div.r-list-sep"):
        if has_class(block, "r-list-sep"):
            break  # the rows below are pinned
        rows.append(_parse_row(block))
    return IndexPage(number, tuple(rows))


def parse_popularity(text: str) -> int | None:
    """The number in a popularity cell: 爆 is 100, 1 to 99, X1 to X9 are −10 to −90, XX is −100."""
    text = text.strip()
    if text == "爆":
        return EXPLODED
    if text == "XX":
        return -100
    if re.fullmatch(r"X[1-9]", text):
        return -10 * int(text[1])
    return int(text) if re.fullmatch(r"[0-9]{1,2}", text) else None


def _parse_row(block: Node) -> IndexRow:
    # Only the title's own link: the menu beside the author holds further ones.
    link = block.css_first("div.title > a[href]")
    href = (link.attributes["href"] or "") if link else ""
    return IndexRow(
        id=article_id_in(href),
        href=href,
        title=text_at(block, "div.title > a[href]" if link else "div.title"),
        author=text_at(block, "div.author"),
        nrec=parse_popularity(text_at(block, "div.nrec")),
    )
