"""Traces every image to its sources and its crops, by joining current and old tables."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from pttfaces import tables
from pttfaces.denylist import DenyList

KEYS = {  # table → columns that identify a row
    "articles.jsonl": ("id",),
    "links.jsonl": ("article", "url"),
    "crops.csv": ("crop",),
    "dataset.csv": ("crop",),
    "ledger.csv": ("article", "url", "sha256"),
}
ID_LENGTH = 16  # an image id: the hex digits of its digest with which names of its crops begin

_HASH = re.compile("([0-9a-f]{2})+")
_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Origin:
    """One place where an image was found: a row of a ledger with what other tables add; "" for
    what they lack.

    sha256: of the image, "" where it was not fetched; author: of the article; poster: the user id
    beside a push, or the article's author.
    """

    sha256: str
    article: str
    url: str
    final_url: str = ""
    place: str = ""
    path: str = ""
    posted: str = ""
    poster: str = ""
    author: str = ""
    title: str = ""
    date: str = ""


class ProvenanceTables:
    """The rows of all tables, of one version or of many: fill it with `add`, then query it."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[tuple[str, ...], _Row]] = {name: {} for name in KEYS}

    def add(self, name: str, content: bytes) -> None:
        """Adds a table, one of KEYS by its file name; of two rows with one key the first stays.

        Rows that are damaged or lack a column of the key are skipped.
        """
        for row in _json_rows(content) if name.endswith(".jsonl") else _csv_rows(content):
            if row.keys() >= set(KEYS[name]):
                key = tuple(row[column] for column in KEYS[name])
                self._rows[name].setdefault(key, row)

    def origins(self) -> list[Origin]:
        """Every place of every image."""
        return [self._origin(row) for row in self._rows["ledger.csv"].values()]

    def origins_of(self, digest: str) -> list[Origin]:
        """The places of the image whose SHA-256 begins with `digest`."""
        rows = self._rows["ledger.csv"].values()
        return [self._origin(row) for row in rows if digest and row["sha256"].startswith(digest)]

    def crop(self, name: str) -> _Row:
        """A crop's row of data/dataset.csv, else of data/crops.csv; {} without one."""
        in_dataset, in_crops = self._rows["dataset.csv"], self._rows["crops.csv"]
        return in_dataset.get((name,)) or in_crops.get((name,)) or {}

    def crops_of(self, image_ids: set[str]) -> dict[str, _Row]:
        """The crops of these images: name → row."""
        names = sorted({name for (name,) in (*self._rows["crops.csv"], *self._rows["dataset.csv"])})
        return {name: self.crop(name) for name in names if is_named_after(name, image_ids)}

    def hashes(self) -> dict[str, str]:
        """Perceptual hash, in hex, of every crop that has an undamaged one; all of one length."""
        texts = {name: str(row.get("phash")) for (name,), row in self._rows["crops.csv"].items()}
        found = {name: text for name, text in texts.items() if _HASH.fullmatch(text)}
        lengths = Counter(map(len, found.values()))
        usual = max(lengths, key=lambda length: lengths[length], default=0)
        return {name: text for name, text in found.items() if len(text) == usual}

    def articles_of(self, denied: DenyList) -> dict[str, _Row]:
        """The articles that a deny list names by id or author: id → row."""
        return {
            name: row
            for (name,), row in self._rows["articles.jsonl"].items()
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
        article = self._rows["articles.jsonl"].get((row["article"],), {})
        link = self._rows["links.jsonl"].get((row["article"], row["url"]), {})
        author = article.get("author")
        people = {"author": author, "poster": link.get("author") or author}
        values = {**link, **article, **row, **people}
        names = [column.name for column in fields(Origin)]
        return Origin(**{name: values.get(name) or "" for name in names})


def is_named_after(path: str, image_ids: set[str]) -> bool:
    """Whether a file's name begins with one of the ids, as those of images and their crops do."""
    return path.rsplit("/", 1)[-1][:ID_LENGTH] in image_ids


def _json_rows(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.decode("utf-8", "replace").split("\n"):
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                # Where only the page behind a link has the image's address, the ledger has this.
                yield row | ({} if row.get("url") else {"url": row.get("posted")})


def _csv_rows(content: bytes) -> Iterator[dict[str, str]]:
    """The rows under today's names of the columns.

    `tables.read` would refuse a table with one damaged row; here the other rows count.
    """
    lines = io.StringIO(content.decode("utf-8", "replace"), newline="")
    with suppress(csv.Error):
        for row in csv.DictReader(lines):
            # A short row lacks cells; a long one has a list of those beyond the last column. The
            # apostrophe is that of `tables.write_csv`.
            yield {
                tables.RENAMED.get(key, key): cell.removeprefix("'")
                for key, cell in row.items()
                if isinstance(cell, str)
            }
