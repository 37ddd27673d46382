"""Chooses among a link's addresses: which to request next, and which the ledger names.

The addresses of a link are tried in order. The next one is requested only when one has definitely
no image; links that share an address share its request.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from pttfaces.config import Download
from pttfaces.denylist import DenyList
from pttfaces.download.result import Result, apply_limits
from pttfaces.tables import Link

Addresses: TypeAlias = tuple[str, ...]

_NO_IMAGE = ("gone", "removed", "not_an_image")
_UNASKED = Result("unasked")


def allowed_addresses(links: Sequence[Link], deny: DenyList) -> list[Addresses]:
    """The links' distinct lists of addresses, in order, without those of denied images.

    A list is denied if one of its addresses is, or belongs to a link that is denied by another
    address or as posted.
    """
    lists = dict.fromkeys(link.addresses for link in links if link.addresses)
    denied: set[str] = set()
    for link in links:
        if any(deny.denies(url=url) for url in (link.posted, *link.addresses)):
            denied.update(link.addresses)
    return [addresses for addresses in lists if denied.isdisjoint(addresses)]


def outcome(
    addresses: Addresses, results: Mapping[str, Result], options: Download
) -> tuple[str, Result]:
    """The address that serves a link's image, with its result; where none does, the first address,
    with the result that keeps the link from having an image.

    A link is "gone" only if all its addresses are.
    """
    if address := _serving(addresses, results, options):
        return address, results[address]
    known = [results.get(address, _UNASKED) for address in addresses]
    undecided = (result for result in known if not _has_no_image(result, options))
    others = (result for result in known if result.status != "gone")
    return addresses[0], next(undecided, None) or next(others, known[0])


class RequestPlan:
    """The addresses to request in a run: of each link the first one that needs it, and the next
    ones as results come in.

    results: by address, growing while the run lasts; is_settled: whether an earlier result needs no
    request. waiting: how many links wait for a result.
    """

    def __init__(
        self,
        results: Mapping[str, Result],
        is_settled: Callable[[Result], bool],
        options: Download,
    ) -> None:
        self.waiting = 0
        self._results, self._is_settled, self._options = results, is_settled, options
        # Address to request → the links that wait for it; none once it has a result of this run.
        self._links: dict[str, list[Addresses]] = {}

    @property
    def requested(self) -> int:
        """How many addresses got a result in this run."""
        return sum(not links for links in self._links.values())

    def add(self, links: Iterable[Addresses]) -> list[str]:
        """The addresses to request for links, each once in a run."""
        new = []
        for addresses in links:
            if address := self._next(addresses):
                if address not in self._links:
                    self._links[address] = []
                    new.append(address)
                self._links[address].append(addresses)
                self.waiting += 1
        return new

    def advance(self, address: str) -> list[str]:
        """Goes on after the result of an address: what to request next."""
        links, self._links[address] = self._links[address], []
        self.waiting -= len(links)
        return self.add(links)

    def _next(self, addresses: Addresses) -> str | None:
        """The address to request now; None if the link has its image, or has failed for now."""
        if len(addresses) > 1 and (serving := _serving(addresses, self._results, self._options)):
            addresses = (serving,)
        for address in addresses:
            known = self._results.get(address)
            was_requested = self._links.get(address) == []
            if not (was_requested or (known and self._is_settled(known))):
                return address
            if known is None or not _has_no_image(known, self._options):
                return None
        return None


def _serving(addresses: Addresses, results: Mapping[str, Result], options: Download) -> str | None:
    """The first address with an image."""
    for address in addresses:
        result = results.get(address)
        if result and result.image and not _has_no_image(result, options):
            return address
    return None


def _has_no_image(result: Result, options: Download) -> bool:
    """Whether it is certain that an address has no image."""
    status = apply_limits(result.image, options).status if result.image else result.status
    return status in _NO_IMAGE
