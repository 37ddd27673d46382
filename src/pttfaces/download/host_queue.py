"""One host's queue: how many requests at once, how often, and when to leave the host alone.

A lane starts half open, or with eight if that is more, and opens with every answer, up to the
limit: wide at first, one at a time when the host has failed before. It halves with every failure of
the host, so that a dead host soon holds next to nothing of what the others share. Where the host
asks for fewer requests, they come at half the rate from then on, and slowly faster again. It knows
the time only as numbers given to it, and nothing of HTTP.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from yarl import URL

from pttfaces.download.result import Limits

GIVE_UP_AFTER = 7  # failures of the host in a row; about half a minute when it refuses at once
DEAD_AFTER = 5  # the same of a host that never gave any answer; about 7 seconds
_FIRST = 8  # requests at once before a host has shown what it bears; half of the limit if more
_OPENS_BY = 16  # and so many more with every answer
_FASTER = 1 / 200  # of the full rate, with every answer after a host asked for fewer
_SLOWEST = 64  # at its slowest a host gets the full rate divided by this
_CATCH_UP_S = 0.1  # sleeping is coarse: starts that are late by less than this are made up for
_PAUSE_S, _THROTTLED_S, _LONGEST_S = 0.25, 5.0, 300.0


@dataclass(order=True, slots=True)
class Job:
    """A link on its way: `at` is the address of the next request, after `hops` redirects."""

    ready: float
    number: int
    link: str = field(compare=False)
    start: URL = field(compare=False)
    at: URL = field(compare=False)
    attempt: int = field(compare=False, default=1)
    hops: int = field(compare=False, default=0)


class Lane:
    """The jobs that wait for one host.

    running: its requests under way. heard: whether it has ever answered, well or badly.
    """

    def __init__(self, limits: Limits) -> None:
        self.running = 0
        self._most, self._fastest = limits.per_host, limits.rate_per_host
        self._tries = limits.attempts
        self._rate = self._fastest  # requests a second
        self._allowed = min(limits.per_host, max(_FIRST, limits.per_host // 2))
        self._fresh: deque[Job] = deque()
        self._later: list[Job] = []
        self._next = self._rest_until = self._failed_at = float("-inf")
        self.heard = False
        self._failures, self._sound = 0, True  # sound: it has never failed

    @property
    def silent(self) -> bool:
        """Whether the host never answered, and failed as often in a row as a link is tried."""
        return not self.heard and self._failures >= self._tries

    @property
    def given_up(self) -> bool:
        """Whether the host has failed too often in a row to be asked further in this run."""
        return self._failures >= (GIVE_UP_AFTER if self.heard else DEAD_AFTER)

    @property
    def empty(self) -> bool:
        """Whether no job waits."""
        return not (self._fresh or self._later)

    def put(self, job: Job) -> None:
        """Queues a first request."""
        self._fresh.append(job)

    def put_again(self, job: Job) -> None:
        """Queues a request for `job.ready`, ahead of first ones."""
        heapq.heappush(self._later, job)

    def delay(self, now: float) -> float | None:
        """Seconds until the next job may start; None when something has to change before."""
        if self.running >= self._allowed or self.empty:
            return None
        ready = now if self._fresh else self._later[0].ready
        return max(0.0, max(ready, self._next, self._rest_until) - now)

    def take(self, now: float) -> Job:
        """Starts the next job; only when `delay` is 0."""
        self.running += 1
        self._next = max(self._next, now - _CATCH_UP_S) + 1 / self._rate
        if self._later and self._later[0].ready <= now:
            return heapq.heappop(self._later)
        return self._fresh.popleft()

    def drain(self) -> Iterator[Job]:
        """Takes out all jobs that wait."""
        while self._later:
            yield heapq.heappop(self._later)
        while self._fresh:
            yield self._fresh.popleft()

    def served(self) -> None:
        """The host gave an answer that is about the link, not about the host."""
        self._failures, self.heard = 0, True
        self._allowed = min(self._most, self._allowed + (_OPENS_BY if self._sound else 1))
        self._rate = min(self._fastest, self._rate + self._fastest * _FASTER)

    def failed(self, started: float, now: float, heard: bool) -> None:
        """The host did not answer well to a request that began at `started`; heard: but it did."""
        self.heard |= heard
        if self._is_new(started, now) and self._failures > 1:
            self._rest(now, _PAUSE_S * 2**self._failures)

    def throttled(self, started: float, now: float, wait: float | None) -> None:
        """The host asks for fewer requests: all its links rest, and then come at half the rate.

        wait: its Retry-After, seconds.
        """
        self.heard = True
        new = self._is_new(started, now)
        if new:
            self._rate = max(self._rate / 2, self._fastest / _SLOWEST)
        if wait is not None:
            self._rest(now, wait)
        elif new:
            self._rest(now, _THROTTLED_S * 2 ** (self._failures - 1))

    def _is_new(self, started: float, now: float) -> bool:
        """Counts a failure, unless the request was under way at the last: that is the same one."""
        if started <= self._failed_at:
            return False
        self._failures += 1
        self._allowed, self._sound = max(1, self._allowed // 2), False
        self._failed_at = now
        return True

    def _rest(self, now: float, seconds: float) -> None:
        self._rest_until = max(self._rest_until, now + min(seconds, _LONGEST_S))
