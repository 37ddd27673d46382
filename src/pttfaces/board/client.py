"""A polite reader of a board's pages: one rate limit, robots.txt, the 18+ gate, patient retries.

Knows how to get a page's text; what stands in it is for others.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias
from urllib.parse import urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import requests

from pttfaces.board.markup import soup_of
from pttfaces.board.store import Page, PageStore
from pttfaces.door import USER_AGENT, Door, retry_after
from pttfaces.errors import SiteError

_UNDER_WAY = 8  # requests at once, so that a slow answer does not leave the rate unused
_LONGEST_WAIT_S = 300.0
_MOST_BYTES = 32 * 2**20
_BUSY = {429, 500, 502, 503, 504, 520, 521, 522, 523, 524}
_AGENT = USER_AGENT.split("/", 1)[0]


Good: TypeAlias = Callable[[Page], bool]


def _nothing(_: Page) -> bool:
    return False


@dataclass(frozen=True)
class Manners:
    """How patient a client is.

    rate_per_s: most requests a second; attempts: tries a page; first_wait_s: about the wait after
    the first failed try, doubled each time; timeout_s: most seconds of silence.
    """

    rate_per_s: float = 4.0
    attempts: int = 5
    first_wait_s: float = 1.0
    timeout_s: float = 30.0


class Client:
    """Reads pages through a door; use as a context manager, from any number of threads."""

    def __init__(self, door: Door, manners: Manners) -> None:
        self._manners = manners
        self._session = door.session()
        self._closed = threading.Event()
        self._pace = _Pace(manners.rate_per_s)
        self._gate = threading.Lock()
        self._robots_lock = threading.Lock()
        self._robots: dict[str, RobotFileParser] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()  # ends the waits of requests that nobody waits for any more
        self._session.close()

    def get(self, url: str, store: PageStore | None = None, good: Good = _nothing) -> Page:
        """One page, from `store` if it is there, else from the site.

        It is put into `store` if it is `good`: a page that cannot be used is asked for again in the
        next run, since it may have been a passing trouble's. One that is still refused or too busy
        after all attempts is returned with its status.
        SiteError: no answer at all, or robots.txt forbids it or cannot be had.
        """
        kept = store.get(url) if store else None
        if kept:
            return kept
        self._ask_robots(url)
        page = self._through_gate(url)
        if store and good(page):
            store.put(page)
        return page

    def get_all(
        self, wanted: Iterable[tuple[str, PageStore | None]], good: Good = _nothing
    ) -> Iterator[Page]:
        """Pages of (URL, store) pairs, in their order, several under way at once. good: see `get`;
        called from several threads.

        Requests start in that order too; at most a handful more than were taken are made.
        """
        pairs = iter(wanted)
        under_way: deque[Future[Page]] = deque()
        with ThreadPoolExecutor(_UNDER_WAY) as pool:
            try:
                for url, store in pairs:
                    under_way.append(pool.submit(self.get, url, store, good))
                    if len(under_way) == _UNDER_WAY:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            except (KeyboardInterrupt, SiteError):
                self._closed.set()
                raise
            finally:
                for future in under_way:
                    future.cancel()

    def _ask_robots(self, url: str) -> None:
        root = urljoin(url, "/")
        with self._robots_lock:
            rules = self._robots.get(root)
            if rules is None:
                answer = self._request("GET", urljoin(root, "/robots.txt"))
                if answer.status >= 500:  # then all is forbidden (RFC 9309, 2.3.1.4)
                    raise SiteError(
                        f"{answer.url} answers with status {answer.status}, so what it asks robots "
                        "to leave is not known; try again later."
                    )
                rules = RobotFileParser()
                # A site without a file forbids nothing (2.3.1.3).
                rules.parse(answer.text.splitlines() if answer.status == 200 else [])
                self._robots[root] = rules
                delay = rules.crawl_delay(_AGENT)
                if delay:
                    self._pace.slow_to(1 / float(delay))
        if not rules.can_fetch(_AGENT, url):
            raise SiteError(f"{root}robots.txt asks robots to stay away from {url}; so it is left.")

    def _through_gate(self, url: str) -> Page:
        answer = self._request("GET", url)
        if not _is_gate(answer):
            return Page(url, answer.status, answer.text)
        with self._gate:
            answer = self._request("GET", url)  # another thread may have answered meanwhile
            if _is_gate(answer):
                answer = self._answer_gate(answer)
        if _is_gate(answer):
            raise SiteError(
                f"{url} asks for the reader's age again after the answer yes; "
                "open it in a browser to see what has changed."
            )
        return Page(url, answer.status, answer.text)

    def _answer_gate(self, gate: "_Answer") -> "_Answer":
        form = soup_of(gate.text).select_one('form[action*="/ask/over18"]')
        if form is None:
            raise SiteError(f"{gate.url} asks for the reader's age in a form that is not known.")
        hidden = {
            str(field.get("name")): str(field.get("value") or "")
            for field in form.select('input[type="hidden"][name]')
        }
        target = urljoin(gate.url, str(form.get("action")))
        return self._request("POST", target, {**hidden, "yes": "yes"})

    def _request(self, method: str, url: str, form: dict[str, str] | None = None) -> "_Answer":
        problem = ""
        for attempt in range(self._manners.attempts):
            answer, wait = None, self._backoff(attempt)
            self._sleep(self._pace.next_wait())
            try:
                answer = self._once(method, url, form)
            except requests.exceptions.InvalidURL:
                raise SiteError(f"{url} is not an address; check board.base_url.") from None
            except requests.exceptions.TooManyRedirects:
                raise SiteError(
                    f"{url} leads in a circle of redirects; open it in a browser."
                ) from None
            except requests.exceptions.RequestException as error:
                problem = _in_words(error)
            else:
                if answer.status not in _BUSY:
                    return answer
                wait = max(wait, answer.retry_after)
            if attempt + 1 < self._manners.attempts:
                # The whole client waits: a site that is busy for one page is busy for all.
                self._pace.hold(min(wait, _LONGEST_WAIT_S))
        if answer is not None:
            return answer
        raise SiteError(
            f"{url} does not answer ({problem}, {self._manners.attempts} tries); check the network "
            "and board.base_url, then run the same command again: pages already read are kept."
        )

    def _once(self, method: str, url: str, form: dict[str, str] | None) -> "_Answer":
        timeout = self._manners.timeout_s
        with self._session.request(
            method, url, data=form, timeout=timeout, stream=True
        ) as response:
            body = bytearray()
            for piece in response.iter_content(65536):
                body += piece
                if len(body) > _MOST_BYTES:
                    raise SiteError(
                        f"{url} sends more than {_MOST_BYTES >> 20} MiB; that is no page."
                    )
            return _Answer(
                response.url,
                response.status_code,
                bytes(body).decode("utf-8", errors="replace"),
                retry_after(response.headers.get("Retry-After", "")) or 0.0,
            )

    def _backoff(self, attempt: int) -> float:
        # Half fixed, half jitter, so that clients that failed together do not return together.
        longest = self._manners.first_wait_s * 2**attempt
        return min(longest, _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)

    def _sleep(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise SiteError("the reading was stopped.")


@dataclass(frozen=True)
class _Answer:
    url: str  # after redirects
    status: int
    text: str
    retry_after: float  # seconds; 0 where the site names none


class _Pace:
    """Hands out moments to start a request, evenly spaced, to any number of threads."""

    def __init__(self, rate_per_s: float) -> None:
        self._interval = 1 / rate_per_s
        self._next = 0.0
        self._lock = threading.Lock()

    def next_wait(self) -> float:
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._interval
            return start - now

    def hold(self, seconds: float) -> None:
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def slow_to(self, rate_per_s: float) -> None:
        with self._lock:
            self._interval = max(self._interval, 1 / rate_per_s)


def _is_gate(answer: _Answer) -> bool:
    return urlsplit(answer.url).path == "/ask/over18" and 'name="yes"' in answer.text


def _in_words(error: requests.exceptions.RequestException) -> str:
    if isinstance(error, requests.exceptions.Timeout):
        return "timed out"
    if isinstance(error, requests.exceptions.SSLError):
        return "no trusted certificate"
    text = str(error)
    if "NameResolution" in text or "getaddrinfo" in text or "Name or service" in text:
        return "its name is not known here"
    return "refused" if "refused" in text.lower() else "the connection broke"
