"""The ledger: one row for every link and inbox file, in their order, whatever came first.

From links, outcomes, limits and the deny list to rows, counts and names of files, and from an
earlier ledger back to outcomes.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

from pttfaces.denylist import DenyList
from pttfaces.download.local_files import Found
from pttfaces.download.result import FAILED, STATUSES, Limits, Outcome, Picture, judge

COLUMNS = (
    "article",
    "position",
    "place",
    "url",
    "status",
    "error",
    "attempts",
    "http_status",
    "final_url",
    "bytes",
    "sha256",
    "format",
    "width",
    "height",
    "path",
)
LINK_FIELDS = ("article", "position", "posted", "url", "place")  # what is read of a link
Row = dict[str, Any]
_NO_ATTEMPTS = {"attempts": ""}
_SHA256 = re.compile("[0-9a-f]{64}")


def allowed_urls(links: Sequence[Mapping[str, Any]], deny: DenyList) -> list[str]:
    """The distinct URLs to fetch, in the links' order; none that is denied, or posted as one."""
    urls: dict[str, None] = {}
    denied = set()
    for link in links:
        url, posted = link["url"], link["posted"]
        if url is not None:
            urls[url] = None
            if deny.denies(url=url) or (posted != url and deny.denies(url=posted)):
                denied.add(url)
    return [url for url in urls if url not in denied]


def build(
    links: Sequence[Mapping[str, Any]],
    known: Mapping[str, Outcome],
    inbox: Sequence[Found],
    limits: Limits,
    deny: DenyList,
) -> list[Row]:
    """The ledger's rows (COLUMNS; what is not known is ""), links first, then the inbox.

    known: the outcomes of `allowed_urls`.
    """
    rows = []
    for link in links:
        whence, url = (link["article"], link["position"], link["place"]), link["url"]
        if url in known:
            row = _row(whence, url, known[url], limits, deny)
        elif url is not None:
            row = _row(whence, url, Outcome("denied"), limits, deny) | _NO_ATTEMPTS
        else:
            row = _row(whence, link["posted"], Outcome("unresolved"), limits, deny) | _NO_ATTEMPTS
        rows.append(row)
    for found in inbox:
        outcome = Outcome("denied") if deny.denies(url=found.url) else found.outcome
        rows.append(_row(("", "", "inbox"), found.url, outcome, limits, deny) | _NO_ATTEMPTS)
    seen: set[str] = set()
    for row in rows:
        if row["path"] in seen:
            row["status"] = "duplicate"
        elif row["path"]:
            seen.add(row["path"])
    return rows


def text(rows: Sequence[Row]) -> str:
    """The rows as a table; without pandas, which takes longer to come than a year to be written."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(itemgetter(*COLUMNS), rows))
    return buffer.getvalue()


def pictured(path: Path) -> Iterator[tuple[str, Outcome]]:
    """The links of a ledger whose pictures were kept, with what it says of them: the way back from
    `text`. Rows that are damaged or forged are left out; a file that is not there has none."""
    with suppress(FileNotFoundError, UnicodeDecodeError, csv.Error):
        content = io.StringIO(path.read_text(encoding="utf-8"), newline="")
        for row in csv.DictReader(content):
            with suppress(KeyError, ValueError, TypeError):
                size, width, height = (int(row[name]) for name in ("bytes", "width", "height"))
                picture = Picture(row["sha256"], size, row["format"], width, height, True)
                attempts, code = int(row["attempts"]), int(row["http_status"])
                if _SHA256.fullmatch(picture.sha256) and row["path"] == picture.path:
                    yield row["url"], Outcome("ok", "", attempts, code, row["final_url"], picture)


def paths(rows: Sequence[Row]) -> set[str]:
    """The files that belong to data/raw."""
    return {row["path"] for row in rows if row["path"]}


def failures(rows: Sequence[Row]) -> list[str]:
    """The URLs of the links that gave no picture, each once, in the ledger's order."""
    return list(
        dict.fromkeys(
            row["url"]
            for row in rows
            if row["status"] in FAILED and not row["path"] and row["place"] != "inbox"
        )
    )


def metrics(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts: links, inbox files, pictures and their bytes, rows by status, pictures by format."""
    firsts = {row["path"]: row for row in rows if row["path"] and row["status"] != "duplicate"}
    statuses = Counter(row["status"] for row in rows)
    formats = Counter(row["format"] for row in firsts.values())
    return {
        "links": sum(row["place"] != "inbox" for row in rows),
        "inbox": sum(row["place"] == "inbox" for row in rows),
        "pictures": len(firsts),
        "bytes": sum(row["bytes"] for row in firsts.values()),
        "status": {status: statuses[status] for status in STATUSES},
        "format": dict(sorted(formats.items())),
    }


def _row(
    whence: tuple[str, int | str, str], url: str, outcome: Outcome, limits: Limits, deny: DenyList
) -> Row:
    """What came of a link. whence: its article, position and place."""
    article, position, place = whence
    status, error, attempts, code, final_url, picture, size = outcome
    sha256 = kind = path = ""
    width: int | str = ""
    height: int | str = ""
    if picture:
        status, error, kept = judge(picture, limits)
        sha256, size, kind, width, height, _ = picture
        path = picture.path if kept else ""
    if deny.denies(sha256=sha256) or (final_url != url and deny.denies(url=final_url)):
        status, error, path = "denied", "", ""
    return {
        "article": article,
        "position": position,
        "place": place,
        "url": url,
        "status": status,
        "error": error,
        "attempts": attempts,
        "http_status": "" if code is None else code,
        "final_url": final_url,
        "bytes": "" if size is None else size,
        "sha256": sha256,
        "format": kind,
        "width": width,
        "height": height,
        "path": path,
    }
