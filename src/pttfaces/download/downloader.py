"""Runs a download: requests what is missing, reads local files, writes the ledger."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pttfaces import files, tables, workdir
from pttfaces.config import Download
from pttfaces.denylist import DenyList
from pttfaces.download import ledger, result_cache
from pttfaces.download.candidates import Addresses, RequestPlan, allowed_addresses
from pttfaces.download.client import ImageClient
from pttfaces.download.image_type import HEIC_WITHOUT_DECODER, can_read_heic
from pttfaces.download.local_files import read_local_files
from pttfaces.download.result import RETRYABLE, Result
from pttfaces.download.result_cache import ResultCache
from pttfaces.download.scheduler import fetch_all
from pttfaces.download.store import ImageStore
from pttfaces.errors import DataError, SiteError, counted
from pttfaces.http import LoopbackHosts
from pttfaces.progress import progress
from pttfaces.tables import HostRow, LedgerRow, Link

_NEVER_REQUESTED = ("denied", "unresolved", "unasked")


@dataclass(frozen=True)
class DownloadSummary:
    """The outcome of a download.

    metrics: see `ledger.download_metrics`; requested: addresses requested in this run; restored:
    images that came back from `.cache/originals`; warnings: sentences for a person.
    """

    metrics: dict[str, Any]
    requested: int
    restored: int
    warnings: Sequence[str] = ()

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
            f"{counted(self.requested, 'URL')} requested in this run"
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
    """Fills `data`/raw from links and `data`/inbox; writes ledger.csv, hosts.csv and failed.txt
    beside it.

    cache_namespace: "web", or a JSON value that says which demo board the URLs belong to, since
    they lead to other images under other parameters. The results of a namespace are kept in
    `.cache/download`, and an original that no row of the ledger names in `.cache/originals`, so
    that nothing is requested twice; a clone that pulled begins with its ledger. Nothing is lost
    when the process is killed or this raises. Of several processes with one `.cache`, one at a time
    makes a namespace's requests; of several with one folder, one at a time is at work.

    SiteError: there are links, and no host answers any. DataError: there is no image at all.
    """
    data = Path(data)
    with workdir.exclusive("download", f"raw-{files.digest_json(str(data.resolve()))[:16]}"):
        store = ImageStore(data / "raw", options, deny)
        allowed = allowed_addresses(links, deny)
        results, requested = _request_missing(
            allowed, hosts, cache_namespace, options, deny, store, data / "ledger.csv"
        )
        local_files = read_local_files(data / "inbox", store, options)
        rows = ledger.build_rows(links, allowed, results, local_files, options, deny)
        host_rows = ledger.host_rows(rows)
        tables.write(data / "ledger.csv", rows, LedgerRow)
        tables.write(data / "hosts.csv", host_rows, HostRow)
        failed = "".join(f"{url}\n" for url in ledger.failed_urls(rows))
        files.write_text(data / "failed.txt", failed)
        _check(rows)
        store.sweep(ledger.image_paths(rows))
        store.delete_originals(_denied_digests(links, allowed, rows, results, deny))
    metrics = ledger.download_metrics(rows, host_rows)
    return DownloadSummary(metrics, requested, store.restored, _warnings(rows))


def _request_missing(
    links: Sequence[Addresses],
    hosts: LoopbackHosts,
    cache_namespace: Any,
    options: Download,
    deny: DenyList,
    store: ImageStore,
    pulled_ledger: Path,
) -> tuple[Mapping[str, Result], int]:
    """Requests what links still need: all results by address, and how many addresses were asked.

    links: their lists of addresses.
    """

    def is_settled(result: Result) -> bool:
        """Whether no request is needed."""
        if image := result.image:
            if not store.wants(image) or deny.denies(url=result.final_url):
                return True
            return store.has(image) or store.restore(image)
        if result.min_bytes is not None:
            return result.min_bytes > options.max_bytes
        if result.ask_again is not None:
            return time.time() < result.ask_again
        if result.error == HEIC_WITHOUT_DECODER:
            return not can_read_heic()
        return not result.is_retryable

    path = result_cache.cache_path(cache_namespace)
    results = result_cache.read_cache(path)
    if not RequestPlan(results, is_settled, options).add(links):
        return results, 0  # without waiting for another run
    lock = workdir.exclusive("download", result_cache.lock_key(cache_namespace))
    with lock, closing(ResultCache(path)) as cache:
        unknown = set(chain(*links)) - cache.results.keys()
        if unknown and cache_namespace == "web":  # a ledger does not say which demo board it is of
            for url, result in _results_of_clone(pulled_ledger, unknown, store):
                cache.add(url, result)
        plan = RequestPlan(cache.results, is_settled, options)
        client = ImageClient(hosts, store, options)
        asyncio.run(_request(links, plan, cache, client, options))
        return cache.results, plan.requested


def _results_of_clone(
    path: Path, unknown: Collection[str], store: ImageStore
) -> Iterator[tuple[str, Result]]:
    """What a pulled ledger says of `unknown` URLs whose images were pulled, too.

    The images are identified again: a ledger does not say whether a file is whole.
    """
    rows: dict[str, LedgerRow] = {}
    with suppress(DataError):  # missing or damaged
        rows = {row.url: row for row in tables.read(path, LedgerRow) if row.url in unknown}
    for url, row in rows.items():
        if image := store.find(row.path):
            yield url, Result("ok", "", row.attempts, row.http_status, row.final_url, image)


async def _request(
    links: Sequence[Addresses],
    plan: RequestPlan,
    cache: ResultCache,
    client: ImageClient,
    options: Download,
) -> None:
    # What was never requested comes first.
    urls = sorted(plan.add(links), key=cache.results.__contains__)
    if not urls:
        return
    started, received, failed = time.monotonic(), 0, 0
    with progress("download", len(links), " links", initial=len(links) - plan.waiting) as bar:

        def on_result(url: str, result: Result) -> Sequence[str]:
            nonlocal received, failed
            earlier = cache.results.get(url)
            if result.http_status == 404 and not (earlier and earlier.http_status == 404):
                result = result._replace(ask_again=time.time() + result_cache.ASK_AGAIN_S)
            cache.add(url, result)
            received += result.image.bytes if result.image else 0
            failed += result.is_retryable
            rate = received / 2**20 / max(time.monotonic() - started, 1e-3)
            bar.set_postfix_str(f"{rate:.1f} MiB/s, {failed} failed", refresh=False)
            more = plan.advance(url)
            bar.update(len(links) - plan.waiting - bar.n)
            return more

        async with client:
            await fetch_all(urls, client, options, on_result)


def _denied_digests(
    links: Sequence[Link],
    allowed: Collection[Addresses],
    rows: Sequence[LedgerRow],
    results: Mapping[str, Result],
    deny: DenyList,
) -> set[str]:
    """SHA-256 of all images that are denied, by themselves or by a URL that led to them."""
    denied_rows = [row for row in rows if row.status == "denied"]
    urls = set(chain(*(link.addresses for link in links))) - set(chain(*allowed))
    images = (result.image for url in urls if (result := results.get(url)))
    digests = {row.sha256 for row in denied_rows} | {image.sha256 for image in images if image}
    return (digests | set(deny.entries.get("sha256", ()))) - {""}


def _warnings(rows: Sequence[LedgerRow]) -> list[str]:
    return [
        f"{host} gave one image for {count} addresses: perhaps its placeholder for images that "
        f"were taken down. Look at data/raw/{sha256[:2]}/{sha256}.*, and add {sha256} to "
        "download.placeholders in params.yaml if it is one."
        for host, sha256, count in ledger.repeated_images(rows)
    ]


def _check(rows: Sequence[LedgerRow]) -> None:
    """Raises an error that says what the hosts answered when there is no image at all, or when no
    host answered."""
    linked = [row for row in rows if row.place != "inbox" and row.status not in _NEVER_REQUESTED]
    if linked and all(row.http_status is None and not row.path for row in linked):
        raise SiteError(
            f"none of the {len(linked)} links got a response ({ledger.describe_answers(rows)}); "
            "check the network and data/ledger.csv, then run the same command again."
        )
    if not ledger.image_paths(rows):
        counts = Counter(row.status for row in rows)
        remedy = (
            "put photographs into data/inbox, or include more of the board with `board` and "
            "`links` in params.yaml"
        )
        if counts["too_large"] == max(counts.values(), default=0) > 0:
            remedy = "raise download.max_mib or download.max_megapixels in params.yaml"
        elif counts.keys() & set(RETRYABLE):
            remedy = "run `make update` later, or " + remedy
        answers = ledger.describe_answers(rows) or "no link, and nothing in data/inbox"
        raise DataError(f"there is no image to work with ({answers}); {remedy}.")
