"""Builds data/ledger.csv, a row for every link and every local file, in their order."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pttfaces import tables
from pttfaces.config import Download
from pttfaces.denylist import DenyList
from pttfaces.download.result import (
    FAILED,
    FORMAT_EXTENSIONS,
    STATUSES,
    ImageInfo,
    Result,
    apply_limits,
)
from pttfaces.errors import DataError
from pttfaces.tables import LedgerRow, Link

_DENIED, _UNRESOLVED = Result("denied"), Result("unresolved")
_SHA256 = re.compile("[0-9a-f]{64}")


def allowed_urls(links: Sequence[Link], deny: DenyList) -> list[str]:
    """The distinct URLs to download, in the links' order, without those that are denied as posted
    or by any of their addresses."""
    urls: dict[str, None] = {}
    denied = set()
    for link in links:
        if link.addresses:
            urls[link.addresses[0]] = None
            if any(deny.denies(url=url) for url in {link.posted, *link.addresses}):
                denied.add(link.addresses[0])
    return [url for url in urls if url not in denied]


def build_rows(
    links: Sequence[Link],
    results: Mapping[str, Result],
    local_files: Sequence[tuple[str, Result]],
    options: Download,
    deny: DenyList,
) -> list[LedgerRow]:
    """The ledger's rows, links first, then local files.

    results: of `allowed_urls`. The second row with the same image is a duplicate.
    """
    rows: list[LedgerRow] = []
    seen: set[str] = set()

    def add(
        article: str, position: int | None, place: str, url: str, result: Result, requested: bool
    ) -> None:
        status, error, attempts, http_status, final_url, image, size = result
        sha256 = format_name = path = ""
        width = height = None
        if image:
            status, error, keep = apply_limits(image, options)
            sha256, size, format_name, width, height, _ = image
            path = image.path if keep else ""
        if deny.denies(sha256=sha256) or (final_url != url and deny.denies(url=final_url)):
            status, error, path = "denied", "", ""
        if path in seen:
            status = "duplicate"
        elif path:
            seen.add(path)
        rows.append(
            LedgerRow(
                article,
                position,
                place,
                url,
                status,
                error,
                attempts if requested else None,
                http_status,
                final_url,
                size,
                sha256,
                format_name,
                width,
                height,
                path,
            )
        )

    for link in links:
        source = link.article, link.position, link.place
        if not link.addresses:
            add(*source, link.posted, _UNRESOLVED, requested=False)
        else:
            url = link.addresses[0]
            result = results.get(url)
            add(*source, url, result or _DENIED, requested=result is not None)
    for url, result in local_files:
        result = _DENIED if deny.denies(url=url) else result
        add("", None, "inbox", url, result, requested=False)
    return rows


def read_results(path: Path) -> Iterator[tuple[str, Result]]:
    """The links of a ledger whose images were kept, with its results; those of a missing or damaged
    file, and forged rows, are left out."""
    with suppress(DataError):
        for row in tables.read(path, LedgerRow):
            if (
                row.place != "inbox"
                and row.format in FORMAT_EXTENSIONS
                and _SHA256.fullmatch(row.sha256)
            ):
                size, width, height = row.bytes or 0, row.width or 0, row.height or 0
                image = ImageInfo(row.sha256, size, row.format, width, height, True)
                if row.path == image.path:
                    code = row.http_status
                    yield row.url, Result("ok", "", row.attempts or 1, code, row.final_url, image)


def image_paths(rows: Sequence[LedgerRow]) -> set[str]:
    """The files that belong to data/raw."""
    return {row.path for row in rows if row.path}


def failed_urls(rows: Sequence[LedgerRow]) -> list[str]:
    """The URLs of the links that gave no image, each once, in the ledger's order."""
    failed = (
        row.url for row in rows if row.status in FAILED and not row.path and row.place != "inbox"
    )
    return list(dict.fromkeys(failed))


def download_metrics(rows: Sequence[LedgerRow]) -> dict[str, Any]:
    """Counts: links, local files, images and their bytes, rows by status, images by format."""
    images = [row for row in rows if row.path and row.status != "duplicate"]
    statuses = Counter(row.status for row in rows)
    formats = Counter(row.format for row in images)
    return {
        "links": sum(row.place != "inbox" for row in rows),
        "inbox": sum(row.place == "inbox" for row in rows),
        "pictures": len(images),
        "bytes": sum(row.bytes or 0 for row in images),
        "status": {status: statuses[status] for status in STATUSES},
        "format": dict(sorted(formats.items())),
    }
