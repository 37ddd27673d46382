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
from typing import Self, TypeAlias, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from protego import Protego
from requests.auth import AuthBase

from pttfaces.board.html import tree_of
from pttfaces.board.page_cache import Page, PageStore
from pttfaces.errors import SiteError
from pttfaces.http import USER_AGENT, LoopbackHosts, retry_after

UNDER_WAY = 8  # requests at once, so that a slow answer does not leave the rate unused
_LONGEST_WAIT_S = 300.0
_MOST_BYTES = 32 * 2**20
_MOST_REDIRECTS = 10
_AGENT = USER_AGENT.split("/", 1)[0]
_NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)


class PageError(SiteError):
    """One address of a site that answers leads to no page: in a circle, to no address, to another
    site that does not answer, or to more than a page can hold."""


T = TypeVar("T")
# What a page says, and whether it says it for good; a page that does not is asked for again in the
# next run, since it may have been a passing trouble's. Called from several threads.
Reading: TypeAlias = Callable[[Page], tuple[T, bool]]


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
    """Reads pages through a door; use as a context manager, from any number of threads.

    auth: what proves to a host who asks, where one wants to know.
    """

    def __init__(self, door: LoopbackHosts, manners: Manners, auth: AuthBase | None = None) -> None:
        self._manners = manners
        self._session = door.session()
        self._auth = auth
        self._closed = threading.Event()
        self._pace = _Pace(manners.rate_per_s)
        self._entrance = threading.Lock()
        self._gate = threading.Lock()
        self._opened = 0  # how often the gate was answered
        self._rules: dict[str, Protego] = {}
        self._heard: set[str | None] = set()  # hosts that have answered: one is the site, at least

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

    def fetch(self, url: str) -> Page:
        """One page from the site; one that is still refused or too busy after all attempts comes
        with its status.

        SiteError: no answer at all, robots.txt forbids it or cannot be had, or the site asks to be
        left alone for longer than a run should wait.
        """
        root = urljoin(url, "/")
        with self._entrance:
            entering = root not in self._rules
            if entering:
                self._rules[root] = self._read_robots(root)
            if not self._rules[root].can_fetch(url, _AGENT):
                raise SiteError(
                    f"{root}robots.txt asks robots to stay away from {url}; so it is left."
                )
            if entering:  # the first page alone: its gate, if there is one, opens for all
                return self._through_gate(url)
        return self._through_gate(url)

    def get(self, url: str, read: Reading[T], store: PageStore | None = None) -> T:
        """What `read` makes of one page: of the one in `store` if it is there, else of the site's,
        which is then put there if it is good for ever. Raises what `fetch` and `read` do.
        """
        kept = store.get(url) if store else None
        if kept:
            value, good = read(kept)
            if good:
                return value
        page = self.fetch(url)
        value, good = read(page)
        if store and good:
            store.put(page)
        return value

    def get_all(
        self,
        wanted: Iterable[tuple[str, PageStore | None]],
        read: Reading[T],
        no_page: Callable[[str], T] | None = None,
    ) -> Iterator[T]:
        """What `read` makes of pages of (URL, store) pairs, in their order, several under way at
        once; what `no_page` makes of a URL that leads to none, where a PageError is no end.

        Requests start in that order too; at most a handful more than were taken are made.
        """

        def get(url: str, store: PageStore | None) -> T:
            try:
                return self.get(url, read, store)
            except PageError:
                if no_page is None:
                    raise
                return no_page(url)

        pairs = iter(wanted)
        under_way: deque[Future[T]] = deque()
        with ThreadPoolExecutor(UNDER_WAY) as pool:
            try:
                for url, store in pairs:
                    under_way.append(pool.submit(get, url, store))
                    if len(under_way) == UNDER_WAY:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            except (KeyboardInterrupt, SiteError):
                self._closed.set()
                raise
            finally:
                for future in under_way:
                    future.cancel()

    def _read_robots(self, root: str) -> Protego:
        try:
            answer = self._request("GET", urljoin(root, "/robots.txt"))
        except PageError as error:  # of all pages, then
            raise SiteError(str(error)) from None
        if answer.status == 429 or answer.status >= 500:  # all is forbidden (RFC 9309, 2.3.1.4)
            raise SiteError(
                f"{answer.url} answers with status {answer.status}, so what it asks robots "
                "to leave is not known; try again later."
            )
        # A site without a file forbids nothing (2.3.1.3).
        rules = Protego.parse(answer.text if answer.status == 200 else "")
        if delay := rules.crawl_delay(_AGENT):
            self._pace.slow_to(1 / delay)
        return rules

    def _through_gate(self, url: str) -> Page:
        opened = self._opened
        answer = self._request("GET", url)
        if not _is_gate(answer):
            return Page(url, answer.status, answer.text)
        with self._gate:
            if self._opened != opened:  # another thread has answered meanwhile
                answer = self._request("GET", url)
            if _is_gate(answer):
                answer = self._answer_gate(answer)
                self._opened += 1
        if _is_gate(answer):
            raise SiteError(
                f"{url} asks for the reader's age again after the answer yes; "
                "open it in a browser to see what has changed."
            )
        return Page(url, answer.status, answer.text)

    def _answer_gate(self, gate: "_Answer") -> "_Answer":
        form = tree_of(gate.text).css_first('form[action*="/ask/over18"]')
        if form is None:
            raise SiteError(f"{gate.url} asks for the reader's age in a form that is not known.")
        hidden = {
            str(field.attributes["name"]): field.attributes.get("value") or ""
            for field in form.css('input[type="hidden"][name]')
        }
        target = urljoin(gate.url, form.attributes["action"])
        return self._request("POST", target, {**hidden, "yes": "yes"})

    def _request(self, method: str, url: str, form: dict[str, str] | None = None) -> "_Answer":
        """The answer at the end of all redirects, each of which waits for its turn."""
        step = url
        for _ in range(_MOST_REDIRECTS):
            host = urlsplit(step).hostname
            at_home = host in self._heard or host == urlsplit(url).hostname
            answer = self._patiently(method, step, form, SiteError if at_home else PageError)
            self._heard.add(host)
            if answer.leads_to is None:
                return answer
            method, step = answer.leads_to
            form = form if method == "POST" else None
        raise PageError(f"{url} leads in a circle of redirects; open it in a browser.")

    def _patiently(
        self, method: str, url: str, form: dict[str, str] | None, silence: type[SiteError]
    ) -> "_Answer":
        """silence: what is raised where no answer comes after all attempts."""
        problem = ""
        for attempt in range(self._manners.attempts):
            answer, wait = None, self._backoff(attempt)
            self._sleep(self._pace.next_wait())
            try:
                answer = self._once(method, url, form)
            except _NO_ADDRESS:
                raise PageError(
                    f"{url} is no address of a page; check board.base_url, or what leads there."
                ) from None
            except requests.exceptions.RequestException as error:
                problem = _in_words(error)
            except ValueError:  # as requests leaves it
                raise PageError(
                    f"{url} leads to what is no address; open it in a browser."
                ) from None
            else:
                if answer.status != 429 and answer.status < 500:
                    return answer
                wait = max(wait, answer.retry_after)
            if wait > _LONGEST_WAIT_S:
                raise silence(
                    f"{url} asks to be left alone for {wait / 60:.0f} minutes; run the same "
                    "command again then: pages already read are kept."
                )
            if attempt + 1 < self._manners.attempts:
                # The whole client waits: a site that is busy for one page is busy for all.
                self._pace.hold(wait)
        if answer is not None:
            return answer
        raise silence(
            f"{url} does not answer ({problem}, {self._manners.attempts} tries); check the network "
            "and board.base_url, then run the same command again: pages already read are kept."
        )

    def _once(self, method: str, url: str, form: dict[str, str] | None) -> "_Answer":
        with self._session.request(
            method,
            url,
            data=form,
            auth=self._auth,
            timeout=self._manners.timeout_s,
            stream=True,
            allow_redirects=False,
        ) as response:
            body = bytearray()
            for piece in response.iter_content(65536):
                body += piece
                if len(body) > _MOST_BYTES:
                    raise PageError(
                        f"{url} sends more than {_MOST_BYTES >> 20} MiB; that is no page."
                    )
            following = response.next
            return _Answer(
                response.url,
                response.status_code,
                bytes(body).decode("utf-8-sig", errors="replace"),
                retry_after(response.headers.get("Retry-After", "")) or 0.0,
                (str(following.method), str(following.url)) if following else None,
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
    url: str
    status: int
    text: str
    retry_after: float  # seconds; 0 where the site names none
    leads_to: tuple[str, str] | None  # method and URL of the next request, for a redirect


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
