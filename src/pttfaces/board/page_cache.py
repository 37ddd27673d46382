"""Caches pages on disk as they were served, so that none is requested twice.

`PageCache` has a file for each URL, `IndexPageCache` one for each range of time in which a board no
longer changes. Both hold gzipped JSON Lines, one line a page; a damaged file counts as missing.
"""

import gzip
import json
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pttfaces import files
from pttfaces.board.article_ids import Span
from pttfaces.board.index_page import IndexPage, parse_index
from pttfaces.errors import SiteError


@dataclass(frozen=True)
class Page:
    """A page as it was served: the URL requested, the HTTP status, the text.

    location: where it redirects, as an absolute URL, "" for no redirect; content_type: in lower
    case, without parameters.
    """

    url: str
    status: int
    text: str
    location: str = ""
    content_type: str = ""


@dataclass(frozen=True)
class PageCache:
    """Pages below `folder`, by the digest of their URL; those older than max_age_s do not count."""

    folder: Path
    max_age_s: float = float("inf")

    def get(self, url: str) -> Page | None:
        """The cached page of a URL; None if it is missing."""
        path = self._path(url)
        if not path.exists() or time.time() - path.stat().st_mtime > self.max_age_s:
            return None
        pages = _read_pages(path)
        return pages[0] if pages else None

    def put(self, page: Page) -> None:
        """Adds a page, or replaces the one of its URL."""
        _write_pages(self._path(page.url), [page])

    def _path(self, url: str) -> Path:
        digest = files.digest_bytes(url.encode(errors="surrogatepass"))
        return self.folder / digest[:2] / f"{digest}.json.gz"


@dataclass(frozen=True)
class IndexPageRead:
    """An index page as it was served, and its content."""

    page: Page
    index: IndexPage

    @classmethod
    def of(cls, page: Page) -> "IndexPageRead":
        """Parses a page. SiteError: it is no index page."""
        return cls(page, parse_index(page.text, page.url))


@dataclass(frozen=True)
class PageRange:
    """Index pages, oldest first, with all posts of `span` that were on the board at the time."""

    span: Span
    pages: Sequence[IndexPageRead]


@dataclass(frozen=True)
class IndexPageCache:
    """A board's page ranges in `folder`, one file each, named by its first and last second."""

    folder: Path

    def ranges(self, span: Span) -> Iterator[PageRange]:
        """Ranges that begin with `span` and follow each other without a gap; may be none."""
        start = span.start
        while start < span.end and (longest := self._longest_range(start)):
            yield longest
            start = longest.span.end

    def put(self, pages: PageRange) -> None:
        """Adds a range."""
        _write_pages(self._path(pages.span), (read.page for read in pages.pages))

    def _longest_range(self, start: int) -> PageRange | None:
        ends = [int(path.name.split("-")[1][:-9]) for path in self.folder.glob(f"{start}-*.gz")]
        for end in sorted(ends, reverse=True):
            span = Span(start, end)
            pages = _read_pages(self._path(span))
            if pages is not None:
                try:
                    return PageRange(span, [IndexPageRead.of(page) for page in pages])
                except SiteError:
                    continue
        return None

    def _path(self, span: Span) -> Path:
        return self.folder / f"{span.start}-{span.end}.jsonl.gz"


def _write_pages(path: Path, pages: Iterable[Page]) -> None:
    lines = [json.dumps(asdict(page)).encode() for page in pages]
    files.write_bytes(path, gzip.compress(b"\n".join(lines), 6, mtime=0))


def _read_pages(path: Path) -> list[Page] | None:
    """The pages in a file; None if it is missing or damaged."""
    try:
        content = path.read_bytes()
        if not content:  # valid for gzip: no member at all
            return None
        return [Page(**json.loads(line)) for line in gzip.decompress(content).splitlines()]
    except (FileNotFoundError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, TypeError):
        return None
