"""Pages that were read already, on disk, so that no page is requested twice."""

import gzip
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pttfaces import files
from pttfaces.board.article_ids import Span
from pttfaces.board.index import IndexPage, parse_index
from pttfaces.errors import SiteError


@dataclass(frozen=True)
class Page:
    """A page as it was answered: the URL asked for, the HTTP status, the text."""

    url: str
    status: int
    text: str


@dataclass(frozen=True)
class PageStore:
    """Pages below `folder`, keyed by URL; none that was put there more than max_age_s ago."""

    folder: Path
    max_age_s: float = float("inf")

    def get(self, url: str) -> Page | None:
        """The page kept under `url`; None where there is none, or where its file is damaged."""
        path = self._path(url)
        try:
            if time.time() - path.stat().st_mtime > self.max_age_s:
                return None
            page = Page(**json.loads(gzip.decompress(path.read_bytes())))
        except (FileNotFoundError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, TypeError):
            return None
        return page if page.url == url else None

    def put(self, page: Page) -> None:
        """Keeps a page."""
        content = json.dumps(asdict(page), ensure_ascii=True).encode()
        files.write_bytes(self._path(page.url), gzip.compress(content, 6, mtime=0))

    def _path(self, url: str) -> Path:
        digest = files.digest_bytes(url.encode(errors="surrogatepass"))
        return self.folder / digest[:2] / f"{digest}.json.gz"


@dataclass(frozen=True)
class Listed:
    """An index page as it was served, and what stands on it."""

    page: Page
    index: IndexPage

    @classmethod
    def of(cls, page: Page) -> "Listed":
        """Reads a page; SiteError where it is no index page."""
        return cls(page, parse_index(page.text, page.url))


@dataclass(frozen=True)
class Stretch:
    """Index pages, oldest first, with all posts of `span` that a board had when they were read."""

    span: Span
    pages: Sequence[Listed]


@dataclass(frozen=True)
class Shelf:
    """A board's stretches in `folder`, one file each, named by its first and last second."""

    folder: Path

    def stretches(self, span: Span) -> Iterator[Stretch]:
        """Stretches that begin with `span` and follow each other without a gap; may be none."""
        start = span.start
        while start < span.end and (stretch := self._longest(start)):
            yield stretch
            start = stretch.span.end

    def put(self, stretch: Stretch) -> None:
        """Keeps a stretch."""
        lines = [json.dumps(asdict(listed.page)).encode() for listed in stretch.pages]
        path = self.folder / f"{stretch.span.start}-{stretch.span.end}.jsonl.gz"
        files.write_bytes(path, gzip.compress(b"\n".join(lines), 6, mtime=0))

    def _longest(self, start: int) -> Stretch | None:
        ends = [int(path.name.split("-")[1][:-9]) for path in self.folder.glob(f"{start}-*.gz")]
        for end in sorted(ends, reverse=True):
            path = self.folder / f"{start}-{end}.jsonl.gz"
            try:
                content = path.read_bytes()
                if not content:  # to gzip, that is a whole file with nothing in it
                    continue
                lines = gzip.decompress(content).splitlines()
                pages = [Listed.of(Page(**json.loads(line))) for line in lines]
            except (EOFError, gzip.BadGzipFile, zlib.error, ValueError, TypeError, SiteError):
                continue  # damaged: as if it were not there
            return Stretch(Span(start, end), pages)
        return None
