"""Requests a board's pages, with a rate limit, retries, robots.txt, the 18+ gate and a cache."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self, TypeAlias, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from bs4 import SoupStrainer
from protego import Protego
from requests.auth import AuthBase

from pttfaces.board.html import parse_html
from pttfaces.board.page_cache import Page, PageCache
from pttfaces.errors import SiteError
from pttfaces.http import AGENT, LoopbackHosts, retry_after, site_name, time_limit

CONCURRENCY = 8  # requests in flight, so that a slow response does not leave the rate unused
_MAX_WAIT_S = 300.0
_NO_TEXT = ("image/", "video/", "audio/")  # types of responses that are no pages
_MAX_BYTES = 8 * 2**20  # of a page; nothing but attributes of a tag takes 60 times as much to parse
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
# temporary error) is not cached. Called from several threads.
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


class RateLimiter:
    """Spaces the starts of requests evenly, for any number of threads."""

    def __init__(self, rate_per_s: float) -> None:
        self._interval_s = 1 / rate_per_s
        self._next_start = 0.0
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Reserves the next start and returns the seconds until then."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next_start)
            self._next_start = start + self._interval_s
            return start - now

    def pause(self, seconds: float) -> None:
        """Delays all starts that are not reserved yet."""
        with self._lock:
            self._next_start = max(self._next_start, time.monotonic() + seconds)

    def slow_to(self, rate_per_s: float) -> None:
        """Lowers the rate; a higher one than the present changes nothing."""
        with self._lock:
            self._interval_s = max(self._interval_s, 1 / rate_per_s)


class PageClient:
    """Requests pages from any number of threads; use as a context manager.

    rate_per_s: at most so many requests a second to a site (the hosts of a registered domain), all
    threads together; auth: adds credentials to the requests of hosts that need them;
    allow_networks: see `LoopbackHosts.session`.
    """

    def __init__(
        self,
        hosts: LoopbackHosts,
        rate_per_s: float,
        retries: RetryPolicy | None = None,
        auth: AuthBase | None = None,
        allow_networks: Sequence[str] | None = None,
    ) -> None:
        self._session = hosts.session(follow_redirects=False, allow_networks=allow_networks)
        self._rate_per_s = rate_per_s
        self._limiters: dict[str, RateLimiter] = {}  # by site
        self._retries = retries or RetryPolicy()
        self._auth = auth
        self._closed = threading.Event()
        self._robots_lock = threading.Lock()
        self._robots: dict[str, Protego] = {}  # by root URL
        self._gate_lock = threading.Lock()
        self._gates_passed = 0
        self._answering: set[str | None] = set()  # hosts that have answered, the site among them

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()  # ends the waits of abandoned requests
        self._session.close()

    def fetch(self, url: str, follow: bool = True) -> Page:
        """Requests a page; one that is refused, or busy after all attempts, has its error status.

        follow: request what a redirect leads to; else the page has its location.

        SiteError: no answer, robots.txt disallows the page (DisallowedError) or cannot be read, or
        the site asks for a longer wait than a run should make.
        """
        root = urljoin(url, "/")
        with self._robots_lock:
            first_of_site = root not in self._robots
            if first_of_site:
                self._robots[root] = self._read_robots(root)
            if not self._robots[root].can_fetch(url, AGENT):
                raise DisallowedError(
                    f"{root}robots.txt disallows {url}, so it is not requested; choose another "
                    "board.name or board.base_url."
                )
            if first_of_site:  # alone: where there is a gate, this page opens it for all
                return self._fetch_through_gate(url, follow)
        return self._fetch_through_gate(url, follow)

    def get(
        self, url: str, parse: Parser[_T], cache: PageCache | None = None, follow: bool = True
    ) -> _T:
        """The parsed page of a URL: from `cache`, else from the site and then cached if final.

        follow: see `fetch`. Raises what `fetch` and `parse` raise.
        """
        cached = cache.get(url) if cache else None
        if cached:
            value, final = parse(cached)
            if final:
                return value
        page = self.fetch(url, follow)
        value, final = parse(page)
        if cache and final:
            cache.put(page)
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

        def get(url: str, cache: PageCache | None) -> _T:
            try:
                return self.get(url, parse, cache)
            except PageError:
                if on_page_error is None:
                    raise
                return on_page_error(url)

        pending: deque[Future[_T]] = deque()
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            try:
                for url, cache in urls:
                    pending.append(pool.submit(get, url, cache))
                    if len(pending) == CONCURRENCY:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            except (KeyboardInterrupt, SiteError):
                self._closed.set()
                raise
            finally:
                for future in pending:
                    future.cancel()

    def _read_robots(self, root: str) -> Protego:
        try:
            response = self._request("GET", urljoin(root, "/robots.txt"))
        except PageError as error:  # concerns all pages
            raise SiteError(str(error)) from None
        if response.status == 429 or response.status >= 500:  # disallows all (RFC 9309, 2.3.1.4)
            raise SiteError(
                f"{response.url} answers with status {response.status}, so no page may be "
                "requested; try again later."
            )
        # A site without the file allows everything (2.3.1.3).
        robots = Protego.parse(response.text if response.status == 200 else "")
        if delay := robots.crawl_delay(AGENT):
            self._limiter(root).slow_to(1 / delay)
        return robots

    def _fetch_through_gate(self, url: str, follow: bool) -> Page:
        gates_passed = self._gates_passed
        response = self._request("GET", url, follow=follow)
        if not _is_gate(response):
            return response.page(url)
        with self._gate_lock:
            if self._gates_passed != gates_passed:  # another thread has passed it meanwhile
                response = self._request("GET", url)
            if _is_gate(response):
                response = self._confirm_age(response)
                self._gates_passed += 1
        if _is_gate(response):
            raise SiteError(
                f"{url} still asks for the reader's age after it was confirmed; open it in a "
                "browser to see what has changed."
            )
        return response.page(url)

    def _confirm_age(self, gate: "_Response") -> "_Response":
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
        return self._request("POST", target, {**hidden, "yes": "yes"})

    def _request(
        self, method: str, url: str, form: dict[str, str] | None = None, follow: bool = True
    ) -> "_Response":
        """The response at the end of all redirects, each of which counts for the rate."""
        step = url
        for _ in range(_MAX_REDIRECTS):
            host = urlsplit(step).hostname
            of_site = host in self._answering or host == urlsplit(url).hostname
            no_answer = SiteError if of_site else PageError
            response = self._request_with_retries(method, step, form, no_answer)
            self._answering.add(host)
            if response.redirect is None or not follow:
                return response
            method, step = response.redirect
            form = form if method == "POST" else None
        raise PageError(f"{url} redirects more than {_MAX_REDIRECTS} times; open it in a browser.")

    def _request_with_retries(
        self, method: str, url: str, form: dict[str, str] | None, no_answer: type[SiteError]
    ) -> "_Response":
        """no_answer: what is raised if the host does not answer in all attempts."""
        problem, limiter = "", self._limiter(url)
        for attempt in range(self._retries.attempts):
            response, wait = None, self._backoff(attempt)
            self._sleep(limiter.reserve())
            try:
                response = self._request_once(method, url, form)
            except ValueError:  # among them requests' InvalidURL and its kin
                raise PageError(
                    f"{url} is, or redirects to, an invalid URL; check board.base_url, or open it "
                    "in a browser."
                ) from None
            except requests.exceptions.RequestException as error:
                problem = _describe(error)
            else:
                if response.status != 429 and response.status < 500:
                    return response
                wait = max(wait, response.retry_after)
            if wait > _MAX_WAIT_S:
                raise no_answer(
                    f"{url} asks for a pause of {wait / 60:.0f} minutes; run the same command "
                    "after that. Pages already read are kept."
                )
            if attempt + 1 < self._retries.attempts:
                # All threads wait: a site that is busy for one page is busy for all.
                limiter.pause(wait)
        if response is not None:
            return response
        raise no_answer(
            f"{url} does not answer ({problem}, {self._retries.attempts} attempts); check the "
            "network and board.base_url, and run the same command to resume. Pages already read "
            "are kept."
        )

    def _request_once(self, method: str, url: str, form: dict[str, str] | None) -> "_Response":
        with (
            time_limit(self._retries.limit_s),
            self._session.request(
                method,
                url,
                data=form,
                auth=self._auth,
                timeout=self._retries.timeout_s,
                stream=True,
                allow_redirects=False,
            ) as response,
        ):
            content_type = response.headers.get("Content-Type", "").partition(";")[0].lower()
            body, is_text = bytearray(), not content_type.strip().startswith(_NO_TEXT)
            for piece in response.iter_content(65536) if is_text else ():
                body += piece
                if len(body) > _MAX_BYTES:
                    raise PageError(
                        f"{url} sends more than {_MAX_BYTES >> 20} MiB, too much for a page."
                    )
            target = self._session.get_redirect_target(response)
            kept = method if response.status_code in (307, 308) else "GET"
            return _Response(
                response.url,
                response.status_code,
                bytes(body).decode("utf-8-sig", errors="replace"),
                retry_after(response.headers.get("Retry-After", "")) or 0.0,
                (kept, urljoin(response.url, target)) if target else None,
                content_type.strip(),
            )

    def _limiter(self, url: str) -> RateLimiter:
        site = site_name(urlsplit(url).hostname or "")
        return self._limiters.setdefault(site, RateLimiter(self._rate_per_s))

    def _backoff(self, attempt: int) -> float:
        # Half fixed, half jitter, so that clients that failed together do not return together.
        longest = self._retries.first_wait_s * 2**attempt
        return min(longest, _MAX_WAIT_S) * random.uniform(0.5, 1.0)

    def _sleep(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise SiteError("The client was closed.")


@dataclass(frozen=True)
class _Response:
    """A response whose body was read.

    retry_after: in seconds, 0 if the site asks for no wait; redirect: method and URL of the next
    request, None if there is none; content_type: see `Page`, whose text an image does not have.
    """

    url: str
    status: int
    text: str
    retry_after: float
    redirect: tuple[str, str] | None
    content_type: str

    def page(self, url: str) -> Page:
        """The page of the URL that was requested first."""
        location = self.redirect[1] if self.redirect else ""
        return Page(url, self.status, self.text, location, self.content_type)


def _is_gate(response: _Response) -> bool:
    return urlsplit(response.url).path == "/ask/over18" and 'name="yes"' in response.text


def _describe(error: requests.exceptions.RequestException) -> str:
    if isinstance(error, requests.exceptions.Timeout):
        return "timed out"
    if isinstance(error, requests.exceptions.ProxyError):
        return "no connection through the proxy of the environment"
    if isinstance(error, requests.exceptions.SSLError):
        return "certificate not trusted"
    text = str(error)
    if "NameResolution" in text or "getaddrinfo" in text or "Name or service" in text:
        return "host name not found"
    if "not a public address" in text:
        return "not a public address"
    return "connection refused" if "refused" in text.lower() else "connection lost"
