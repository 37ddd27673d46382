"""Builds data/ledger.csv, a row for every link and every local file, in their order."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pttfaces.config import Download
from pttfaces.denylist import DenyList
from pttfaces.download.candidates import Addresses, outcome
from pttfaces.download.result import (
    FAILED,
    STATUSES,
    Result,
    apply_limits,
)
from pttfaces.tables import HostRow, LedgerRow, Link

_DENIED, _UNRESOLVED = Result("denied"), Result("unresolved")
_MANY_ADDRESSES = 10  # of one host with the same image: reposts are fewer
_MAX_DESCRIBED = 5  # hosts in a sentence
_NAMED_BY_ERROR = ("failed", "blocked", "refused_address", "timeout")


def build_rows(
    links: Sequence[Link],
    allowed: Collection[Addresses],
    results: Mapping[str, Result],
    local_files: Sequence[tuple[str, Result]],
    options: Download,
    deny: DenyList,
) -> list[LedgerRow]:
    """The ledger's rows, links first, then local files.

    allowed: the lists of addresses that are not denied; results: by address, without those that
    were never requested. The second row with the same image is a duplicate.
    """
    rows: list[LedgerRow] = []
    seen: set[str] = set()

    def add(article: str, position: int | None, place: str, url: str, result: Result) -> None:
        status, error, image, size = result.status, result.error, result.image, result.min_bytes
        sha256 = format_name = path = ""
        width = height = None
        if image:
            status, error, keep = apply_limits(image, options)
            sha256, size, format_name, width, height, _ = image
            path = image.path if keep else ""
        final_url = result.final_url
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
                result.attempts,
                result.http_status,
                final_url,
                size,
                sha256,
                format_name,
                width,
                height,
                path,
            )
        )

    allowed = set(allowed)
    for link in links:
        source = link.article, link.position, link.place
        if not link.addresses:
            add(*source, link.posted, _UNRESOLVED)
        elif link.addresses in allowed:
            add(*source, *outcome(link.addresses, results, options))
        else:
            add(*source, link.addresses[0], _DENIED)
    for url, result in local_files:
        add("", None, "inbox", url, _DENIED if deny.denies(url=url) else result)
    return rows


def host_rows(rows: Sequence[LedgerRow]) -> list[HostRow]:
    """What became of the links of each host, the host with most links first."""
    by_host: dict[str, list[LedgerRow]] = {}
    for row in rows:
        if row.place != "inbox":
            by_host.setdefault(_host(row.url), []).append(row)
    table = []
    for host, found in by_host.items():
        statuses = Counter(row.status for row in found)
        table.append(
            HostRow(
                host,
                links=len(found),
                fetched=sum(bool(row.path) for row in found),
                gone=statuses["gone"] + statuses["removed"],
                unresolved=statuses["unresolved"],
                example=next((row.url for row in found if row.status != "denied"), ""),
            )
        )
    return sorted(table, key=lambda row: (-row.links, row.host))


def repeated_images(rows: Sequence[LedgerRow]) -> list[tuple[str, str, int]]:
    """(host, SHA-256, addresses) of images that a host gives for many addresses, as it does with a
    placeholder for images that were taken down."""
    addresses: dict[str, set[str]] = {}  # by image
    for row in rows:
        if row.path and row.place != "inbox":
            addresses.setdefault(row.sha256, set()).add(row.url)
    counts = [
        (host, sha256, count)
        for sha256, urls in addresses.items()
        if len(urls) >= _MANY_ADDRESSES
        for host, count in Counter(map(_host, urls)).items()
        if count >= _MANY_ADDRESSES
    ]
    return sorted(counts, key=lambda item: (-item[2], item[0]))


def describe_answers(rows: Sequence[LedgerRow]) -> str:
    """What each host answered, for a sentence: "a.test: 60 HTTP 403, 3 timeout; b.test: 2 gone"."""
    answers: dict[str, Counter[str]] = {}
    for row in rows:
        host = "data/inbox" if row.place == "inbox" else _host(row.url) or "no host"
        reason = row.error if row.status in _NAMED_BY_ERROR and row.error else row.status
        answers.setdefault(host, Counter())[reason.replace("_", " ")] += 1
    largest = sorted(answers.items(), key=lambda item: -item[1].total())
    described = [
        f"{host}: " + ", ".join(f"{count} {answer}" for answer, count in found.most_common(5))
        for host, found in largest[:_MAX_DESCRIBED]
    ]
    if more := largest[_MAX_DESCRIBED:]:
        count = sum(found.total() for _, found in more)
        described.append(f"{len(more)} more hosts: {count} links")
    return "; ".join(described)


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def image_paths(rows: Sequence[LedgerRow]) -> set[str]:
    """The files that belong to data/raw."""
    return {row.path for row in rows if row.path}


def failed_urls(rows: Sequence[LedgerRow]) -> list[str]:
    """The URLs of the links that gave no image, each once, in the ledger's order."""
    failed = (
        row.url for row in rows if row.status in FAILED and not row.path and row.place != "inbox"
    )
    return list(dict.fromkeys(failed))


def download_metrics(rows: Sequence[LedgerRow], hosts: Sequence[HostRow]) -> dict[str, Any]:
    """Counts: links, local files, images and their bytes, rows by status, images by format; and
    hosts."""
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
        "hosts": len(hosts),
        "hosts_without_images": sum(not host.fetched for host in hosts),
    }
