"""Index pages of stretches of time in which nothing changes any more, on disk, to read them once.

The pages are kept as they were served, so that other filters, or a better parser, ask no site
again. Knows no site; what a page says is index.py's.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pttfaces import files
from pttfaces.board.ids import Span
from pttfaces.board.index import IndexPage, parse_index
from pttfaces.board.store import Page
from pttfaces.errors import SiteError


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
