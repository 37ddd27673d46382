"""Requests a board's pages, with a rate limit, retries, robots.txt, the 18+ gate and a cache."""

import asyncio
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Self, TypeAlias, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
from bs4 import SoupStrainer
from protego import Protego
from yarl import URL

from pttfaces.board.html import parse_html
from pttfaces.board.page_cache import Page, PageCache
from pttfaces.errors import SiteError
from pttfaces.http import (
    AGENT,
    NETWORK_ERRORS,
    REDIRECTS,
    HttpClient,
    LoopbackHosts,
    RefusedAddressError,
    read_chunks,
    retry_after,
    site_name,
)

CONCURRENCY = 8  # requests in flight, so that a slow response does not leave the rate unused
_MAX_WAIT_S = 300.0
_NO_TEXT = ("image/", "video/", "audio/")  # types of responses that are no pages
_MAX_BYTES = 8 * 2**20  # of a page; nothing but attributes of a tag takes 60 times as much to parse
_MAX_HEADER_BYTES = 2**16  # of a line: some sites send long policies
_MAX_REDIRECTS = 10


class DisallowedError(SiteError):
    """The site's robots.txt disallows a page."""


class PageError(SiteError):
    """One address of a working site leads to no page.

    It redirects without end, to no URL or to another site that does not answer, or its response is
    too large for a page.
    """


_T = TypeVar("_T")
# Turns a page into a value, and says whether the page is final: one that is not (it may be a
# temporary error) is not cached.
Parser: TypeAlias = Callable[[Page], tuple[_T, bool]]


@dataclass(frozen=True)
class RetryPolicy:
    """How failed requests are repeated.

    attempts: at most so many for a request; first_wait_s: about the wait after the first failure,
    doubled with each further one; timeout_s: longest silence of the site; limit_s: for a response
    as a whole.
    """

    attempts: int = 5
    first_wait_s: float = 1.0
    timeout_s: float = 30.0
    limit_s: float = 120.0


@dataclass
class _RateLimiter:
    """Spaces the starts of requests evenly."""

    interval_s: float
    next_start: float = 0.0

    async def wait(self) -> None:
        """Returns at the next start."""
        now = time.monotonic()
        start = max(now, self.next_start)
        self.next_start = start + self.interval_s
        await asyncio.sleep(start - now)


class PageClient:
    """Requests pages, on an event loop in a thread of its own; use as a context manager.

    rate_per_s: at most so many requests a second to a site (the hosts of a registered domain);
    credentials: a URL → further headers for its request; allow_networks: see `HttpClient`.
    """

    def __init__(
        self,
        hosts: LoopbackHosts,
        rate_per_s: float,
        retries: RetryPolicy | None = None,
        credentials: Callable[[str], Mapping[str, str]] | None = None,
        allow_networks: Sequence[str] | None = None,
    ) -> None:
        self._retries = retries or RetryPolicy()
        silence_s = self._retries.timeout_s
        self._http = HttpClient(
            hosts,
            allow_networks,
            cookies=True,
            resend=False,  # it would not count for the rate
            max_field_size=_MAX_HEADER_BYTES,
            timeout=aiohttp.ClientTimeout(
                self._retries.limit_s, sock_connect=silence_s, sock_read=silence_s
            ),
        )
        self._interval_s = 1 / rate_per_s
        self._limiters: dict[str, _RateLimiter] = {}  # by site
        self._credentials = credentials
        self._robots_lock = asyncio.Lock()
        self._robots: dict[str, Protego] = {}  # by root URL
        self._answering: set[str | None] = set()  # hosts that have answered, the site among them

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(ready),), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _serve(self, ready: threading.Event) -> None:
        """Keeps the connections open until the client is closed; then abandons all requests."""
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with self._http:
            ready.set()
            await self._end.wait()

    def fetch(self, url: str, follow: bool = True) -> Page:
        """Requests a page; one that is refused, or busy after all attempts, has its error status.

        follow: request what a redirect leads to; else the page has its location.

        SiteError: no answer, robots.txt disallows the page (DisallowedError) or cannot be read, or
        the site asks for a longer wait than a run should make.
        """
        return self._start(url, follow).result()

    def get(self, url: str, parse: Parser[_T], cache: PageCache | None = None) -> _T:
        """The parsed page of a URL: from `cache`, else from the site and then cached if final.

        Raises what `fetch` and `parse` raise.
        """
        (value,) = self.get_all([(url, cache)], parse)
        return value

    def get_all(
        self,
        urls: Iterable[tuple[str, PageCache | None]],
        parse: Parser[_T],
        on_page_error: Callable[[str], _T] | None = None,
    ) -> Iterator[_T]:
        """The parsed pages of (URL, cache) pairs, in order, with several requests in flight.

        Requests start in the same order, at most `CONCURRENCY` ahead of what is consumed.
        on_page_error: a URL → the value for it where it leads to no page; else PageError is raised.
        """

        def finish(url: str, cache: PageCache | None, found: Page | Future[Page]) -> _T:
            if isinstance(found, Page):
                value, final = parse(found)
                if final:
                    return value
                found = self._start(url)
            try:
                page = found.result()
            except PageError:
                if on_page_error is None:
                    raise
                return on_page_error(url)
            value, final = parse(page)
            if cache and final:
                cache.put(page)
            return value

        pending: deque[tuple[str, PageCache | None, Page | Future[Page]]] = deque()
        try:
            for url, cache in urls:
                cached = cache.get(url) if cache else None
                pending.append((url, cache, cached or self._start(url)))
                if len(pending) == CONCURRENCY:
                    yield finish(*pending.popleft())
            while pending:
                yield finish(*pending.popleft())
        finally:
            for _, _, found in pending:
                if isinstance(found, Future):
                    found.cancel()

    def _start(self, url: str, follow: bool = True) -> Future[Page]:
        return asyncio.run_coroutine_threadsafe(self._fetch(url, follow), self._loop)

    async def _fetch(self, url: str, follow: bool) -> Page:
        root = urljoin(url, "/")
        async with self._robots_lock:
            first_of_site = root not in self._robots
            if first_of_site:
                self._robots[root] = await self._read_robots(root)
            if not self._robots[root].can_fetch(url, AGENT):
                raise DisallowedError(
                    f"{root}robots.txt disallows {url}, so it is not requested; choose another "
                    "board.name or board.base_url."
                )
            if first_of_site:  # alone: where there is a gate, this page opens it for all
                return await self._fetch_through_gate(url, follow)
        return await self._fetch_through_gate(url, follow)

    async def _read_robots(self, root: str) -> Protego:
        try:
            page = await self._request("GET", urljoin(root, "/robots.txt"))
        except PageError as error:  # concerns all pages
            raise SiteError(str(error)) from None
        if page.status == 429 or page.status >= 500:  # disallows all (RFC 9309, 2.3.1.4)
            raise SiteError(
                f"{page.url} answers with status {page.status}, so no page may be requested; try "
                "again later."
            )
        # A site without the file allows everything (2.3.1.3).
        robots = Protego.parse(page.text if page.status == 200 else "")
        limiter = self._limiter(root)
        limiter.interval_s = max(limiter.interval_s, robots.crawl_delay(AGENT) or 0.0)
        return robots

    async def _fetch_through_gate(self, url: str, follow: bool) -> Page:
        page = await self._request("GET", url, follow=follow)
        if _is_gate(page):
            page = await self._confirm_age(page)
        if _is_gate(page):
            raise SiteError(
                f"{url} still asks for the reader's age after it was confirmed; open it in a "
                "browser to see what has changed."
            )
        return replace(page, url=url)

    async def _confirm_age(self, gate: Page) -> Page:
        forms = parse_html(gate.text, SoupStrainer("form"))
        form = forms.select_one('form[action*="/ask/over18"]')
        if form is None:
            raise SiteError(
                f"{gate.url} shows an age check in an unknown format; open it in a browser to see "
                "what has changed."
            )
        hidden = {
            str(field["name"]): str(field.get("value", ""))
            for field in form.select('input[type="hidden"][name]')
        }
        target = urljoin(gate.url, str(form["action"]))
        return await self._request("POST", target, {**hidden, "yes": "yes"})

    async def _request(
        self, method: str, url: str, form: dict[str, str] | None = None, follow: bool = True
    ) -> Page:
        """The page at the end of all redirects, each of which counts for the rate."""
        step = url
        for _ in range(_MAX_REDIRECTS):
            host = urlsplit(step).hostname
            of_site = host in self._answering or host == urlsplit(url).hostname
            no_answer = SiteError if of_site else PageError
            page = await self._request_with_retries(method, step, form, no_answer)
            self._answering.add(host)
            if not (page.location and follow):
                return page
            if page.status not in (307, 308):
                method, form = "GET", None
            step = page.location
        raise PageError(f"{url} redirects more than {_MAX_REDIRECTS} times; open it in a browser.")

    async def _request_with_retries(
        self, method: str, url: str, form: dict[str, str] | None, no_answer: type[SiteError]
    ) -> Page:
        """no_answer: what is raised if the host does not answer in all attempts."""
        problem, limiter = "", self._limiter(url)
        for attempt in range(self._retries.attempts):
            page = None
            # Half fixed, half jitter, so that clients that failed together do not return together.
            wait_s = min(self._retries.first_wait_s * 2**attempt, _MAX_WAIT_S)
            wait_s *= random.uniform(0.5, 1.0)
            await limiter.wait()
            try:
                page, asked_s = await self._receive(method, url, form)
            except (*NETWORK_ERRORS, ValueError) as error:
                problem = _describe(error)
                if not problem:
                    raise PageError(
                        f"{url} is, or redirects to, an invalid URL; check board.base_url, or open "
                        "it in a browser."
                    ) from None
            else:
                if page.status != 429 and page.status < 500:
                    return page
                wait_s = max(wait_s, asked_s)
            if wait_s > _MAX_WAIT_S:
                raise no_answer(
                    f"{url} asks for a pause of {wait_s / 60:.0f} minutes; run the same command "
                    "after that. Pages already read are kept."
                )
            if attempt + 1 < self._retries.attempts:
                # All requests wait: a site that is busy for one page is busy for all.
                limiter.next_start = max(limiter.next_start, time.monotonic() + wait_s)
        if page is not None:
            return page
        raise no_answer(
            f"{url} does not answer ({problem}, {self._retries.attempts} attempts); check the "
            "network and board.base_url, and run the same command to resume. Pages already read "
            "are kept."
        )

    async def _receive(
        self, method: str, url: str, form: dict[str, str] | None
    ) -> tuple[Page, float]:
        """The page, and for how many seconds the site asks to be left alone."""
        headers = self._credentials(url) if self._credentials else None
        async with self._http.request(method, URL(url), data=form, headers=headers) as response:
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            body = bytearray()
            if not kind.startswith(_NO_TEXT):
                async for chunk in read_chunks(response):
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise PageError(
                            f"{url} sends more than {_MAX_BYTES >> 20} MiB, too much for a page."
                        )
            text = body.decode("utf-8-sig", errors="replace")
            target = response.headers.get("Location") if response.status in REDIRECTS else None
            page = Page(url, response.status, text, urljoin(url, target) if target else "", kind)
            return page, retry_after(response.headers.get("Retry-After", "")) or 0.0

    def _limiter(self, url: str) -> _RateLimiter:
        site = site_name(urlsplit(url).hostname or "")
        return self._limiters.setdefault(site, _RateLimiter(self._interval_s))


def _is_gate(page: Page) -> bool:
    return urlsplit(page.url).path == "/ask/over18" and 'name="yes"' in page.text


def _describe(error: Exception) -> str:
    """Why a site does not answer; "" for an invalid URL."""
    match error:
        case TimeoutError():
            return "timed out"
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return "no connection through the proxy of the environment"
        case aiohttp.ClientConnectorDNSError():
            return "host name not found"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return "certificate not trusted"
        case RefusedAddressError() | aiohttp.ClientConnectorError(os_error=RefusedAddressError()):
            return "not a public address"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "connection refused"
        case ValueError() | aiohttp.NonHttpUrlClientError():
            return ""
    return "connection lost"
