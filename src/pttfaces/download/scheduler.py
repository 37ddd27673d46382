"""Downloads many links at once: fair between hosts, within the limits, with redirects and retries.

Every request, a redirect's too, waits in the queue of the host that it goes to, and the hosts share
the slots for requests under way.
"""

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeAlias

from yarl import URL

from pttfaces.config import Download
from pttfaces.download.addresses import clean_url
from pttfaces.download.client import Answer, ImageClient
from pttfaces.download.result import RejectedError, Result

GIVE_UP_AFTER = 7  # failures of the host in a row; about half a minute when it refuses at once
DEAD_AFTER = 5  # the same of a host that never gave any answer; about 7 seconds
_INITIAL = 8  # requests at once before a host has answered; half of the limit if that is more
_SPEED_UP = 1 / 200  # of the full rate, with every answer after a host asked for fewer requests
_MAX_SLOWDOWN = 64  # the slowest rate is the full one divided by this
_CATCH_UP_S = 0.1  # timers are coarse: starts that are late by less than this are made up for
_PAUSE_S, _THROTTLED_S, _MAX_PAUSE_S = 0.25, 5.0, 300.0
_MAX_REDIRECTS = 8
_BACK_OFF_S, _MAX_BACK_OFF_S = 0.5, 60.0
_QUEUE_BATCH = 100  # links that are queued before answers get their turn
_DNS_THREADS = 32  # the default of few threads would let dead names block all look-ups


OnResult: TypeAlias = Callable[[str, Result], None]


@dataclass(frozen=True, slots=True)
class Request:
    """The next request for a link. url: its address after `redirects` from `start`."""

    link: str
    start: URL
    url: URL
    attempt: int = 1
    redirects: int = 0


class Host:
    """A host's queue, and what its answers have said of it. Times are those of the event loop.

    waiting: requests, the next one first; running: how many are under way; links: how many wait,
    are under way or are tried again later; scheduled: whether its next start is arranged, and
    pause: the task that waits for it; given_up: whether no request is made any more in this run.
    """

    def __init__(self, options: Download) -> None:
        self.waiting: deque[Request] = deque()
        self.running = self.links = 0
        self.scheduled = self.given_up = False
        self.pause: asyncio.Task[None] | None = None
        self.has_answered = False  # well or badly
        self._options = options
        initial = max(_INITIAL, options.per_host // 2)
        self._limit = min(options.per_host, initial)  # requests at once
        self._rate = options.rate_per_host  # requests a second
        self._failures = 0  # in a row
        self._failed_at = self._next_start = self._paused_until = float("-inf")

    @property
    def silent(self) -> bool:
        """Whether the host never answered, and failed as often in a row as a link is tried."""
        return not self.has_answered and self._failures >= self._options.attempts

    def delay(self, now: float) -> float | None:
        """Seconds until the next request may start; None when something has to change first."""
        if not self.waiting or self.running >= self._limit or self.given_up:
            return None
        return max(0.0, self._next_start - now, self._paused_until - now)

    def start_next(self, now: float) -> Request:
        """Takes the next request; only when `delay` is 0."""
        self.running += 1
        self._next_start = max(self._next_start, now - _CATCH_UP_S) + 1 / self._rate
        return self.waiting.popleft()

    def judge(self, answer: Answer, started: float, now: float) -> None:
        """Decides from an answer how many requests the host gets, how often, when, and whether any.

        started: when the request began. An answer about the link opens the host by one request and
        speeds it up to the full rate again. One about the host, or none, counts as a failure: it
        halves the number of parallel requests, and pauses them from the second in a row on, until
        the host is given up. 429, and 503 with Retry-After, ask for a pause and half the rate.
        """
        status, code = answer.result.status, answer.result.http_status
        throttled = code == 429 or (code == 503 and answer.retry_after is not None)
        failed = code is None or code in (403, 429) or code >= 500
        self.has_answered |= code is not None
        if not failed or status == "refused_address":
            self._failures, self.given_up = 0, False
            self._limit = min(self._options.per_host, self._limit + 1)
            full_rate = self._options.rate_per_host
            self._rate = min(full_rate, self._rate + full_rate * _SPEED_UP)
            return
        pause = (answer.retry_after or 0.0) if throttled else 0.0
        if started > self._failed_at:  # else it was under way at the last failure: the same one
            self._failed_at = now
            self._failures += 1
            self._limit = max(1, self._limit // 2)
            if throttled:
                slowest = self._options.rate_per_host / _MAX_SLOWDOWN
                self._rate = max(self._rate / 2, slowest)
            if throttled and answer.retry_after is None:
                pause = _THROTTLED_S * 2 ** (self._failures - 1)
            elif self._failures > 1:  # also where it asks for no pause: Retry-After: 0
                pause = max(pause, _PAUSE_S * 2**self._failures)
        self._paused_until = max(self._paused_until, now + min(pause, _MAX_PAUSE_S))
        self.given_up = self._failures >= (GIVE_UP_AFTER if self.has_answered else DEAD_AFTER)


async def fetch_all(
    links: Sequence[str], client: ImageClient, options: Download, on_result: OnResult
) -> None:
    """Downloads distinct links; calls `on_result` with each one's result.

    An error that is not the network's, such as a full disk, ends all requests and is raised.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_DNS_THREADS, "look-up"))
    try:
        await _Scheduler(client, options, on_result).run(links)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


class _Scheduler:
    def __init__(self, client: ImageClient, options: Download, on_result: OnResult) -> None:
        self._client, self._options, self._on_result = client, options, on_result
        self._hosts: dict[str, Host] = {}
        # Hosts that may start a request: (requests under way, order of arrival, host), a heap.
        self._ready: list[tuple[int, int, Host]] = []
        self._arrivals = itertools.count()
        self._running = 0  # requests of all hosts
        self._all_queued = False
        self._now = asyncio.get_running_loop().time

    async def run(self, links: Sequence[str]) -> None:
        """Queues all links; ends when the last task has, since whatever waits has a task."""
        async with asyncio.TaskGroup() as self._tasks:
            for number, link in enumerate(links, 1):
                try:
                    url = clean_url(link)
                except RejectedError as error:
                    self._on_result(link, Result(error.status, str(error), final_url=link))
                else:
                    self._queue(Request(link, url, url))
                if number % _QUEUE_BATCH == 0:
                    await asyncio.sleep(0)
            self._all_queued = True

    def _queue(self, request: Request) -> None:
        """Puts a request in its host's queue; a redirect goes first, since it may expire."""
        name = request.url.host or ""
        if name not in self._hosts:
            self._hosts[name] = Host(self._options)
        host = self._hosts[name]
        host.links += 1
        if request.redirects:
            host.waiting.appendleft(request)
        else:
            host.waiting.append(request)
        if host.given_up:
            self._give_up(host)
        self._schedule(host)
        self._start()

    def _schedule(self, host: Host) -> None:
        """Arranges the host's next start, for now or after its pause."""
        delay = host.delay(self._now())
        if delay is None or host.scheduled:
            return
        host.scheduled = True
        if delay:
            host.pause = self._tasks.create_task(self._schedule_later(host, delay))
        else:
            heapq.heappush(self._ready, (host.running, next(self._arrivals), host))

    async def _schedule_later(self, host: Host, delay: float) -> None:
        await asyncio.sleep(delay)
        host.pause, host.scheduled = None, False
        self._schedule(host)
        self._start()

    def _start(self) -> None:
        """Starts requests while slots are free."""
        while self._running < self._options.concurrency and (turn := self._next()):
            self._running += 1
            self._tasks.create_task(self._work(*turn))

    def _next(self) -> tuple[Host, Request] | None:
        """The request to start now, of the host that has the fewest under way."""
        while self._ready:
            _, _, host = heapq.heappop(self._ready)
            host.scheduled = False
            request = host.start_next(self._now()) if host.delay(self._now()) == 0 else None
            self._schedule(host)
            if request:
                return host, request
        return None

    async def _work(self, host: Host, request: Request) -> None:
        """Makes requests, one after the other, while there are any to start: a slot."""
        turn: tuple[Host, Request] | None = host, request
        while turn:
            host, request = turn
            started = self._now()
            answer = await self._client.get(request.url)
            host.running -= 1
            host.judge(answer, started, self._now())
            self._finish(host, request, answer)
            self._schedule(host)
            turn = self._next()
            self._start()  # an answer may open its host by one request
        self._running -= 1
        if self._all_queued and not self._running:
            self._give_up_silent_hosts()

    def _finish(self, host: Host, request: Request, answer: Answer) -> None:
        """Ends a link with an answer, follows it elsewhere, or tries again later."""
        if answer.retry and request.attempt < self._options.attempts:
            self._tasks.create_task(self._retry_later(host, request))  # it stays the host's link
        else:
            host.links -= 1
            if answer.location:
                self._redirect(request, answer)
            else:
                self._end(request, answer.result)
        if host.given_up:
            self._give_up(host)

    async def _retry_later(self, host: Host, request: Request) -> None:
        pause = min(_BACK_OFF_S * 2 ** (request.attempt - 1), _MAX_BACK_OFF_S)
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        host.links -= 1
        start = request.start
        self._queue(Request(request.link, start, start, request.attempt + 1))

    def _redirect(self, request: Request, answer: Answer) -> None:
        code = answer.result.http_status
        try:
            # Joined before it is cleaned, since `//host/x` has the scheme of the redirect.
            url = clean_url(str(request.url.join(URL(answer.location))))
        except RejectedError as error:
            self._end(request, Result(error.status, f"bad redirect: {error}", http_status=code))
            return
        except ValueError:
            self._end(request, Result("failed", "bad redirect: not a URL", http_status=code))
            return
        redirected = replace(request, url=url, redirects=request.redirects + 1)
        if url.name == "removed.png":  # imgur's image in place of one that was taken down
            result = Result("removed", "redirected to removed.png", http_status=code)
            self._end(redirected, result)
        elif redirected.redirects > _MAX_REDIRECTS:
            message = f"more than {_MAX_REDIRECTS} redirects"
            self._end(request, Result("failed", message, http_status=code))
        else:
            self._queue(redirected)

    def _end(self, request: Request, result: Result) -> None:
        url = str(request.url)
        self._on_result(request.link, result._replace(attempts=request.attempt, final_url=url))

    def _give_up(self, host: Host) -> None:
        """Ends the links that wait for a host, without asking it."""
        host.given_up = True
        if host.pause:
            host.pause.cancel()
            host.pause, host.scheduled = None, False
        result = Result("failed", "its host failed repeatedly; no more requests were sent")
        while host.waiting:
            request = host.waiting.popleft()
            host.links -= 1
            self._end(replace(request, attempt=request.attempt - 1), result)

    def _give_up_silent_hosts(self) -> None:
        """Gives up the hosts that never answered when only these have links left.

        While others have work, patience costs nothing; after it each pause would be the run's.
        Where no host has answered at all, it may be the network.
        """
        hosts = self._hosts.values()
        if any(host.links and not host.silent for host in hosts):
            return
        if any(host.has_answered for host in hosts):
            for host in hosts:
                self._give_up(host)
