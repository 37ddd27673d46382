"""Where every picture came from and what was made of it, from the tables of all times.

Knows tables, handed over as text; not where they lie.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pttfaces.denylist import DenyList

_KEYS = {  # table → columns by which one knows it
    "articles.jsonl": {"id", "author", "title"},
    "links.jsonl": {"article", "url", "posted"},
    "crops.csv": {"crop", "image", "phash"},
    "dataset.csv": {"crop", "sha256", "split", "reason"},
    "ledger.csv": {"article", "url", "sha256"},  # which a data set's has, too
}
TABLES = tuple(_KEYS)
_FIRST_LINE = 2**16
STEM = 16  # hex digits of a picture's digest with which the names of its crops begin

_HASH = re.compile("([0-9a-f]{2})+")
_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Origin:
    """One place in which a picture was found; a row of a ledger with what other tables add.

    sha256: of the picture; "" where it was not fetched. poster: the user id beside a push, or the
    article's author.
    """

    sha256: str
    article: str
    poster: str
    author: str
    title: str
    date: str
    place: str
    url: str
    posted: str
    final_url: str
    status: str
    path: str


def table_name(content: bytes) -> str:
    """Which of TABLES a file is by what its first line is like; "" for another file."""
    first = content[:_FIRST_LINE].partition(b"\n")[0].removeprefix(b"\xef\xbb\xbf").strip()
    if first.startswith(b"{"):
        keys = set(next(iter(_objects(first)), {}))
    else:
        keys = set(first.decode("utf-8", "replace").split(","))
    return next((name for name, needed in _KEYS.items() if needed <= keys), "")


@dataclass
class Lineage:
    """All that tables of one time or of many tell. Use `add`, then ask."""

    _articles: dict[str, _Row] = field(default_factory=dict)
    _links: dict[tuple[str, str], _Row] = field(default_factory=dict)
    _ledger: dict[tuple[str, str, str], _Row] = field(default_factory=dict)
    _dataset: dict[str, _Row] = field(default_factory=dict)
    _crops: dict[str, _Row] = field(default_factory=dict)

    def add(self, name: str, content: bytes) -> None:
        """Takes in a table, one of TABLES by its file name; what was taken in first prevails.

        What is no such table any more, such as another version's, tells nothing; of a damaged one
        every row that is left does.
        """
        if name == "articles.jsonl":
            for row in _objects(content):
                self._articles.setdefault(row["id"], row)
        elif name == "links.jsonl":
            for row in _objects(content):
                self._links.setdefault((row["article"], row["url"] or row["posted"]), row)
        elif name == "ledger.csv":
            for row in _rows(content, "article", "url", "sha256"):
                self._ledger.setdefault((row["article"], row["url"], row["sha256"]), row)
        elif name == "crops.csv":
            for row in _rows(content, "crop"):
                self._crops.setdefault(row["crop"], row)
        elif name == "dataset.csv":
            for row in _rows(content, "crop", "split", "reason"):
                self._dataset.setdefault(row["crop"], row)

    def origins(self) -> list[Origin]:
        """Every place of every picture."""
        return [self._origin(row) for row in self._ledger.values()]

    def origins_of(self, sha256: str) -> list[Origin]:
        """The places of the picture whose digest begins so."""
        rows = self._ledger.values()
        return [self._origin(row) for row in rows if sha256 and row["sha256"].startswith(sha256)]

    def crop(self, name: str) -> _Row | None:
        """What is known of a crop: its row of data/dataset.csv, else of data/crops.csv."""
        return self._dataset.get(name) or self._crops.get(name)

    def crops_of(self, stems: set[str]) -> dict[str, _Row]:
        """Crops of the pictures whose digests begin with `stems`, by name, with their rows."""
        names = sorted({*self._crops, *self._dataset})
        return {name: self.crop(name) or {} for name in names if name[:STEM] in stems}

    def hashes(self) -> dict[str, str]:
        """Perceptual hash of every crop that has a whole one; all are of one length."""
        texts = {name: str(row.get("phash")) for name, row in self._crops.items()}
        found = {name: text for name, text in texts.items() if _HASH.fullmatch(text)}
        lengths = Counter(map(len, found.values()))
        usual = max(lengths, key=lambda length: lengths[length], default=0)
        return {name: text for name, text in found.items() if len(text) == usual}

    def articles_of(self, denied: DenyList) -> dict[str, _Row]:
        """Articles that a deny list names by id or author, by id."""
        return {
            name: row
            for name, row in self._articles.items()
            if denied.denies(article=name, author=row.get("author") or "")
        }

    def matches(self, denied: DenyList) -> list[Origin]:
        """The places that a deny list names, by whichever kind of name."""
        return [
            origin
            for origin in self.origins()
            if denied.denies(article=origin.article, author=origin.author, sha256=origin.sha256)
            or denied.denies(author=origin.poster)
            or any(denied.denies(url=url) for url in (origin.url, origin.posted, origin.final_url))
        ]

    def _origin(self, row: _Row) -> Origin:
        article = self._articles.get(row["article"], {})
        link = self._links.get((row["article"], row["url"]), {})
        author = article.get("author") or ""
        return Origin(
            sha256=row["sha256"],
            article=row["article"],
            poster=link.get("author") or author,
            author=author,
            title=article.get("title") or "",
            date=article.get("date") or "",
            place=row.get("place", ""),
            url=row["url"],
            posted=link.get("posted") or "",
            final_url=row.get("final_url", ""),
            status=row.get("status", ""),
            path=row.get("path", ""),
        )


def names_one(path: str, stems: set[str]) -> bool:
    """Whether a file is named after a picture, or a crop of one, whose digest begins so."""
    return path.rsplit("/", 1)[-1][:STEM] in stems


def _objects(content: bytes) -> Iterable[_Row]:
    for line in content.decode("utf-8", "replace").split("\n"):
        if line:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _rows(content: bytes, *needed: str) -> Iterator[dict[str, str]]:
    """The rows of a table that have the columns needed. Not by `files.read_csv`, which refuses a
    table of which one row is damaged: the others still tell of pictures that are to be found."""
    lines = io.StringIO(content.decode("utf-8", "replace"), newline="")
    with suppress(csv.Error):
        for row in csv.DictReader(lines):
            # A short row lacks cells, a long one has a list of those beyond the last column.
            cells = {key: cell for key, cell in row.items() if isinstance(cell, str)}
            if cells.keys() >= set(needed):  # the ' is that of `files.write_csv`
                yield {key: cell.removeprefix("'") for key, cell in cells.items()}
