"""Pages that were read already, on disk, so that a killed run does not ask a site twice.

One file a page, named by the digest of its URL and written whole. Knows no site and no HTML.
"""

import gzip
import json
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from pttfaces import files


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
