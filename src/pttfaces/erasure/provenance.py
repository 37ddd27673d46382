"""Traces every image to its sources and its crops, by joining current and old tables."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pttfaces import tables
from pttfaces.denylist import DenyList

_COLUMNS = {  # table → columns that identify it
    "articles.jsonl": {"id", "author", "title"},
    "links.jsonl": {"article", "url", "posted"},
    "crops.csv": {"crop", "image", "phash"},
    "dataset.csv": {"crop", "sha256", "split", "reason"},
    "ledger.csv": {"article", "url", "sha256"},  # last: dataset.csv has these, too
}
TABLES = tuple(_COLUMNS)
ID_LENGTH = 16  # an image id: the hex digits of its digest with which names of its crops begin

_FIRST_LINE_BYTES = 2**16
_HASH = re.compile("([0-9a-f]{2})+")
_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Origin:
    """One place where an image was found: a row of a ledger with what other tables add.

    sha256: of the image; "" where it was not fetched. poster: the user id beside a push, or the
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
    """Which of TABLES a file is, by its first line; "" for another file."""
    first = content[:_FIRST_LINE_BYTES].partition(b"\n")[0].removeprefix(b"\xef\xbb\xbf").strip()
    if first.startswith(b"{"):
        names = set(next(iter(_json_rows(first)), {}))
    else:
        names = set(first.decode("utf-8", "replace").split(","))
    return next((table for table, needed in _COLUMNS.items() if needed <= names), "")


@dataclass
class ProvenanceTables:
    """The rows of all tables, of one version or of many: fill it with `add`, then query it."""

    _articles: dict[str, _Row] = field(default_factory=dict)
    _links: dict[tuple[str, str], _Row] = field(default_factory=dict)
    _ledger: dict[tuple[str, str, str], _Row] = field(default_factory=dict)
    _dataset: dict[str, _Row] = field(default_factory=dict)
    _crops: dict[str, _Row] = field(default_factory=dict)

    def add(self, name: str, content: bytes) -> None:
        """Adds a table, one of TABLES by its file name; of two rows with one key the first stays.

        Rows that are damaged or lack a column are skipped.
        """
        if name == "articles.jsonl":
            for row in _json_rows(content, "id"):
                self._articles.setdefault(row["id"], row)
        elif name == "links.jsonl":
            for row in _json_rows(content, "article", "url", "posted"):
                self._links.setdefault((row["article"], row["url"] or row["posted"]), row)
        elif name == "ledger.csv":
            for row in _csv_rows(content, "article", "url", "sha256"):
                self._ledger.setdefault((row["article"], row["url"], row["sha256"]), row)
        elif name == "crops.csv":
            for row in _csv_rows(content, "crop"):
                self._crops.setdefault(row["crop"], row)
        elif name == "dataset.csv":
            for row in _csv_rows(content, "crop", "split", "reason"):
                self._dataset.setdefault(row["crop"], row)

    def origins(self) -> list[Origin]:
        """Every place of every image."""
        return [self._origin(row) for row in self._ledger.values()]

    def origins_of(self, digest: str) -> list[Origin]:
        """The places of the image whose SHA-256 begins with `digest`."""
        rows = self._ledger.values()
        return [self._origin(row) for row in rows if digest and row["sha256"].startswith(digest)]

    def crop(self, name: str) -> _Row | None:
        """A crop's row of data/dataset.csv, else of data/crops.csv."""
        return self._dataset.get(name) or self._crops.get(name)

    def crops_of(self, image_ids: set[str]) -> dict[str, _Row]:
        """The crops of these images: name → row."""
        names = sorted({*self._crops, *self._dataset})
        return {name: self.crop(name) or {} for name in names if is_named_after(name, image_ids)}

    def hashes(self) -> dict[str, str]:
        """Perceptual hash, in hex, of every crop that has an undamaged one; all of one length."""
        texts = {name: str(row.get("phash")) for name, row in self._crops.items()}
        found = {name: text for name, text in texts.items() if _HASH.fullmatch(text)}
        lengths = Counter(map(len, found.values()))
        usual = max(lengths, key=lambda length: lengths[length], default=0)
        return {name: text for name, text in found.items() if len(text) == usual}

    def articles_of(self, denied: DenyList) -> dict[str, _Row]:
        """The articles that a deny list names by id or author: id → row."""
        return {
            name: row
            for name, row in self._articles.items()
            if denied.denies(article=name, author=row.get("author") or "")
        }

    def matches(self, denied: DenyList) -> list[Origin]:
        """The places that a deny list names by article, author, address or digest."""
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


def is_named_after(path: str, image_ids: set[str]) -> bool:
    """Whether a file's name begins with one of the ids, as those of images and their crops do."""
    return path.rsplit("/", 1)[-1][:ID_LENGTH] in image_ids


def _json_rows(content: bytes, *needed: str) -> Iterator[_Row]:
    """The objects that have the fields needed."""
    for line in content.decode("utf-8", "replace").split("\n"):
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and row.keys() >= set(needed):
                yield row


def _csv_rows(content: bytes, *needed: str) -> Iterator[dict[str, str]]:
    """The rows that have the columns needed, under today's names of the columns.

    `tables.read` would refuse a table with one damaged row; here the other rows count.
    """
    lines = io.StringIO(content.decode("utf-8", "replace"), newline="")
    with suppress(csv.Error):
        for row in csv.DictReader(lines):
            # A short row lacks cells; a long one has a list of those beyond the last column.
            cells = {key: cell for key, cell in row.items() if isinstance(cell, str)}
            if cells.keys() >= set(needed):
                # The apostrophe is that of `tables.write_csv`.
                yield {
                    tables.RENAMED.get(key, key): cell.removeprefix("'")
                    for key, cell in cells.items()
                }
