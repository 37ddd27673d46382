"""Many links at once: fair between hosts, within the limits, with redirects and further tries.

Each host has a lane with one driver, and the lanes share the slots for requests under way. Every
request, a redirect's too, waits in the lane of the host that it goes to. Knows nothing of files.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from yarl import URL

from pttfaces.images.addresses import BadUrlError, clean_url
from pttfaces.images.client import Answer
from pttfaces.images.lane import GIVE_UP_AFTER, Job, Lane
from pttfaces.images.outcome import Limits, Outcome

_MOST_HOPS = 8
_BACK_OFF_S, _LONGEST_S = 0.5, 60.0
_LOOKUPS = 32  # names looked up at once; the default of few threads would let dead ones block all


class Getter(Protocol):
    """What makes one request: a Client."""

    async def get(self, url: URL) -> Answer: ...


async def fetch_all(
    urls: Iterable[str], client: Getter, limits: Limits, settle: Callable[[str, Outcome], None]
) -> None:
    """Fetches distinct URLs; calls `settle` once for each, as it ends.

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


class _Slots:
    """The requests under way at once; a free slot goes to the host that holds the fewest."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[Lane, asyncio.Future[None]]] = []

    async def take(self, lane: Lane) -> None:
        if self._free:
            self._free -= 1
            await asyncio.sleep(0)  # or the first host would take all before the others are asked
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((lane, turn))
            await turn

    def give(self) -> None:
        while self._waiting:
            chosen = min(self._waiting, key=lambda waiting: waiting[0].running)
            self._waiting.remove(chosen)
            if not chosen[1].done():  # else it was cancelled
                chosen[1].set_result(None)
                return
        self._free += 1


class _Fetching:
    def __init__(
        self, client: Getter, limits: Limits, settle: Callable[[str, Outcome], None]
    ) -> None:
        self._client, self._limits, self._tell = client, limits, settle
        self._slots = _Slots(limits.concurrency)
        self._lanes: dict[str, Lane] = {}
        self._drivers: list[asyncio.Task[None]] = []
        self._left, self._number = 0, 0
        self._finished = asyncio.Event()
        self._now = asyncio.get_running_loop().time

    async def run(self, urls: Iterable[str]) -> None:
        links = list(urls)
        self._left = len(links)
        async with asyncio.TaskGroup() as self._tasks:
            for link in links:
                try:
                    start = clean_url(link)
                except BadUrlError as error:
                    self._settle(link, Outcome(error.status, str(error), final_url=link))
                    continue
                self._number += 1
                self._lane(start).put(Job(0.0, self._number, link, start, start))
            if self._left:
                await self._finished.wait()
            for driver in self._drivers:
                driver.cancel()

    def _lane(self, url: URL) -> Lane:
        host = url.host or ""
        if host not in self._lanes:
            lane = self._lanes[host] = Lane(self._limits)
            self._drivers.append(self._tasks.create_task(self._drive(lane)))
        return self._lanes[host]

    async def _drive(self, lane: Lane) -> None:
        """Starts a host's jobs, one after the other, when the host and the common slots allow."""
        while True:
            await self._may_start(lane)
            await self._slots.take(lane)
            if lane.delay(self._now()) == 0:
                self._tasks.create_task(self._work(lane, lane.take(self._now())))
            else:  # the host has failed while its turn was coming
                self._slots.give()

    async def _may_start(self, lane: Lane) -> None:
        while (delay := lane.delay(self._now())) != 0:
            lane.changed.clear()
            try:
                async with asyncio.timeout(delay):
                    await lane.changed.wait()
            except TimeoutError:
                pass

    async def _work(self, lane: Lane, job: Job) -> None:
        started = self._now()
        try:
            answer = await self._client.get(job.at)
        finally:
            lane.running -= 1
            self._slots.give()
        if answer.throttled:
            lane.throttled(started, self._now(), answer.wait)
        elif answer.host_failed:
            lane.failed(started, self._now())
        else:
            lane.served()
        self._go_on(job, answer)
        if lane.given_up:
            self._abandon(lane)
        lane.changed.set()

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
        for job in lane.drain():
            sentence = f"its host failed {GIVE_UP_AFTER} times in a row and was left alone"
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
        self._tell(link, outcome)
        self._left -= 1
        if not self._left:
            self._finished.set()
