"""Queues one host's requests: how many at once, how often, and when to give up on the host.

A queue starts half open, or with eight requests if that is more, and opens with every answer, up to
the limit: fast at first, by one when the host has failed before. It halves with every failure of
the host, so that a dead host soon occupies almost none of the shared slots. When a host asks
for fewer requests, the rate is halved, and rises again slowly. Times are numbers that the caller
passes.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from yarl import URL

from pttfaces.config import Download

GIVE_UP_AFTER = 7  # failures of the host in a row; about half a minute when it refuses at once
DEAD_AFTER = 5  # the same of a host that never gave any answer; about 7 seconds
_INITIAL = 8  # requests at once before a host has answered; half of the limit if that is more
_OPENS_BY = 16  # and so many more with every answer
_SPEED_UP = 1 / 200  # of the full rate, with every answer after a host asked for fewer
_MAX_SLOWDOWN = 64  # the slowest rate is the full one divided by this
_CATCH_UP_S = 0.1  # timers are coarse: starts that are late by less than this are made up for
_PAUSE_S, _THROTTLED_S, _MAX_PAUSE_S = 0.25, 5.0, 300.0


@dataclass(order=True, slots=True)
class Request:
    """The next request for a link. url: its address after `redirects` from `start`."""

    ready_at: float
    number: int
    link: str = field(compare=False)
    start: URL = field(compare=False)
    url: URL = field(compare=False)
    attempt: int = field(compare=False, default=1)
    redirects: int = field(compare=False, default=0)


class HostQueue:
    """The requests that wait for one host.

    running: its requests under way. has_answered: whether it has ever answered, well or badly.
    """

    def __init__(self, options: Download) -> None:
        self.running = 0
        self._max_running, self._full_rate = options.per_host, options.rate_per_host
        self._attempts = options.attempts
        self._rate = self._full_rate  # requests a second
        self._allowed = min(options.per_host, max(_INITIAL, options.per_host // 2))
        self._first: deque[Request] = deque()
        self._later: list[Request] = []
        self._next_start = self._paused_until = self._failed_at = float("-inf")
        self.has_answered = False
        self._failures, self._never_failed = 0, True

    @property
    def silent(self) -> bool:
        """Whether the host never answered, and failed as often in a row as a link is tried."""
        return not self.has_answered and self._failures >= self._attempts

    @property
    def given_up(self) -> bool:
        """Whether the host has failed too often in a row for another request in this run."""
        return self._failures >= (GIVE_UP_AFTER if self.has_answered else DEAD_AFTER)

    @property
    def empty(self) -> bool:
        """Whether no request waits."""
        return not (self._first or self._later)

    def put(self, request: Request) -> None:
        """Queues a link's first request."""
        self._first.append(request)

    def put_later(self, request: Request) -> None:
        """Queues a retry or a redirect for `request.ready_at`, ahead of first requests."""
        heapq.heappush(self._later, request)

    def delay(self, now: float) -> float | None:
        """Seconds until the next request may start; None when something has to change before."""
        if self.running >= self._allowed or self.empty:
            return None
        ready_at = now if self._first else self._later[0].ready_at
        return max(0.0, max(ready_at, self._next_start, self._paused_until) - now)

    def start_next(self, now: float) -> Request:
        """Starts the next request; only when `delay` is 0."""
        self.running += 1
        self._next_start = max(self._next_start, now - _CATCH_UP_S) + 1 / self._rate
        if self._later and self._later[0].ready_at <= now:
            return heapq.heappop(self._later)
        return self._first.popleft()

    def drain(self) -> Iterator[Request]:
        """Takes out all requests that wait."""
        while self._later:
            yield heapq.heappop(self._later)
        while self._first:
            yield self._first.popleft()

    def succeeded(self) -> None:
        """Notes an answer that is about the link, not about the host."""
        self._failures, self.has_answered = 0, True
        step = _OPENS_BY if self._never_failed else 1
        self._allowed = min(self._max_running, self._allowed + step)
        self._rate = min(self._full_rate, self._rate + self._full_rate * _SPEED_UP)

    def failed(self, started: float, now: float, answered: bool) -> None:
        """Notes that the host failed a request that began at `started`. answered: but badly."""
        self.has_answered |= answered
        if self._count_failure(started, now) and self._failures > 1:
            self._pause(now, _PAUSE_S * 2**self._failures)

    def throttled(self, started: float, now: float, retry_after: float | None) -> None:
        """Notes that the host asks for fewer requests: a pause, then half the rate.

        retry_after: its header, in seconds.
        """
        self.has_answered = True
        new = self._count_failure(started, now)
        if new:
            self._rate = max(self._rate / 2, self._full_rate / _MAX_SLOWDOWN)
        if retry_after is not None:
            self._pause(now, retry_after)
        elif new:
            self._pause(now, _THROTTLED_S * 2 ** (self._failures - 1))

    def _count_failure(self, started: float, now: float) -> bool:
        """Counts a failure, unless the request began before the last one: that is the same one."""
        if started <= self._failed_at:
            return False
        self._failures += 1
        self._allowed, self._never_failed = max(1, self._allowed // 2), False
        self._failed_at = now
        return True

    def _pause(self, now: float, seconds: float) -> None:
        self._paused_until = max(self._paused_until, now + min(seconds, _MAX_PAUSE_S))
