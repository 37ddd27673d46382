"""Pages that were read already, on disk, so that a killed run does not ask a site twice.

One file a page, named by the digest of its URL and written whole. Knows no site and no HTML.
"""

import gzip
import json
import shutil
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
    """Pages below `folder`, keyed by URL."""

    folder: Path

    def get(self, url: str) -> Page | None:
        """The page kept under `url`; None where there is none, or where its file is damaged."""
        try:
            page = Page(**json.loads(gzip.decompress(self._path(url).read_bytes())))
        except (FileNotFoundError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, TypeError):
            return None
        return page if page.url == url else None

    def put(self, page: Page) -> None:
        """Keeps a page."""
        content = json.dumps(asdict(page), ensure_ascii=True).encode()
        files.write_bytes(self._path(page.url), gzip.compress(content, 6, mtime=0))

    def clear(self) -> None:
        """Forgets all pages."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, url: str) -> Path:
        digest = files.digest_bytes(url.encode(errors="surrogatepass"))
        return self.folder / digest[:2] / f"{digest}.json.gz"
