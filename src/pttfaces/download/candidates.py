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
    known = [results.get(address, _UNASKED) for address in addresses]
    for address, result in zip(addresses, known, strict=True):
        if result.image and not _has_no_image(result, options):
            return address, result
    undecided = (result for result in known if not _has_no_image(result, options))
    others = (result for result in known if result.status != "gone")
    return addresses[0], next(undecided, None) or next(others, known[0])


class RequestPlan:
    """The addresses to request in a run: of each link the first one that needs it, and the next
    ones as results come in.

    results: by address, growing while the run lasts; is_settled: whether an earlier result needs no
    request. requested: the addresses that got a result in this run.
    """

    def __init__(
        self,
        results: Mapping[str, Result],
        is_settled: Callable[[Result], bool],
        options: Download,
    ) -> None:
        self.requested: set[str] = set()
        self._results, self._is_settled, self._options = results, is_settled, options
        self._waiting: dict[str, list[Addresses]] = {}  # address → the links that wait for it

    @property
    def waiting(self) -> int:
        """How many links wait for a result."""
        return sum(map(len, self._waiting.values()))

    def add(self, links: Iterable[Addresses]) -> list[str]:
        """The addresses to request for links, each once in a run."""
        new = []
        for addresses in links:
            address = self._next(addresses)
            if address is None:
                continue
            if address not in self._waiting:
                self._waiting[address] = []
                new.append(address)
            self._waiting[address].append(addresses)
        return new

    def advance(self, address: str) -> tuple[int, list[str]]:
        """Goes on after the result of an address: how many links are done, what to request next."""
        self.requested.add(address)
        links = self._waiting.pop(address, [])
        unfinished = [link for link in links if self._next(link) is not None]
        return len(links) - len(unfinished), self.add(unfinished)

    def _next(self, addresses: Addresses) -> str | None:
        """The address to request now; None if the link has its image, or has failed for now."""
        if len(addresses) > 1:
            url, result = outcome(addresses, self._results, self._options)
            if result.image and not _has_no_image(result, self._options):
                addresses = (url,)
        for address in addresses:
            known = self._results.get(address)
            if address not in self.requested and not (known and self._is_settled(known)):
                return address
            if known is None or not _has_no_image(known, self._options):
                return None
        return None


def _has_no_image(result: Result, options: Download) -> bool:
    """Whether it is certain that an address has no image."""
    status = apply_limits(result.image, options).status if result.image else result.status
    return status in _NO_IMAGE
