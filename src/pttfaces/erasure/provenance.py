"""Traces every image to its sources and its crops, by joining current and old tables."""

import io
from collections.abc import Iterable
from typing import Any

import pandas as pd

from pttfaces import files, tables
from pttfaces.board.hosts import HostRules
from pttfaces.board.links import image_keys
from pttfaces.denylist import DenyList

MEASURES = ["sharpness", "face_px", "upscale", "brightness", "yaw", "pitch", "roll", "score"]
JOINED = {  # table → the columns that identify a row, and the others that are used
    "articles.jsonl": (["id"], ["url", "author", "title", "date", "board"]),
    "links.jsonl": (["article", "url"], ["posted", "author", "addresses"]),
    "ledger.csv": (["article", "url", "sha256"], ["final_url", "place", "path"]),
    "crops.csv": (["crop"], ["face", *MEASURES, "phash"]),
    "dataset.csv": (["crop"], ["face", *MEASURES, "split", "reason", "duplicate_of"]),
}
ID_LENGTH = 16  # an image id: the hex digits of its digest with which names of its crops begin


class Provenance:
    """The tables of JOINED, of one version or of many, joined. What is missing is "".

    articles: id → its row; crops: file name → its row in data/dataset.csv, completed by
    data/crops.csv; origins: the places where images were found, each with sha256 ("" if it was
    never fetched there), article, url, final_url, place and path of the ledger, posted (the link),
    poster (the user id beside a push, or the article's author), the article's author, title, date
    and board, and addresses (a line for each that led to the image or may have).
    """

    def __init__(self, contents: Iterable[tuple[str, bytes]]) -> None:
        """contents: file name and bytes of each table; of two rows with one key the first stays."""
        found = {name: _read(name, b"") for name in JOINED}
        for name, content in contents:
            rows = pd.concat([found[name], _read(name, content)])
            found[name] = rows.drop_duplicates(JOINED[name][0])
        articles, links, ledger, crops, dataset = found.values()
        articles = articles.set_index("id").fillna("")
        crops = dataset.set_index("crop").combine_first(crops.set_index("crop"))
        crops = crops.astype(object).fillna("")  # a column that is in no table has no text
        # Without the places where an older table has an image as not fetched yet.
        repeated = ledger.duplicated(["article", "url"], keep=False)
        ledger = ledger[(ledger["sha256"] != "") | ~repeated]
        links = links.rename(columns={"author": "poster"})
        origins = (
            ledger.merge(links, "left", ["article", "url"])
            .join(articles[["author", "title", "date", "board"]], "article")
            .fillna("")
        )
        origins["poster"] = origins["poster"].where(origins["poster"] != "", origins["author"])
        self.articles: dict[str, dict[str, Any]] = articles.to_dict("index")
        self.crops: dict[str, dict[str, Any]] = crops.to_dict("index")
        self.origins: list[Any] = list(origins.itertuples(index=False, name="Origin"))

    def origins_of(self, image_ids: set[str]) -> list[Any]:
        """The places of these images."""
        return [origin for origin in self.origins if origin.sha256[:ID_LENGTH] in image_ids]

    def denied_origins(self, denied: DenyList) -> list[Any]:
        """The places that a deny list names by article, author or address, in any of its forms."""
        rules = HostRules()
        keys = {key for url in denied.entries.get("url", ()) for key in image_keys(url, rules)}

        def has_form(url: str) -> bool:
            return denied.denies(url=url) or not keys.isdisjoint(image_keys(url, rules))

        return [
            origin
            for origin in self.origins
            if denied.denies(article=origin.article, author=origin.author)
            or denied.denies(author=origin.poster)
            or (keys and any(map(has_form, urls_of(origin))))
        ]


def urls_of(origin: Any) -> set[str]:
    """All addresses of a place where an image was found, the link as posted among them."""
    named = (origin.url, origin.posted, origin.final_url, *origin.addresses.split("\n"))
    return {url for url in named if url}


def is_named_after(path: str, image_ids: set[str]) -> bool:
    """Whether a file's name begins with one of the ids, as those of images and their crops do."""
    return path.rsplit("/", 1)[-1][:ID_LENGTH] in image_ids


def _read(name: str, content: bytes) -> pd.DataFrame:
    """A table's used columns under today's names, as text, without damaged rows; a table that is
    cut within a quoted cell is empty."""
    key, others = JOINED[name]
    if name.endswith(".jsonl"):
        lines = content.decode("utf-8", "replace").split("\n")
        rows = [row for line in lines if (row := files.parse_object(line))]
        if name == "links.jsonl":
            rows = [by_url for row in rows for by_url in _by_url(row)]
        frame = pd.DataFrame(rows)
    else:
        try:
            frame = tables.read_csv(
                io.BytesIO(content), encoding_errors="replace", on_bad_lines="skip", index_col=False
            )
        except ValueError:  # it is no table: pandas' errors are of this kind
            frame = pd.DataFrame()
    frame = frame.reindex(columns=key + others).astype("str")
    return frame.dropna(subset=key)


def _by_url(link: dict[str, Any]) -> list[dict[str, Any]]:
    """A line of data/links.jsonl once for each address by which the ledger may name the link: the
    one that serves it, or the link as posted where only the page behind it has the image's.
    Version 0.2 had one.
    """
    given = link.get("addresses")
    addresses = [str(each) for each in given] if isinstance(given, list) else []
    urls: list[Any] = [*addresses] or [link.get("url") or link.get("posted")]
    return [{**link, "url": url, "addresses": "\n".join(addresses)} for url in urls]
