"""Decides when a host is asked next: its queue, whether it is down, and its site's limits.

The hosts of one registered domain form a site: they share its rate and its number of requests at
once. Times are those of the event loop.
"""

import asyncio
import heapq
import itertools
from collections import deque
from dataclasses import dataclass

from yarl import URL

from pttfaces.config import Download
from pttfaces.download.client import Answer
from pttfaces.download.result import Result

DOWN_AFTER = 5  # distinct links in a row without an answer, or requests for patience (429) in a row
_PROBE_S, _MAX_PROBE_S = 0.25, 60.0  # pause before the first probe of a host that is down; longest
_INITIAL = 8  # requests at once before a site has answered; half of the limit if that is more
_SPEED_UP = 1 / 200  # of the full rate, with every answer after a site asked for fewer requests
_MAX_SLOWDOWN = 64  # the slowest rate is the full one divided by this
_CATCH_UP_S = 0.1  # timers are coarse: starts that are late by less than this are made up for
_THROTTLED_S, _MAX_PAUSE_S = 5.0, 300.0


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
    """A registered domain: when its next request may start.

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

    running: how many requests are under way; is_ready: whether it is among its site's `ready`;
    timer: what makes it ready later; answered: whether it ever gave an answer; down: whether it
    gives none, so that only probes are sent, one at a time, now and then.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.running = 0
        self.is_ready = self.answered = self.down = False
        self.timer: asyncio.TimerHandle | None = None
        self._first: deque[Request] = deque()  # first requests and redirects, the next one first
        self._retries: list[tuple[float, int, Request]] = []  # (not before, order, request), a heap
        self._order = itertools.count()
        self._silent = self._throttled = self._probes = 0
        self._failed_at = self._probe_at = self._paused_until = float("-inf")

    def add(self, request: Request, not_before: float | None = None) -> None:
        """Queues a first request, a redirect (which goes first, since it may expire), or a retry,
        which comes after all first requests."""
        if not_before is not None:
            heapq.heappush(self._retries, (not_before, next(self._order), request))
        elif request.redirects:
            self._first.appendleft(request)
        else:
            self._first.append(request)

    @property
    def links(self) -> int:
        """How many requests wait or are under way."""
        return len(self._first) + len(self._retries) + self.running

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
        pause and half the rate; a host that keeps asking is down, too, and one that asks for more
        than _MAX_PAUSE_S is down at once, until then, while its site rests as if it had named none.
        """
        code = answer.result.http_status
        throttled = code == 429 or (code == 503 and answer.retry_after is not None)
        if not answer.silent:
            self.answered, self._silent = True, 0
        if not (answer.silent or throttled):
            self._throttled = self._probes = 0
            self.down = False
            self.site.speed_up()
            return
        # What was under way at the last failure tells nothing new, only another link does.
        is_new = started > self._failed_at
        if is_new:
            self._failed_at = now
        if throttled:
            self._throttled += is_new
            pause = answer.retry_after
            if pause is not None and pause > _MAX_PAUSE_S:
                self._paused_until = max(self._paused_until, now + pause)
                self._throttled, pause = max(self._throttled, DOWN_AFTER), _THROTTLED_S
            elif pause is None:
                pause = _doubled(_THROTTLED_S, self._throttled - 1, _MAX_PAUSE_S)
            elif self._throttled > 1:  # also where it asks for no pause: Retry-After: 0
                pause = max(pause, _doubled(_PROBE_S, self._throttled, _MAX_PAUSE_S))
            self.site.pause(now + pause)
        else:
            self._silent += request.attempt == 1
        if is_new and (throttled or self._silent > 1):
            self.site.slow_down(rate=throttled)
        self.down = max(self._silent, self._throttled) >= DOWN_AFTER
        if self.down and (is_new or not self._probes):
            probe_at = now + _doubled(_PROBE_S, self._probes, _MAX_PROBE_S)
            self._probe_at = max(probe_at, self._paused_until)
            self._probes += 1


def _doubled(seconds: float, times: int, longest: float) -> float:
    """A pause that doubles with each of `times`, of which a run of days has thousands."""
    return min(seconds * 2 ** min(times, 20), longest)
