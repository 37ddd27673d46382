"""Requests many addresses at once: fair between sites, within the limits, with redirects and retries.

Every request, a redirect's too, waits in the queue of the host that it goes to. The hosts of one
registered domain form a site: they share its rate and its number of requests at once. The sites
share the slots for requests under way.
"""

import asyncio
import heapq
import ipaddress
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeAlias
from urllib.parse import urljoin

from publicsuffixlist import PublicSuffixList
from yarl import URL

from pttfaces.config import Download
from pttfaces.download.addresses import clean_url
from pttfaces.download.client import Answer, ImageClient
from pttfaces.download.result import RejectedError, Result

DOWN_AFTER = 5  # distinct links in a row without an answer, or requests for patience (429) in a row
_PROBE_S, _MAX_PROBE_S = 0.25, 60.0  # pause before the first probe of a host that is down; longest
# What the run may wait for hosts that are down once no other host has links left: a share of its
# time so far; where no other host answers, it may be our own network: at least some seconds.
_PATIENCE, _MIN_PATIENCE_S = 0.05, 10.0
_INITIAL = 8  # requests at once before a site has answered; half of the limit if that is more
_SPEED_UP = 1 / 200  # of the full rate, with every answer after a site asked for fewer requests
_MAX_SLOWDOWN = 64  # the slowest rate is the full one divided by this
_CATCH_UP_S = 0.1  # timers are coarse: starts that are late by less than this are made up for
_THROTTLED_S, _MAX_PAUSE_S = 5.0, 300.0
_MAX_REDIRECTS = 8
_BACK_OFF_S, _MAX_BACK_OFF_S = 0.5, 60.0
_QUEUE_BATCH = 100  # links that are queued before answers get their turn
_DNS_THREADS = 32  # the default of few threads would let dead names block all look-ups

# Takes the result of an address; returns further addresses to request. Addresses whose request was
# never sent, since their host is down, have no result.
OnResult: TypeAlias = Callable[[str, Result], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Request:
    """The next request for an address.

    url: where it leads after `redirects` from `start`; result: what there is to say of the address
    if this request is never sent; None: nothing was sent for it yet.
    """

    address: str
    start: URL
    url: URL
    attempt: int = 1
    redirects: int = 0
    result: Result | None = None


class Site:
    """A registered domain. Times are those of the event loop.

    ready: its hosts that have a request to start, the next one first; running: how many requests
    are under way; scheduled: whether its next start is arranged.
    """

    def __init__(self, options: Download) -> None:
        self.ready: deque[Host] = deque()
        self.running = 0
        self.scheduled = False
        initial = max(_INITIAL, options.per_host // 2)
        self._max_limit, self._full_rate = options.per_host, options.rate_per_host
        self._limit = min(options.per_host, initial)  # requests at once
        self._rate = options.rate_per_host  # requests a second
        self._next_start = self._paused_until = float("-inf")

    def delay(self, now: float) -> float | None:
        """Seconds until the next request may start; None when something has to change first."""
        while self.ready and not self.ready[0].may_start(now):
            self.ready.popleft().is_ready = False
        if not self.ready or self.running >= self._limit:
            return None
        return max(0.0, self._next_start - now, self._paused_until - now)

    def start_next(self, now: float) -> tuple["Host", Request]:
        """Takes a request, of each host in turn; only when `delay` is 0."""
        host = self.ready.popleft()
        request = host.start_next()
        self._next_start = max(self._next_start, now - _CATCH_UP_S) + 1 / self._rate
        host.is_ready = host.may_start(now)
        if host.is_ready:
            self.ready.append(host)
        return host, request

    def speed_up(self) -> None:
        """One more request at once, and a little more of the full rate."""
        self._limit = min(self._max_limit, self._limit + 1)
        self._rate = min(self._full_rate, self._rate + self._full_rate * _SPEED_UP)

    def slow_down(self, rate: bool) -> None:
        """Half as many requests at once, and half the rate if that is asked for."""
        self._limit = max(1, self._limit // 2)
        if rate:
            self._rate = max(self._rate / 2, self._full_rate / _MAX_SLOWDOWN)

    def pause(self, until: float) -> None:
        """Starts no request before a time."""
        self._paused_until = max(self._paused_until, until)


class Host:
    """A host name: its requests, and whether it answers.

    links: how many of its requests wait or are under way; running: how many are under way;
    is_ready: whether it is among its site's `ready`; timer: what makes it ready later; answered:
    whether it ever gave an answer.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.links = self.running = 0
        self.is_ready = self.answered = False
        self.timer: asyncio.TimerHandle | None = None
        self._first: deque[Request] = deque()  # first requests and redirects, the next one first
        self._retries: list[tuple[float, int, Request]] = []  # (not before, order, request), a heap
        self._order = itertools.count()
        self._silent = self._throttled = self._probes = 0
        self._failed_at = self._probe_at = float("-inf")

    @property
    def down(self) -> bool:
        """Whether it seems to be down, so that only probes are sent: one at a time, now and then."""
        return max(self._silent, self._throttled) >= DOWN_AFTER

    def add(self, request: Request, not_before: float | None = None) -> None:
        """Queues a first request, a redirect (which goes first, since it may expire), or a retry,
        which comes after all first requests."""
        if not_before is not None:
            heapq.heappush(self._retries, (not_before, next(self._order), request))
        elif request.redirects:
            self._first.appendleft(request)
        else:
            self._first.append(request)

    def start_time(self) -> float | None:
        """When its next request may start; None when it has none, or waits for a probe's answer."""
        if not (self._first or self._retries) or (self.down and self.running):
            return None
        due = float("-inf") if self._first else self._retries[0][0]
        return max(due, self._probe_at) if self.down else due

    def may_start(self, now: float) -> bool:
        """Whether a request may start now, as far as the host is concerned."""
        start = self.start_time()
        return start is not None and start <= now

    def start_next(self) -> Request:
        """Takes the next request; only when `may_start`."""
        self.running += 1
        self.site.running += 1
        return self._first.popleft() if self._first else heapq.heappop(self._retries)[2]

    def take_all(self) -> list[Request]:
        """Empties the queue."""
        waiting = [*self._first, *(request for _, _, request in sorted(self._retries))]
        self._first.clear()
        self._retries.clear()
        return waiting

    def judge(self, request: Request, answer: Answer, started: float, now: float) -> None:
        """Decides from an answer whether the host is down, and how fast its site is asked.

        started: when the request began. Any HTTP answer shows that the host is alive: a 403, 404 or
        500 concerns its link only. Links without an answer (no connection, or a time-out, also in
        the middle of a body) count when they come one after the other, each once, whatever the
        number of its attempts: from the second one on they halve the requests at once, and after
        DOWN_AFTER the host is down until it answers. 429, and 503 with Retry-After, ask for a
        pause and half the rate; a host that keeps asking is down, too.
        """
        code = answer.result.http_status
        throttled = code == 429 or (code == 503 and answer.retry_after is not None)
        if not answer.silent:
            self.answered, self._silent = True, 0
        if not (answer.silent or throttled):
            self._throttled = self._probes = 0
            self.site.speed_up()
            return
        # What was under way at the last failure tells nothing new, only another link does.
        is_new = started > self._failed_at
        if is_new:
            self._failed_at = now
        if throttled:
            self._throttled += is_new
            pause = answer.retry_after
            if pause is None:
                pause = _THROTTLED_S * 2 ** (self._throttled - 1)
            elif self._throttled > 1:  # also where it asks for no pause: Retry-After: 0
                pause = max(pause, _PROBE_S * 2**self._throttled)
            self.site.pause(now + min(pause, _MAX_PAUSE_S))
        else:
            self._silent += request.attempt == 1
        if is_new and (throttled or self._silent > 1):
            self.site.slow_down(rate=throttled)
        if self.down and (is_new or not self._probes):
            self._probe_at = now + min(_PROBE_S * 2**self._probes, _MAX_PROBE_S)
            self._probes += 1


async def fetch_all(
    addresses: Sequence[str], client: ImageClient, options: Download, on_result: OnResult
) -> None:
    """Requests distinct addresses; calls `on_result` with each one's result.

    An error that is not the network's, such as a full disk, ends all requests and is raised.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_DNS_THREADS, "look-up"))
    try:
        await _Scheduler(client, options, on_result).run(addresses)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


class _Scheduler:
    def __init__(self, client: ImageClient, options: Download, on_result: OnResult) -> None:
        self._client, self._options, self._on_result = client, options, on_result
        self._hosts: dict[str, Host] = {}
        self._sites: dict[str, Site] = {}
        # Sites that may start a request: (requests under way, order of arrival, site), a heap.
        self._ready: list[tuple[int, int, Site]] = []
        self._arrivals = itertools.count()
        self._workers: set[asyncio.Task[None]] = set()
        # How many links are not done; of these, links of hosts that are not down; how many hosts
        # answer and are not down.
        self._open = self._hopeful = self._alive = 0
        self._changed = asyncio.Event()  # one of these may have become zero, or is not any more
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time

    async def run(self, addresses: Sequence[str]) -> None:
        async with asyncio.TaskGroup() as self._tasks:
            self._open = 1  # holds the end off until all are queued
            for number, address in enumerate(addresses, 1):
                self._add(address)
                if number % _QUEUE_BATCH == 0:
                    await asyncio.sleep(0)
            self._open -= 1
            await self._wait()

    async def _wait(self) -> None:
        """Returns when every link is done; ends those of hosts that are down when patience ends."""
        began, idle_s = self._now(), 0.0
        while self._open:
            self._changed.clear()
            if self._hopeful:
                await self._changed.wait()
                continue
            idle_from = self._now()
            patience = _PATIENCE * (idle_from - began)
            if not self._alive:
                patience = max(patience, _MIN_PATIENCE_S)
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, patience - idle_s))
            except TimeoutError:
                self._give_up()
                return
            idle_s += self._now() - idle_from

    def _add(self, address: str) -> None:
        """Queues the first request for an address."""
        self._open += 1
        try:
            url = clean_url(address)
        except RejectedError as error:
            self._end(address, Result(error.status, str(error), attempts=0, final_url=address))
        else:
            self._queue(Request(address, url, url))

    def _queue(self, request: Request, not_before: float | None = None) -> None:
        host = self._host(request.url.raw_host or "")
        host.add(request, not_before)
        self._count(host, 1)
        self._arrange(host)
        self._start()

    def _host(self, name: str) -> Host:
        if name not in self._hosts:
            site = site_name(name)
            if site not in self._sites:
                self._sites[site] = Site(self._options)
            self._hosts[name] = Host(self._sites[site])
        return self._hosts[name]

    def _count(self, host: Host, change: int) -> None:
        host.links += change
        if not host.down:
            self._hope(change)

    def _hope(self, change: int) -> None:
        before = self._hopeful
        self._hopeful += change
        if not (before and self._hopeful):
            self._changed.set()

    def _arrange(self, host: Host) -> None:
        """Makes a host ready, now or when its next request may start."""
        if host.timer:
            host.timer.cancel()
            host.timer = None
        start = host.start_time()
        if start is None:
            return
        if start > self._now():
            host.timer = self._loop.call_at(start, self._wake, host)
        elif not host.is_ready:
            host.is_ready = True
            host.site.ready.append(host)
        self._schedule(host.site)

    def _wake(self, host: Host) -> None:
        self._arrange(host)
        self._start()

    def _schedule(self, site: Site) -> None:
        """Arranges the site's next start, for now or after its pause."""
        delay = site.delay(self._now())
        if delay is None or site.scheduled:
            return
        site.scheduled = True
        if delay:
            self._loop.call_later(delay, self._resume, site)
        else:
            heapq.heappush(self._ready, (site.running, next(self._arrivals), site))

    def _resume(self, site: Site) -> None:
        site.scheduled = False
        self._schedule(site)
        self._start()

    def _start(self) -> None:
        """Starts requests while slots are free."""
        while len(self._workers) < self._options.concurrency and (turn := self._next()):
            worker = self._tasks.create_task(self._work(*turn))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    def _next(self) -> tuple[Host, Request] | None:
        """The request to start now, of the site that has the fewest under way."""
        while self._ready and not self._ended:
            _, _, site = heapq.heappop(self._ready)
            site.scheduled = False
            turn = site.start_next(self._now()) if site.delay(self._now()) == 0 else None
            self._schedule(site)
            if turn:
                return turn
        return None

    async def _work(self, host: Host, request: Request) -> None:
        """Makes requests, one after the other, while there are any to start: a slot."""
        turn: tuple[Host, Request] | None = host, request
        while turn:
            host, request = turn
            started = self._now()
            try:
                # Of thousands of hosts with a link or two, no connection is to stay open.
                answer = await self._client.get(request.url, keep_alive=host.links > 1)
            except asyncio.CancelledError:
                if not self._ended:
                    raise
                answer = Answer(Result("timeout", "no response before the end of the run"))
            host.running -= 1
            host.site.running -= 1
            self._judge(host, request, answer, started)
            self._finish(request, answer)
            self._count(host, -1)
            self._arrange(host)
            self._schedule(host.site)
            turn = self._next()
            self._start()  # an answer may open its site by one request

    def _judge(self, host: Host, request: Request, answer: Answer, started: float) -> None:
        was_down, was_alive = host.down, host.answered and not host.down
        host.judge(request, answer, started, self._now())
        self._alive += (host.answered and not host.down) - was_alive
        if host.down != was_down:
            self._hope(-host.links if host.down else host.links)

    def _finish(self, request: Request, answer: Answer) -> None:
        """Ends an address with an answer, follows it elsewhere, or tries again later."""
        if answer.location:
            self._redirect(request, answer)
            return
        result = _complete(request, answer.result)
        if self._ended and request.result:
            self._end(request.address, request.result)
        elif not self._ended and answer.retry and request.attempt < self._options.attempts:
            pause = min(_BACK_OFF_S * 2 ** (request.attempt - 1), _MAX_BACK_OFF_S)
            start, attempt = request.start, request.attempt + 1
            self._queue(
                Request(request.address, start, start, attempt, result=result),
                not_before=self._now() + pause * random.uniform(0.5, 1.5),
            )
        else:
            self._end(request.address, result)

    def _redirect(self, request: Request, answer: Answer) -> None:
        code = answer.result.http_status
        try:
            # Joined before it is cleaned, since `//host/x` has the scheme of the redirect.
            url = clean_url(urljoin(str(request.url), answer.location))
        except RejectedError as error:
            failure = Result(error.status, f"bad redirect: {error}", http_status=code)
        except ValueError:
            failure = Result("failed", "bad redirect: not a URL", http_status=code)
        else:
            redirected = replace(request, url=url, redirects=request.redirects + 1)
            if url.name == "removed.png":  # imgur's image in place of one that was taken down
                request = redirected
                failure = Result("removed", "redirected to removed.png", http_status=code)
            elif request.redirects < _MAX_REDIRECTS:
                unsent = Result("failed", "redirected to a host that does not answer")
                result = _complete(redirected, unsent._replace(http_status=code))
                self._queue(replace(redirected, result=result))
                return
            else:
                message = f"more than {_MAX_REDIRECTS} redirects"
                failure = Result("failed", message, http_status=code)
        self._end(request.address, _complete(request, failure))

    def _end(self, address: str, result: Result) -> None:
        self._open -= 1
        if not self._open:
            self._changed.set()
        for other in self._on_result(address, result):
            self._add(other)

    def _give_up(self) -> None:
        """Ends all that waits for hosts that are down. What was never requested gets no result."""
        self._ended = True
        for host in self._hosts.values():
            if host.timer:
                host.timer.cancel()
            for request in host.take_all():
                if request.result:
                    self._end(request.address, request.result)
        for worker in self._workers:
            worker.cancel()


def _complete(request: Request, result: Result) -> Result:
    return result._replace(attempts=request.attempt, final_url=str(request.url))


@cache
def _suffixes() -> PublicSuffixList:
    # The list that the package brings. Its private part would part an operator's customers.
    return PublicSuffixList(only_icann=True)


def site_name(host: str) -> str:
    """The registered domain of a host name: images.example.co.uk → example.co.uk.

    An IP address, or a name without one, is a site of its own.
    """
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return host
    return _suffixes().privatesuffix(host.rstrip(".")) or host
