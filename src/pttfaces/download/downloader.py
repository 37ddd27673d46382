"""The download from end to end: what is missing is fetched, the inbox joins, the ledger is written.

What an earlier run fetched is taken from its journal and from data/raw, or from where else its
bytes still lie. Knows nothing of boards.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pttfaces import files, workdir
from pttfaces.denylist import DenyList
from pttfaces.download import ledger
from pttfaces.download import local_files as inboxes
from pttfaces.download import result_cache as journals
from pttfaces.download.client import Client
from pttfaces.download.image_type import NotAnImageError, recognise
from pttfaces.download.result import MAY_STILL_COME, Limits, Outcome, Picture, judge
from pttfaces.download.scheduler import fetch_all
from pttfaces.download.store import Store
from pttfaces.errors import DataError, SiteError
from pttfaces.http import LoopbackHosts
from pttfaces.progress import progress

# What decides an outcome: what other code than this has found out is not believed.
_DECIDING = ("client.py", "fetching.py", "outcome.py", "recognise.py")
# From paths below data/raw to (path, file that may hold its bytes) pairs; what has been found is
# taken out of the paths meanwhile.
Copies: TypeAlias = Callable[[Collection[str]], Iterable[tuple[str, Path]]]


@dataclass(frozen=True)
class Report:
    """What came of it. metrics: see `ledger.metrics`; fetched: URLs asked for in this run;
    brought_back: pictures that were not asked for, since their bytes lay elsewhere."""

    metrics: dict[str, Any]
    fetched: int
    brought_back: int = 0

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
            f"download: {counts['pictures']} pictures ({counts['bytes'] / 2**20:.1f} MiB) from "
            f"{counts['links']} links and {counts['inbox']} files of the inbox; "
            f"{self.fetched} URLs asked in this run"
            + (
                f", {self.brought_back} taken from DVC's cache or another folder here"
                if self.brought_back
                else ""
            )
            + (f"; {others} (see data/ledger.csv)" if others else "")
        )


def download(
    links: Sequence[Mapping[str, Any]],
    door: LoopbackHosts,
    world: Any,
    limits: Limits,
    deny: DenyList,
    data: str | Path = "data",
    copies: Copies = lambda _: (),
) -> Report:
    """Fills `data`/raw from links and `data`/inbox; writes ledger.csv and failed.txt beside it.

    links: rows of links.jsonl. world: "web", or a JSON value that says which made-up web the URLs
    are of, since the demo's URLs lead to other pictures under other parameters; what is known of a
    URL is kept for each world under `.cache/download`. Nothing fetched is lost when this is killed
    or raises. After a change of this code, and in another clone that has got `data` from the first,
    all URLs are asked again but those whose pictures still lie in `data`/raw.

    copies: where the bytes of a known picture may lie that `data`/raw has no more; only what is not
    there either is asked for. Of several processes with one `.cache`, one asks a world at a time.

    SiteError: there were links, and no host answered any. DataError: no picture came of anything.
    """
    data = Path(data)
    place = files.digest_json(str((data / "raw").resolve()))[:16]
    store = Store(data / "raw", workdir.cache_dir("raw") / f"{place}.txt")

    def wanted(picture: Picture) -> bool:
        return judge(picture, limits).kept and not deny.denies(sha256=picture.sha256)

    def belongs(outcome: Outcome) -> bool:
        picture = outcome.picture
        return bool(picture and wanted(picture)) and not deny.denies(url=outcome.final_url)

    def settled(outcome: Outcome) -> bool:
        if outcome.picture:
            return not belongs(outcome) or store.has(outcome.picture)
        if outcome.at_least is not None:
            return outcome.at_least > limits.max_bytes
        return outcome.status not in MAY_STILL_COME

    def lacking(known: Mapping[str, Outcome]) -> list[str]:
        return [url for url in urls if url not in known or not settled(known[url])]

    urls = ledger.allowed_urls(links, deny)
    cache, name = workdir.cache_dir("download"), files.digest_json(world)[:16]
    code = files.code_digest(*(Path(__file__).with_name(module) for module in _DECIDING))[:16]
    path = cache / f"{name}-{code}.jsonl"
    known = journals.read(path) if path.exists() else {}
    missing, brought_back = lacking(known), 0
    if missing:  # else there is nothing to wait for while another run is asking
        with workdir.exclusive("download", f"download-{name}"), journals.opened(path) as journal:
            known = journal.known
            unknown, told = set(urls) - set(known), []
            if unknown:
                older = [other for other in sorted(cache.glob(f"{name}-*.jsonl")) if other != path]
                told = [pair for pair in _told(older, data, world) if pair[0] in unknown]
            lying = {url for url, one in told if one.picture and store.has(one.picture)}
            latest = [one for url, one in dict(told).items() if url not in lying]
            seen = [*(known[url] for url in urls if url in known), *latest]
            pictures = [one.picture for one in seen if one.picture and belongs(one)]
            brought_back = _bring_back(pictures, copies, store)
            for pair in _looked_at_again(told, unknown, store):
                journal.add([pair])
            missing = lacking(known)
            client = Client(door, store, limits, wanted)
            asyncio.run(_fetch(missing, len(urls), journal, client, limits))
    outcomes = {url: known[url] for url in urls}
    inbox = data / "inbox"
    found = [inboxes.take(file, inbox, store, limits, wanted) for file in inboxes.list_inbox(inbox)]
    rows = ledger.build(links, outcomes, found, limits, deny)
    files.write_text(data / "ledger.csv", ledger.text(rows))
    files.write_text(data / "failed.txt", "".join(f"{url}\n" for url in ledger.failures(rows)))
    _check(rows, outcomes)
    store.sweep(ledger.paths(rows))
    store.remember(ledger.paths(rows))
    return Report(ledger.metrics(rows), len(missing), brought_back)


def _told(older: Sequence[Path], data: Path, world: Any) -> Iterator[tuple[str, Outcome]]:
    """What was found by other code, whose journals are `older`, or in another clone."""
    for path in older:
        yield from journals.read(path).items()
    if world == "web":  # a ledger does not say which world it is of
        yield from ledger.pictured(data / "ledger.csv")


def _bring_back(pictures: Iterable[Picture], copies: Copies, store: Store) -> int:
    """Stores those pictures that the store lacks and whose bytes lie elsewhere; how many."""
    lost = {picture.path: picture for picture in pictures if not store.has(picture)}
    if not lost:
        return 0
    total = len(lost)
    with progress("download, from elsewhere here", total, " pictures") as bar:
        for path, file in copies(lost.keys()):
            if path in lost and store.copy(file, lost[path]):
                del lost[path]
                bar.update()
    return total - len(lost)


def _looked_at_again(
    told: Iterable[tuple[str, Outcome]], urls: set[str], store: Store
) -> Iterator[tuple[str, Outcome]]:
    """The outcomes told of `urls` whose pictures still lie in the store: as this code sees their
    bytes."""
    for url, outcome in told:
        known = outcome.picture
        if url in urls and known and store.has(known):
            try:
                picture = recognise(store.read(known), known.sha256)
            except NotAnImageError:
                continue
            urls.discard(url)
            yield url, outcome._replace(picture=picture)


async def _fetch(
    missing: Sequence[str], total: int, journal: journals.Journal, client: Client, limits: Limits
) -> None:
    if not missing:
        return
    started, received, failed = time.monotonic(), 0, 0
    with progress("download", total, " links", initial=total - len(missing)) as bar:

        def settle(ended: Sequence[tuple[str, Outcome]]) -> None:
            nonlocal received, failed
            journal.add(ended)
            for _, outcome in ended:
                received += outcome.picture.bytes if outcome.picture else 0
                failed += outcome.status in MAY_STILL_COME
            rate = received / 2**20 / max(time.monotonic() - started, 1e-3)
            bar.set_postfix_str(f"{rate:.1f} MiB/s, {failed} failed", refresh=False)
            bar.update(len(ended))

        async with client:
            await fetch_all(missing, client, limits, settle)


def _check(rows: Sequence[ledger.Row], known: Mapping[str, Outcome]) -> None:
    if known and all(
        outcome.status in MAY_STILL_COME and outcome.http_status is None
        for outcome in known.values()
    ):
        reason = next(iter(known.values())).error
        raise SiteError(
            f"no host answered for any of the {len(known)} links (the first: {reason}); look at "
            "the network and at data/ledger.csv, and run the same command again."
        )
    if not ledger.paths(rows):
        counts = ledger.metrics(rows)["status"]
        came = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        remedy = (
            "put photographs into data/inbox, or let more of the board count with `board` and "
            "`links` in params.yaml"
        )
        if counts.get("too_large") == max(counts.values(), default=0) > 0:
            remedy = "raise download.max_mib or download.max_megapixels in params.yaml"
        raise DataError(
            f"there is no picture to go on with ({came or 'no link, and nothing in data/inbox'}); "
            f"{remedy}."
        )
