"""Runs a download: requests what is missing, reads local files, writes the ledger."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pttfaces import files, tables, workdir
from pttfaces.config import Download
from pttfaces.denylist import DenyList
from pttfaces.download import ledger, result_cache
from pttfaces.download.client import ImageClient
from pttfaces.download.image_type import identify
from pttfaces.download.local_files import read_local_files
from pttfaces.download.result import RETRYABLE, RejectedError, Result
from pttfaces.download.result_cache import ResultCache
from pttfaces.download.scheduler import fetch_all
from pttfaces.download.store import ImageStore
from pttfaces.errors import DataError, SiteError
from pttfaces.http import LoopbackHosts
from pttfaces.progress import progress
from pttfaces.tables import LedgerRow, Link


@dataclass(frozen=True)
class DownloadSummary:
    """The outcome of a download.

    metrics: see `ledger.download_metrics`; requested: URLs requested in this run; restored: images
    that came back from `.cache/originals`.
    """

    metrics: dict[str, Any]
    requested: int
    restored: int

    @property
    def sentence(self) -> str:
        """One line for a person."""
        counts = self.metrics
        others = ", ".join(
            f"{count} {status.replace('_', ' ')}"
            for status, count in counts["status"].items()
            if count and status != "ok"
        )
        return (
            f"download: {counts['pictures']} images ({counts['bytes'] / 2**20:.1f} MiB) from "
            f"{counts['links']} links and {counts['inbox']} files in data/inbox; "
            f"{self.requested} URLs requested in this run"
            + (f", {self.restored} images restored from .cache/originals" if self.restored else "")
            + (f"; {others} (see data/ledger.csv)" if others else "")
        )


def download(
    links: Sequence[Link],
    hosts: LoopbackHosts,
    cache_namespace: Any,
    options: Download,
    deny: DenyList,
    data: str | Path = "data",
) -> DownloadSummary:
    """Fills `data`/raw from links and `data`/inbox; writes ledger.csv and failed.txt beside it.

    cache_namespace: "web", or a JSON value that says which demo board the URLs belong to, since
    they lead to other images under other parameters. The results of a namespace are kept in
    `.cache/download`, and an original that no row of the ledger names in `.cache/originals`, so
    that nothing is requested twice; a clone that pulled begins with its ledger. Nothing is lost
    when the process is killed or this raises. Of several processes with one `.cache`, one at a time
    makes a namespace's requests.

    SiteError: there are links, and no host answers any. DataError: there is no image at all.
    """
    data = Path(data)
    store = ImageStore(data / "raw", options, deny)

    def is_settled(result: Result) -> bool:
        """Whether no request is needed."""
        if image := result.image:
            if not store.wants(image) or deny.denies(url=result.final_url):
                return True
            return store.has(image) or store.restore(image)
        if result.min_bytes is not None:
            return result.min_bytes > options.max_bytes
        return result.status not in RETRYABLE

    def missing(results: Mapping[str, Result]) -> list[str]:
        return [url for url in urls if url not in results or not is_settled(results[url])]

    urls = ledger.allowed_urls(links, deny)
    path = result_cache.cache_path(cache_namespace)
    results = result_cache.read_cache(path)
    to_request = missing(results)
    if to_request:  # otherwise there is no need to wait for another run
        lock = workdir.exclusive("download", result_cache.lock_key(cache_namespace))
        with lock, closing(ResultCache(path)) as cache:
            results = cache.results
            if cache_namespace == "web":  # a ledger does not say which demo board it is of
                unknown = set(urls) - results.keys()
                for url, result in _results_of_clone(data / "ledger.csv", unknown, store):
                    cache.add(url, result)
            to_request = missing(results)
            client = ImageClient(hosts, store, options)
            asyncio.run(_request(to_request, len(urls), cache, client, options))
    local_files = read_local_files(data / "inbox", store, options)
    allowed = {url: results[url] for url in urls}
    rows = ledger.build_rows(links, allowed, local_files, options, deny)
    tables.write(data / "ledger.csv", rows, LedgerRow)
    files.write_text(data / "failed.txt", "".join(f"{url}\n" for url in ledger.failed_urls(rows)))
    _check(rows, allowed)
    store.sweep(ledger.image_paths(rows))
    store.delete_originals(_denied_digests(rows, results, deny))
    return DownloadSummary(ledger.download_metrics(rows), len(to_request), store.restored)


def _results_of_clone(
    path: Path, unknown: set[str], store: ImageStore
) -> Iterator[tuple[str, Result]]:
    """What a pulled ledger says of `unknown` URLs whose images were pulled, too.

    The images are identified again: a ledger does not say whether a file is whole.
    """
    if not unknown:
        return
    for url, result in dict(ledger.read_results(path)).items():
        if url in unknown and result.image and store.has(result.image):
            with store.open(result.image) as file, suppress(RejectedError):
                yield url, result._replace(image=identify(file))


async def _request(
    urls: Sequence[str], total: int, cache: ResultCache, client: ImageClient, options: Download
) -> None:
    if not urls:
        return
    started, received, failed = time.monotonic(), 0, 0
    with progress("download", total, " links", initial=total - len(urls)) as bar:

        def on_result(url: str, result: Result) -> None:
            nonlocal received, failed
            cache.add(url, result)
            received += result.image.bytes if result.image else 0
            failed += result.status in RETRYABLE
            rate = received / 2**20 / max(time.monotonic() - started, 1e-3)
            bar.set_postfix_str(f"{rate:.1f} MiB/s, {failed} failed", refresh=False)
            bar.update()

        async with client:
            await fetch_all(urls, client, options, on_result)


def _denied_digests(
    rows: Sequence[LedgerRow], results: Mapping[str, Result], deny: DenyList
) -> set[str]:
    """SHA-256 of all images that are denied, by themselves or by a URL that led to them."""
    digests = set(deny.entries.get("sha256", ()))
    for row in rows:
        if row.status == "denied":
            result = results.get(row.url)
            digests.add(result.image.sha256 if result and result.image else row.sha256)
    return digests - {""}


def _check(rows: Sequence[LedgerRow], results: Mapping[str, Result]) -> None:
    if results and all(
        result.status in RETRYABLE and result.http_status is None for result in results.values()
    ):
        reason = next(iter(results.values())).error
        raise SiteError(
            f"none of the {len(results)} links got a response (the first: {reason}); check "
            "the network and data/ledger.csv, then run the same command again."
        )
    if not ledger.image_paths(rows):
        counts = ledger.download_metrics(rows)["status"]
        found = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        remedy = (
            "put photographs into data/inbox, or include more of the board with `board` and "
            "`links` in params.yaml"
        )
        if counts.get("too_large") == max(counts.values(), default=0) > 0:
            remedy = "raise download.max_mib or download.max_megapixels in params.yaml"
        raise DataError(
            f"there is no image to work with ({found or 'no link, and nothing in data/inbox'}); "
            f"{remedy}."
        )
