"""Lists the articles of a range of time on a board, and filters them.

The index pages are found by bisecting on the times in article ids.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from pttfaces.board.article_ids import RECENT_MAX_AGE_S, Span, day_of, posted_at
from pttfaces.board.client import PageClient
from pttfaces.board.html import title_of
from pttfaces.board.index_page import IndexRow
from pttfaces.board.page_cache import IndexPageCache, IndexPageRead, Page, PageCache, PageRange
from pttfaces.denylist import DenyList
from pttfaces.errors import DataError, SiteError
from pttfaces.progress import progress
from pttfaces.tables import Article

ANNOUNCEMENT = "[公告]"

ROW_REASONS = (
    "other_date",
    "deleted",
    "unknown_id",
    "announcement",
    "no_title",
    "no_popularity",
    "below_min_nrec",
    "denied",
    "repeated_id",
)


@dataclass(frozen=True)
class Listing:
    """The rows of a board's index pages with posts of `span`, oldest first, each article once."""

    board: str
    span: Span
    rows: Sequence[IndexRow]


def list_rows(
    client: PageClient,
    base_url: str,
    board: str,
    span: Span,
    work: Path,
    cache: IndexPageCache,
    settled: int,
) -> list[IndexRow]:
    """All rows of the index pages with posts of `span`, oldest first, each article once.

    Only what `cache` lacks is requested; of that, what is older than `settled` (Unix seconds), and
    so no longer changes, is added to it. work: folder for the pages of this listing, to resume it;
    pages that still change are used for a day. Pinned rows are left out.
    SiteError: no such board, or no board at all. DataError: the board is empty.
    """
    ranges = list(cache.ranges(span))
    start = ranges[-1].span.end if ranges else span.start
    if start < span.end:
        missing = Span(start, span.end)
        pages = _read_pages(client, base_url, board, missing, work, settled)
        ranges.append(PageRange(missing, pages))
        if start < (end := min(settled, span.end)):
            cache.put(PageRange(Span(start, end), _before(pages, end)))
    return _merge(ranges, span)


def filter_rows(
    listings: Iterable[Listing], base_url: str, min_nrec: int | None, deny: DenyList
) -> tuple[list[Article], dict[str, int]]:
    """The articles that pass the filters, and how many rows each of ROW_REASONS left out.

    min_nrec: minimum popularity, where a blank one counts as 0; None leaves out the blank ones
    instead, as the original project did. An article's id is unique on its board only: of two
    boards' articles with one id the first stays, since the id is their key from here on.
    """
    articles: dict[str, Article] = {}
    left_out: Counter[str] = Counter()
    for listing in listings:
        for row in listing.rows:
            time = posted_at(row.id) if row.id else None
            reason = _reason(row, time, listing.span, min_nrec, deny)
            if not reason and row.id in articles:
                reason = "repeated_id"
            if reason or row.id is None or time is None:
                left_out[reason] += 1
            else:
                articles[row.id] = Article(
                    id=row.id,
                    url=urljoin(base_url, row.href),
                    title=row.title,
                    author=row.author,
                    date=day_of(time),
                    nrec=row.nrec or 0,
                    board=listing.board,
                )
    return list(articles.values()), {reason: left_out[reason] for reason in ROW_REASONS}


def _reason(
    row: IndexRow, time: int | None, span: Span, min_nrec: int | None, deny: DenyList
) -> str:
    """Why a row is left out, one of ROW_REASONS; "" if it passes."""
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


def _read_pages(
    client: PageClient, base_url: str, board: str, span: Span, work: Path, settled: int
) -> list[IndexPageRead]:
    """The pages with posts of `span`, oldest first.

    Pages are read from the newest down, several at once; new posts only join at the top. If older
    posts were purged meanwhile, so that the rows have moved down, all pages are read a second time,
    one after another: a page that is requested after the one above it can only have gained rows
    from there, so no further purge makes a row slip through.
    SiteError: see `list_rows`; also if pages disappear the second time. The next run then starts
    the second reading over.
    """
    max_age_s = RECENT_MAX_AGE_S if span.end > settled else float("inf")
    again = work / "again"
    if not again.exists():
        cache = PageCache(work / "pages", max_age_s)
        reader = _Reader(client, base_url, board, edges=cache, pages=cache)
        with suppress(_PagesLostError):
            pages = reader.read(span, concurrently=True)
            if not pages or reader.rows_unmoved():
                return pages
        again.mkdir(parents=True)
    # A separate cache for the pages that find the edges: they are older than the pages above
    # them, so this reading may not use them.
    edges, pages_again = (PageCache(again / name, max_age_s) for name in ("edges", "pages"))
    reader = _Reader(client, base_url, board, edges, pages_again)
    try:
        return reader.read(span, concurrently=False)
    except _PagesLostError:
        shutil.rmtree(again)
        raise


@dataclass(frozen=True)
class _Reader:
    """Reads index pages of a board.

    edges: cache of the pages that find the first and last page; pages: of those between them.
    """

    client: PageClient
    base_url: str
    board: str
    edges: PageCache
    pages: PageCache

    def read(self, span: Span, concurrently: bool) -> list[IndexPageRead]:
        """The pages with posts of `span`, oldest first; none if the board is younger."""
        newest = self.newest()
        top = self.last_page_before(span.end, newest.index.number, newest)
        if top == 0:
            return []
        bottom = max(1, self.last_page_before(span.start, top, newest))
        read = [newest] if top == newest.index.number else []
        numbers = range(top - len(read), bottom - 1, -1)
        with progress("index pages", len(numbers), " pages") as bar:
            for page in self.read_pages(numbers) if concurrently else map(self.read_page, numbers):
                read.append(page)
                bar.update()
        # The first rows may have moved further down meanwhile.
        while bottom > 1 and all(time >= span.start for page in read for time in page.index.times):
            bottom -= 1
            read.append(self.read_page(bottom))
        return read[::-1]

    def newest(self) -> IndexPageRead:
        return self.client.get(self._url(""), self._parse_newest, self.edges)

    def read_pages(self, numbers: Iterable[int]) -> Iterator[IndexPageRead]:
        urls = ((self._url(number), self.pages) for number in numbers)
        return self.client.get_all(urls, self._parse_older)

    def read_page(self, number: int, cache: PageCache | None = None) -> IndexPageRead:
        """cache: `pages` if it is None."""
        return self.client.get(self._url(number), self._parse_older, cache or self.pages)

    def rows_unmoved(self) -> bool:
        """Whether the newest page's rows, and so all older ones, are where they were at first.

        Requests the page again; further posts at its end, and some that were deleted in place,
        change nothing.
        """
        before = self.newest().index
        now, _ = self._parse_older(self.client.fetch(self._url(before.number)))
        pairs = zip(before.rows, now.index.rows, strict=False)
        return any(row.id is not None and row.id == same.id for row, same in pairs)

    def last_page_before(self, time: int, last: int, newest: IndexPageRead) -> int:
        """The last page up to `last` whose first post is older than `time`, by bisecting; 0 for
        none."""
        low, high = 0, last + 1
        # For the present year the newest page, which is at hand, often decides at once.
        middle = last if last == newest.index.number else (low + high) // 2
        while high - low > 1:
            older = self._oldest_time(middle, newest) < time
            low, high = (middle, high) if older else (low, middle)
            middle = (low + high) // 2
        return low

    def _oldest_time(self, number: int, newest: IndexPageRead) -> int:
        """When a page's first post was made; that of an older page if all of its are deleted."""
        for candidate in range(number, 0, -1):
            is_newest = candidate == newest.index.number
            page = newest if is_newest else self.read_page(candidate, self.edges)
            if times := page.index.times:
                return times[0]
        return 0

    def _url(self, number: int | str) -> str:
        return urljoin(self.base_url, f"/bbs/{self.board}/index{number}.html")

    def _parse_newest(self, page: Page) -> tuple[IndexPageRead, bool]:
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
        newest = IndexPageRead.of(page)
        if newest.index.number == 1 and not newest.index.rows:
            raise DataError(
                f"the board {self.board} at {self.base_url} is empty; choose another board.name."
            )
        return newest, bool(newest.index.rows)

    def _parse_older(self, page: Page) -> tuple[IndexPageRead, bool]:
        """Parses a page below the newest."""
        if page.status == 404:
            raise _PagesLostError(
                f"the board {self.board} at {self.base_url} lost pages while it was read; "
                "run the same command again."
            )
        if page.status != 200:
            raise SiteError(
                f"{page.url} answers with status {page.status}; run the same command to resume. "
                "Pages already read are kept."
            )
        read = IndexPageRead.of(page)
        return read, bool(read.index.rows)


class _PagesLostError(SiteError):
    """A page is no longer there: many older posts were purged."""


def _before(pages: Iterable[IndexPageRead], time: int) -> list[IndexPageRead]:
    """Without the pages that begin at `time` or later."""
    return [page for page in pages if not page.index.times or page.index.times[0] < time]


def _merge(ranges: Sequence[PageRange], span: Span) -> list[IndexRow]:
    """The rows of ranges that follow each other, oldest first, each article once.

    Where two ranges meet, the second one has the rows from its start on.
    """
    rows: list[IndexRow] = []
    for part in ranges:
        own = _rows(_before(part.pages, span.end))
        if part is not ranges[0]:
            own = own[_first_since(own, part.span.start) :]
        if part is not ranges[-1]:
            own = own[: _first_since(own, part.span.end)]
        rows += own
    return rows


def _rows(pages: Sequence[IndexPageRead]) -> list[IndexRow]:
    """The rows of pages; one that moved and is on two pages is taken from the newer one."""
    rows: list[IndexRow] = []
    seen: set[str] = set()
    for page in reversed(pages):
        unseen = [row for row in page.index.rows if row.id is None or row.id not in seen]
        rows += reversed(unseen)
        seen.update(row.id for row in unseen if row.id)
    return rows[::-1]


def _first_since(rows: Sequence[IndexRow], time: int) -> int:
    """The index of the first row that was posted at `time` or later."""
    later = (i for i, row in enumerate(rows) if row.id and (posted_at(row.id) or 0) >= time)
    return next(later, len(rows))
