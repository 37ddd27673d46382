"""Many links at once: fair between hosts, within the limits, with redirects and further tries.

Each host has a lane, and the lanes share the slots for requests under way. Every request, a
redirect's too, waits in the lane of the host that it goes to. Knows nothing of files.
"""

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeAlias

from yarl import URL

from pttfaces.download.addresses import BadUrlError, clean_url
from pttfaces.download.client import Answer
from pttfaces.download.host_queue import Job, Lane
from pttfaces.download.result import Limits, Outcome

_MOST_HOPS = 8
_BACK_OFF_S, _LONGEST_S = 0.5, 60.0
_AT_A_TIME = 100  # links that are queued between two looks at what has come
_LOOKUPS = 32  # names looked up at once; the default of few threads would let dead ones block all


class Getter(Protocol):
    """What makes one request and looks at its body: a Client."""

    async def get(self, url: URL) -> Answer: ...

    def look(self, answer: Answer, done: Callable[[Answer | Exception], None]) -> None: ...


Settle: TypeAlias = Callable[[Sequence[tuple[str, Outcome]]], None]


async def fetch_all(urls: Iterable[str], client: Getter, limits: Limits, settle: Settle) -> None:
    """Fetches distinct URLs; calls `settle` with those that have ended in one turn of the loop.

    An error that is not the network's, such as a full disk, ends the whole at once and is raised.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_LOOKUPS, "look-up"))
    try:
        await _Fetching(client, limits, settle).run(urls)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


class _Fetching:
    def __init__(self, client: Getter, limits: Limits, settle: Settle) -> None:
        self._client, self._limits, self._tell = client, limits, settle
        self._ended: list[tuple[str, Outcome]] = []  # in this turn of the loop
        self._lanes: dict[str, Lane] = {}
        self._waiting: dict[Lane, None] = {}  # the lanes that may have jobs, in a set's stead
        self._idle: list[asyncio.Future[tuple[Lane, Job]]] = []  # workers without one
        self._left = 0
        self._queued = False  # whether every link is in its lane
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._alarm: asyncio.TimerHandle | None = None

    async def run(self, urls: Iterable[str]) -> None:
        links = list(urls)
        self._left = len(links)
        if not links:
            return
        try:
            async with asyncio.TaskGroup() as group:
                count = min(self._limits.concurrency, self._left)
                workers = [group.create_task(self._work()) for _ in range(count)]
                await self._queue(links)
                await self._finished
                for worker in workers:
                    worker.cancel()
        finally:
            if self._alarm:
                self._alarm.cancel()

    async def _queue(self, links: Sequence[str]) -> None:
        """Puts every link in its host's lane; the first are under way before the last is there."""
        for number, link in enumerate(links):
            try:
                start = clean_url(link)
            except BadUrlError as error:
                self._settle(link, Outcome(error.status, str(error), final_url=link))
                continue
            self._lane(start).put(Job(0.0, number, link, start, start))
            if number % _AT_A_TIME == _AT_A_TIME - 1:
                self._wake()
                await asyncio.sleep(0)
        self._queued = True
        self._wake()

    def _lane(self, url: URL) -> Lane:
        """The lane of the URL's host, which is about to get a job."""
        host = url.host or ""
        if host not in self._lanes:
            self._lanes[host] = Lane(self._limits)
        lane = self._lanes[host]
        self._waiting[lane] = None
        return lane

    def _next(self) -> tuple[Lane, Job] | None:
        """The job to start now, of the host that has the fewest under way; None when all rest or
        have enough, and then the alarm is set for the first that may go on."""
        now, wait = self._now(), math.inf
        chosen: Lane | None = None
        for lane in self._waiting:
            delay = lane.delay(now)
            if delay == 0:
                if chosen is None or lane.running < chosen.running:
                    chosen = lane
            elif delay is not None:
                wait = min(wait, delay)
        if chosen is None:
            if self._alarm:
                self._alarm.cancel()
            if self._only_silent():
                for lane in list(self._waiting):
                    self._abandon(lane)
                return None
            self._alarm = self._loop.call_later(wait, self._wake) if wait < math.inf else None
            return None
        job = chosen.take(now)
        if chosen.empty:
            del self._waiting[chosen]
        return chosen, job

    def _only_silent(self) -> bool:
        """Whether all that is left is for hosts that do not answer, though others did.

        While others have work, patience costs nothing; after it each pause would be the run's.
        """
        return (
            self._queued
            and all(lane.silent for lane in self._waiting)
            and all(lane.silent for lane in self._lanes.values() if lane.running)
            and any(lane.heard for lane in self._lanes.values())
        )

    def _wake(self) -> None:
        """Gives idle workers what may start."""
        while self._idle and (turn := self._next()):
            worker = self._idle.pop()
            if not worker.cancelled():
                worker.set_result(turn)

    async def _work(self) -> None:
        """One of the requests under way at once: one job after the other."""
        while True:
            turn = self._next()
            if turn is None:
                self._idle.append(self._loop.create_future())
                turn = await self._idle[-1]
            lane, job = turn
            started = self._now()
            answer = await self._client.get(job.at)
            lane.running -= 1
            if answer.throttled:
                lane.throttled(started, self._now(), answer.wait)
            elif answer.host_failed:
                lane.failed(started, self._now(), heard=answer.http_status is not None)
            else:
                lane.served()
            if answer.body:
                self._client.look(answer, partial(self._looked, job))
            else:
                self._go_on(job, answer)
            if lane.given_up:
                self._abandon(lane)
            self._wake()

    def _looked(self, job: Job, answer: Answer | Exception) -> None:
        """Goes on when a body has been looked at; also when all is ending, so that what was stored
        is not forgotten."""
        try:
            if isinstance(answer, Exception):
                raise answer
            self._go_on(job, answer)
            self._wake()
        except Exception as error:  # the disk's, most likely
            self._fail(error)

    def _go_on(self, job: Job, answer: Answer) -> None:
        if answer.status == "redirect":
            self._hop(job, answer)
        elif answer.again and job.attempt < self._limits.attempts:
            pause = min(_BACK_OFF_S * 2 ** (job.attempt - 1), _LONGEST_S)
            ready = self._now() + pause * random.uniform(0.5, 1.5)
            again = Job(ready, job.number, job.link, job.start, job.start, job.attempt + 1)
            self._lane(job.start).put_again(again)
        else:
            self._end(job, answer)

    def _hop(self, job: Job, answer: Answer) -> None:
        try:
            # Joined before it is cleaned: what is posted as `//host/x` is of the redirect's scheme.
            at = clean_url(str(job.at.join(URL(answer.to))))
        except (BadUrlError, ValueError) as error:
            refused = isinstance(error, BadUrlError) and error.status == "refused_address"
            status = "refused_address" if refused else "failed"
            reason = str(error) if isinstance(error, BadUrlError) else "not a URL"
            self._end(job, Answer(status, f"redirected to {reason}", answer.http_status))
            return
        hop = Job(self._now(), job.number, job.link, job.start, at, job.attempt, job.hops + 1)
        if at.name == "removed.png":  # imgur's picture in place of one that was taken down
            self._end(hop, Answer("removed", "redirected to removed.png", answer.http_status))
        elif hop.hops > _MOST_HOPS:
            sentence = f"more than {_MOST_HOPS} redirects"
            self._end(job, Answer("failed", sentence, answer.http_status))
        else:
            self._lane(at).put_again(hop)

    def _abandon(self, lane: Lane) -> None:
        self._waiting.pop(lane, None)
        for job in lane.drain():
            sentence = "its host failed time after time and was left alone"
            outcome = Outcome("failed", sentence, job.attempt - 1, None, str(job.at))
            self._settle(job.link, outcome)

    def _end(self, job: Job, answer: Answer) -> None:
        outcome = Outcome(
            answer.status,
            answer.error,
            job.attempt,
            answer.http_status,
            str(job.at),
            answer.picture,
            answer.at_least,
        )
        self._settle(job.link, outcome)

    def _settle(self, link: str, outcome: Outcome) -> None:
        if not self._ended:
            self._loop.call_soon(self._tell_ended)
        self._ended.append((link, outcome))

    def _tell_ended(self) -> None:
        """Tells what has ended in this turn at once, since a write for each would cost more."""
        ended, self._ended = self._ended, []
        try:
            self._tell(ended)
        except Exception as error:
            self._fail(error)
        self._left -= len(ended)
        if not self._left and not self._finished.done():
            self._finished.set_result(None)

    def _fail(self, error: Exception) -> None:
        """Ends the whole with an error."""
        if not self._finished.done():
            self._finished.set_exception(error)
