"""The articles of a stretch of time on a board, and the filters that choose among them.

Finds the index pages by bisecting on article ids, so no page number is ever given. Knows index
pages and ids; the network is the client's.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from pttfaces.board.article_ids import Span, day_of, posted_at
from pttfaces.board.client import Client
from pttfaces.board.html import title_of
from pttfaces.board.index import Row
from pttfaces.board.page_cache import Listed, Page, PageStore, Shelf, Stretch
from pttfaces.denylist import DenyList
from pttfaces.errors import DataError, SiteError
from pttfaces.progress import progress

ANNOUNCEMENT = "[公告]"
_DAY_S = 86400.0

REASONS = (
    "other_date",
    "deleted",
    "unknown_id",
    "announcement",
    "no_title",
    "no_popularity",
    "below_min_nrec",
    "denied",
)


@dataclass(frozen=True)
class Article:
    """An article that is kept: a line of data/articles.jsonl. date: YYYY-MM-DD in UTC+8."""

    id: str
    url: str
    title: str
    author: str
    date: str
    nrec: int


def list_rows(
    client: Client, base_url: str, board: str, span: Span, work: Path, shelf: Shelf, settled: int
) -> list[Row]:
    """All rows of the index pages that hold `span`, oldest first, no article twice, none pinned.

    Only what is not on `shelf` is read; of that, what is older than `settled` (unix seconds) and
    so will not change is put there. `work` keeps the pages of this reading for a restart, for a day
    where they still change.
    SiteError: no such board, or no board at all. DataError: the board is empty.
    """
    stretches = list(shelf.stretches(span))
    start = stretches[-1].span.end if stretches else span.start
    if start < span.end:
        missing = Span(start, span.end)
        fresh = _read(client, base_url, board, missing, work, settled)
        stretches.append(Stretch(missing, fresh))
        if start < (end := min(settled, span.end)):
            shelf.put(Stretch(Span(start, end), _not_after(fresh, end)))
    return _joined(stretches, span)


def _read(
    client: Client, base_url: str, board: str, span: Span, work: Path, settled: int
) -> list[Listed]:
    """The pages that hold `span`, oldest first.

    Pages are read from the newest down, several at once; new posts only join above. Where the rows
    have moved meanwhile, because an older post was purged, the stretch is read again, page by page:
    a page that is asked for when the one above has come can only have gained that one's rows, so
    whatever is purged now, no row slips through.
    SiteError: see `list_rows`; the next run finds no page that no longer fits the board.
    """
    max_age_s = _DAY_S if span.end > settled else float("inf")
    again = work / "again"
    if not again.exists():
        store = PageStore(work / "pages", max_age_s)
        reader = _Reader(client, base_url, board, store, store)
        with suppress(_ShrunkError):
            pages = reader.stretch(span, reader.pages)
            if not pages or reader.stands():
                return pages
        again.mkdir(parents=True)
    # The pages that were read to find the edges are older than those above them: no part of the
    # list here.
    edges, pages_again = (PageStore(again / name, max_age_s) for name in ("edges", "pages"))
    reader = _Reader(client, base_url, board, edges, pages_again)
    try:
        return reader.stretch(span, lambda numbers: map(reader.page, numbers))
    except _ShrunkError:
        shutil.rmtree(again)
        raise


@dataclass(frozen=True)
class _Reader:
    client: Client
    base_url: str
    board: str
    edges: PageStore
    store: PageStore

    def stretch(
        self, span: Span, pages: Callable[[Iterable[int]], Iterator[Listed]]
    ) -> list[Listed]:
        """The pages that hold `span`, oldest first; none where the board is younger. `pages` reads
        those of the numbers it is given, in that order."""
        newest = self.newest()
        top = self.last_page_before(span.end, newest.index.number, newest)
        if top == 0:
            return []
        bottom = max(1, self.last_page_before(span.start, top, newest))
        read = [newest] if top == newest.index.number else []
        numbers = range(top - len(read), bottom - 1, -1)
        with progress("index pages", len(numbers), " pages") as bar:
            for listed in pages(numbers):
                read.append(listed)
                bar.update()
        # The first rows may have moved further down meanwhile.
        while bottom > 1 and all(time >= span.start for one in read for time in one.index.times):
            bottom -= 1
            read.append(self.page(bottom))
        return read[::-1]

    def newest(self) -> Listed:
        return self.client.get(self._url(""), self._newest, self.edges)

    def pages(self, numbers: Iterable[int]) -> Iterator[Listed]:
        urls = ((self._url(number), self.store) for number in numbers)
        return map(self._there, self.client.get_all(urls, _in_the_list))

    def page(self, number: int) -> Listed:
        return self._there(self.client.get(self._url(number), _in_the_list, self.store))

    def stands(self) -> bool:
        """Whether the newest page's rows, and so all older ones, stand where they stood; one fresh
        look tells. Posts may have joined at its end, and some may have been deleted in place."""
        before = self.newest().index
        now, _ = _in_the_list(self.client.fetch(self._url(before.number)))
        pairs = zip(before.rows, self._there(now).index.rows, strict=False)
        return any(row.id is not None and row.id == same.id for row, same in pairs)

    def last_page_before(self, time: int, last: int, newest: Listed) -> int:
        """The last page up to `last` whose first post is older than `time`, by bisecting; 0 for
        none."""
        low, high = 0, last + 1
        # The page at hand decides for a year that goes on.
        middle = last if last == newest.index.number else (low + high) // 2
        while high - low > 1:
            older = self._oldest_time(middle, newest) < time
            low, high = (middle, high) if older else (low, middle)
            middle = (low + high) // 2
        return low

    def _oldest_time(self, number: int, newest: Listed) -> int:
        """When a page's first post was made; that of older pages where all are deleted."""
        for candidate in range(number, 0, -1):
            at_hand = candidate == newest.index.number
            listed = newest if at_hand else self._edge(candidate)
            if times := listed.index.times:
                return times[0]
        return 0

    def _edge(self, number: int) -> Listed:
        return self._there(self.client.get(self._url(number), _in_the_list, self.edges))

    def _there(self, listed: Listed | None) -> Listed:
        if listed is None:
            raise _ShrunkError(
                f"the board {self.board} at {self.base_url} has lost pages while it was read; "
                "run the same command again."
            )
        return listed

    def _url(self, number: int | str) -> str:
        return urljoin(self.base_url, f"/bbs/{self.board}/index{number}.html")

    def _newest(self, page: Page) -> tuple[Listed, bool]:
        if page.status == 404:
            raise SiteError(
                f"{self.base_url} has no board {self.board} ({page.url} is not found); "
                "check board.name."
            )
        if page.status != 200:
            raise SiteError(
                f"{page.url} answers with status {page.status} (its title: {title_of(page.text)}); "
                "open it in a browser, and try again later."
            )
        newest = Listed.of(page)
        if newest.index.number == 1 and not newest.index.rows:
            raise DataError(
                f"the board {self.board} at {self.base_url} is empty; name another as board.name."
            )
        return newest, bool(newest.index.rows)


class _ShrunkError(SiteError):
    """A page is no longer there: many older posts were purged."""


def _in_the_list(page: Page) -> tuple[Listed | None, bool]:
    """A page that is not the newest; None for one that is not there."""
    if page.status == 404:
        return None, False
    if page.status != 200:
        raise SiteError(
            f"{page.url} answers with status {page.status} in the middle of the list; "
            "run the same command again: pages already read are kept."
        )
    listed = Listed.of(page)
    return listed, bool(listed.index.rows)


def _not_after(pages: Iterable[Listed], time: int) -> list[Listed]:
    """Without the pages that begin at `time` or later."""
    return [one for one in pages if not one.index.times or one.index.times[0] < time]


def _joined(stretches: Sequence[Stretch], span: Span) -> list[Row]:
    """The rows of stretches that follow each other, oldest first, each article once.

    Where two meet, the later reading says what stood from there on.
    """
    rows: list[Row] = []
    for stretch in stretches:
        own = _rows(_not_after(stretch.pages, span.end))
        if stretch is not stretches[0]:
            own = own[_first_from(own, stretch.span.start) :]
        if stretch is not stretches[-1]:
            own = own[: _first_from(own, stretch.span.end)]
        rows += own
    return rows


def _rows(pages: Sequence[Listed]) -> list[Row]:
    """The rows of pages; one that stood on two, because it moved, is taken from the newer page."""
    rows: list[Row] = []
    seen: set[str] = set()
    for listed in reversed(pages):
        fresh = [row for row in listed.index.rows if row.id is None or row.id not in seen]
        rows += reversed(fresh)
        seen.update(row.id for row in fresh if row.id)
    return rows[::-1]


def _first_from(rows: Sequence[Row], time: int) -> int:
    """The place of the first row that was posted at `time` or later."""
    later = (i for i, row in enumerate(rows) if row.id and (posted_at(row.id) or 0) >= time)
    return next(later, len(rows))


def choose(
    rows: Iterable[Row], base_url: str, span: Span, min_nrec: int | None, deny: DenyList
) -> tuple[list[Article], dict[str, int]]:
    """The articles that pass the filters, and how many rows were left out for each of REASONS.

    min_nrec: least popularity, a blank one counting as 0; None leaves out blank ones, whatever
    their number, as the original did.
    """
    articles: list[Article] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        time = posted_at(row.id) if row.id else None
        reason = _reason(row, time, span, min_nrec, deny)
        if reason or row.id is None or time is None:
            left_out[reason] += 1
        else:
            url = urljoin(base_url, row.href)
            articles.append(
                Article(row.id, url, row.title, row.author, day_of(time), row.nrec or 0)
            )
    return articles, {reason: left_out[reason] for reason in REASONS}


def _reason(row: Row, time: int | None, span: Span, min_nrec: int | None, deny: DenyList) -> str:
    if time is None:
        return "unknown_id" if row.href else "deleted"
    if time not in span:
        return "other_date"
    if ANNOUNCEMENT in row.title:
        return "announcement"
    if not row.title:
        return "no_title"
    if min_nrec is None and row.nrec is None:
        return "no_popularity"
    if min_nrec is not None and (row.nrec or 0) < min_nrec:
        return "below_min_nrec"
    return "denied" if deny.denies(article=row.id or "", author=row.author) else ""
