"""What stands on a board's index page: its rows, and its place among the pages.

Knows the HTML of ptt.cc's index pages (both orders inside a row, 2016's and 2020's), no network.
"""

import re
from dataclasses import dataclass

from bs4 import Tag

from pttfaces.board.ids import id_of
from pttfaces.board.markup import soup_of
from pttfaces.errors import SiteError

EXPLODED = 100  # 爆: a hundred pushes or more

_PAGE_NUMBER = re.compile(r"/index(\d+)\.html$")


@dataclass(frozen=True)
class Row:
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
    """An index page: its number (1 is the oldest) and its rows, oldest first, no pinned ones."""

    number: int
    rows: tuple[Row, ...]


def parse_index(text: str, url: str) -> IndexPage:
    """Reads an index page; SiteError where it is something else, such as a login page."""
    soup = soup_of(text)
    listing = soup.select_one("div.r-list-container")
    paging = soup.select("div.btn-group-paging a.btn")
    if listing is None or len(paging) < 3:
        title = soup.title.get_text(strip=True)[:60] if soup.title else "none"
        raise SiteError(
            f"{url} is not an index page of a ptt.cc board (its title: {title}); "
            "check board.base_url and board.name, and open the address in a browser."
        )
    # The second button leads to the page before; the oldest page's has no address.
    before = _PAGE_NUMBER.search(str(paging[1].get("href") or ""))
    number = int(before[1][-9:]) + 1 if before else 1
    rows: list[Row] = []
    for block in listing.select("div.r-ent, div.r-list-sep"):
        if "r-list-sep" in block.get_attribute_list("class"):
            break  # what follows is pinned
        rows.append(_row(block))
    return IndexPage(number, tuple(rows))


def popularity(text: str) -> int | None:
    """The number behind a popularity cell: 爆 100, 1 to 99, X1 to X9 −10 to −90, XX −100."""
    text = text.strip()
    if text == "爆":
        return EXPLODED
    if text == "XX":
        return -100
    if re.fullmatch(r"X[1-9]", text):
        return -10 * int(text[1])
    return int(text) if re.fullmatch(r"[0-9]{1,2}", text) else None


def _row(block: Tag) -> Row:
    # Only the title's own link: the menu beside the author holds further ones.
    link = block.select_one("div.title > a[href]")
    href = str(link.get("href")) if link else ""
    title = link or block.select_one("div.title")
    return Row(
        id=id_of(href),
        href=href,
        title=title.get_text().strip() if title else "",
        author=_text(block, "div.author"),
        nrec=popularity(_text(block, "div.nrec")),
    )


def _text(block: Tag, selector: str) -> str:
    found = block.select_one(selector)
    return found.get_text().strip() if found else ""
