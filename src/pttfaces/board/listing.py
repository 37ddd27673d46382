"""The articles of a stretch of time on a board, and the filters that choose among them.

Finds the index pages by bisecting on article ids, so no page number is ever given. Knows index
pages and ids; the network is the client's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urljoin

from pttfaces import files
from pttfaces.board import ids, index, markup
from pttfaces.board.client import Client
from pttfaces.board.ids import Span, day_of, posted_at
from pttfaces.board.index import IndexPage, Row, parse_index
from pttfaces.board.store import Page, PageStore
from pttfaces.denylist import DenyList
from pttfaces.errors import DataError, SiteError
from pttfaces.progress import progress

ANNOUNCEMENT = "[公告]"

REASONS = (
    "other_date",
    "deleted",
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


def list_rows(client: Client, base_url: str, board: str, span: Span, folder: Path) -> list[Row]:
    """All rows of the index pages that hold `span`, oldest first, no article twice, none pinned.

    Pages are read from the newest down, several at once; new posts only join above. Where the rows
    have moved meanwhile, because an old post was purged, the stretch is read again, page by page.
    `folder` keeps the pages of this listing for a restart.
    SiteError: no such board, or no board at all. DataError: the board is empty.
    """
    # Apart, since a page that was read to find the edges is older than the page above it in the
    # list: a post purged between the two would hide a row.
    probed, listed = PageStore(folder / "edges"), PageStore(folder / "pages")
    reader = _Reader(client, base_url, board)
    read = reader.stretch(span, probed, listed, at_once=True)
    # A post purged below the stretch has moved its last page's rows; one fresh look tells.
    if read and _moved(read[0], reader.page(read[0].number, None)):
        probed.clear()
        listed.clear()
        # A page that is asked for when the one above has come can only have gained that one's
        # rows: whatever is purged now, no row slips through.
        read = reader.stretch(span, probed, listed, at_once=False)
    return _joined(read)


@dataclass(frozen=True)
class _Reader:
    client: Client
    base_url: str
    board: str

    def newest(self, store: PageStore) -> IndexPage:
        url = urljoin(self.base_url, f"/bbs/{self.board}/index.html")
        answer = self.client.get(url, store, _is_index)
        if answer.status == 404:
            raise SiteError(
                f"{self.base_url} has no board {self.board} ({url} is not found); check board.name."
            )
        if answer.status != 200:
            raise SiteError(
                f"{url} answers with status {answer.status}; "
                "open it in a browser, and try again later."
            )
        newest = parse_index(answer.text, url)
        if newest.number == 1 and not newest.rows:
            raise DataError(
                f"the board {self.board} at {self.base_url} is empty; name another as board.name."
            )
        return newest

    def pages(self, numbers: Iterable[int], store: PageStore | None) -> Iterator[IndexPage]:
        urls = [urljoin(self.base_url, f"/bbs/{self.board}/index{n}.html") for n in numbers]
        for answer in self.client.get_all(((url, store) for url in urls), _is_index):
            if answer.status != 200:
                raise SiteError(
                    f"{answer.url} answers with status {answer.status} in the middle of the list; "
                    "run the same command again: pages already read are kept."
                )
            yield parse_index(answer.text, answer.url)

    def last_page_before(self, time: int, newest: IndexPage, store: PageStore) -> int:
        """The last page whose first post is older than `time`, by bisecting; 0 for none."""
        low, high = 0, newest.number + 1
        middle = newest.number  # the page at hand decides for a year that goes on
        while high - low > 1:
            older = self._oldest_time(middle, newest, store) < time
            low, high = (middle, high) if older else (low, middle)
            middle = (low + high) // 2
        return low

    def _oldest_time(self, number: int, newest: IndexPage, store: PageStore) -> int:
        """When a page's first post was made; that of older pages where all are deleted."""
        for candidate in range(number, 0, -1):
            at_hand = candidate == newest.number
            page = newest if at_hand else self.page(candidate, store)
            if times := _times(page):
                return times[0]
        return 0

    def page(self, number: int, store: PageStore | None) -> IndexPage:
        return next(self.pages([number], store))

    def stretch(
        self, span: Span, probed: PageStore, listed: PageStore, at_once: bool
    ) -> list[IndexPage]:
        """The pages that hold `span`, newest first; none where the board is younger.

        at_once: several pages under way at a time, else each is asked for when the one above has
        come.
        """
        newest = self.newest(probed)
        top = self.last_page_before(span.end, newest, probed)
        if top == 0:
            return []
        bottom = max(1, self.last_page_before(span.start, newest, probed))
        numbers = range(top, bottom - 1, -1)
        read: list[IndexPage] = []
        with progress("index pages", len(numbers), " pages") as bar:
            for page in (
                self.pages(numbers, listed)
                if at_once
                else (self.page(number, listed) for number in numbers)
            ):
                read.append(page)
                bar.update()
        # The first rows may have moved further down meanwhile.
        while bottom > 1 and all(time >= span.start for page in read for time in _times(page)):
            bottom -= 1
            read.append(self.page(bottom, listed))
        return read


def _is_index(page: Page) -> bool:
    # One without rows is not kept either: an empty board may fill.
    try:
        return page.status == 200 and bool(parse_index(page.text, page.url).rows)
    except SiteError:
        return False


def _joined(newest_first: Iterable[IndexPage]) -> list[Row]:
    """Rows oldest first; a row that stood on two pages, because it moved, is taken once."""
    rows: list[Row] = []
    seen: set[str] = set()
    for page in newest_first:
        fresh = [row for row in page.rows if row.id is None or row.id not in seen]
        rows += reversed(fresh)
        seen.update(row.id for row in fresh if row.id)
    return rows[::-1]


def kept_path(base_url: str, board: str, span: Span) -> Path:
    """Where a listing that will not change any more is kept, for as long as this code stays so."""
    code = files.code_digest(Path(__file__), ids, index, markup)
    digest = files.digest_json([base_url, board, str(span), code])
    return files.cache_dir("listings") / f"{digest}.jsonl"


def keep_rows(path: Path, rows: Iterable[Row]) -> None:
    """Keeps a listing that will not change any more."""
    files.write_jsonl(path, (asdict(row) for row in rows))


def kept_rows(path: Path) -> list[Row] | None:
    """A listing that was kept; None where there is none."""
    return [Row(**row) for row in files.read_jsonl(path)] if path.exists() else None


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
    if time is None or row.id is None:
        return "deleted"
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
    return "denied" if deny.denies(article=row.id, author=row.author) else ""


def _moved(before: IndexPage, now: IndexPage) -> bool:
    """Whether the rows of a page stand elsewhere now; posts may have joined at its end."""
    ids_before = [row.id for row in before.rows]
    return [row.id for row in now.rows][: len(ids_before)] != ids_before


def _times(page: IndexPage) -> list[int]:
    times = (posted_at(row.id) for row in page.rows if row.id)
    return [time for time in times if time is not None]
