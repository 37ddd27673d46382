"""Downloads many links at once: fair between hosts, within the limits, with redirects and retries.

Each host has a queue, and the hosts share the slots for requests under way. Every request, a
redirect's too, waits in the queue of the host that it goes to.
"""

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeAlias

from yarl import URL

from pttfaces.config import Download
from pttfaces.download.addresses import BadUrlError, clean_url
from pttfaces.download.client import Answer
from pttfaces.download.host_queue import HostQueue, Request
from pttfaces.download.result import Result

_MAX_REDIRECTS = 8
_BACK_OFF_S, _MAX_BACK_OFF_S = 0.5, 60.0
_QUEUE_BATCH = 100  # links that are queued before answers get their turn
_DNS_THREADS = 32  # the default of few threads would let dead names block all look-ups


class Fetcher(Protocol):
    """Makes one request and inspects its body: an ImageClient."""

    async def get(self, url: URL) -> Answer: ...

    def inspect(self, answer: Answer, callback: Callable[[Answer | Exception], None]) -> None: ...


OnResults: TypeAlias = Callable[[Sequence[tuple[str, Result]]], None]


async def fetch_all(
    urls: Sequence[str], client: Fetcher, options: Download, on_results: OnResults
) -> None:
    """Downloads distinct URLs; calls `on_results` with those that ended in one turn of the loop.

    An error that is not the network's, such as a full disk, ends all requests and is raised.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_DNS_THREADS, "look-up"))
    try:
        await _Scheduler(client, options, on_results).run(urls)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


class _Scheduler:
    def __init__(self, client: Fetcher, options: Download, on_results: OnResults) -> None:
        self._client, self._options, self._on_results = client, options, on_results
        self._ended: list[tuple[str, Result]] = []  # in this turn of the loop
        self._queues: dict[str, HostQueue] = {}
        self._waiting: dict[HostQueue, None] = {}  # queues that may have requests, in order
        self._idle: list[asyncio.Future[tuple[HostQueue, Request]]] = []  # tasks without one
        self._left = 0
        self._all_queued = False
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, links: Sequence[str]) -> None:
        self._left = len(links)
        if not links:
            return
        try:
            async with asyncio.TaskGroup() as group:
                count = min(self._options.concurrency, self._left)
                tasks = [group.create_task(self._work()) for _ in range(count)]
                await self._queue_all(links)
                await self._finished
                for task in tasks:
                    task.cancel()
        finally:
            if self._timer:
                self._timer.cancel()

    async def _queue_all(self, links: Iterable[str]) -> None:
        """Puts every link in its host's queue; the first start before the last is queued."""
        for number, link in enumerate(links):
            try:
                start = clean_url(link)
            except BadUrlError as error:
                self._add_result(link, Result(error.status, str(error), final_url=link))
                continue
            self._queue_of(start).put(Request(0.0, number, link, start, start))
            if number % _QUEUE_BATCH == _QUEUE_BATCH - 1:
                self._wake()
                await asyncio.sleep(0)
        self._all_queued = True
        self._wake()

    def _queue_of(self, url: URL) -> HostQueue:
        """The queue of the URL's host, which is about to get a request."""
        host = url.host or ""
        if host not in self._queues:
            self._queues[host] = HostQueue(self._options)
        queue = self._queues[host]
        self._waiting[queue] = None
        return queue

    def _next(self) -> tuple[HostQueue, Request] | None:
        """The request to start now, for the host that has the fewest under way.

        None when no host may get one; then the timer is set for the first that may again.
        """
        now, wait = self._now(), math.inf
        chosen: HostQueue | None = None
        for queue in self._waiting:
            delay = queue.delay(now)
            if delay == 0:
                if chosen is None or queue.running < chosen.running:
                    chosen = queue
            elif delay is not None:
                wait = min(wait, delay)
        if chosen is None:
            if self._timer:
                self._timer.cancel()
            if self._only_silent():
                for queue in list(self._waiting):
                    self._give_up(queue)
                return None
            self._timer = self._loop.call_later(wait, self._wake) if wait < math.inf else None
            return None
        request = chosen.start_next(now)
        if chosen.empty:
            del self._waiting[chosen]
        return chosen, request

    def _only_silent(self) -> bool:
        """Whether all that is left is for hosts that do not answer, though others did.

        While others have work, patience costs nothing; after it each pause would be the run's.
        """
        return (
            self._all_queued
            and all(queue.silent for queue in self._waiting)
            and all(queue.silent for queue in self._queues.values() if queue.running)
            and any(queue.has_answered for queue in self._queues.values())
        )

    def _wake(self) -> None:
        """Gives idle tasks the requests that may start."""
        while self._idle and (turn := self._next()):
            future = self._idle.pop()
            if not future.cancelled():
                future.set_result(turn)

    async def _work(self) -> None:
        """One of the requests under way at once: one after the other."""
        while True:
            turn = self._next()
            if turn is None:
                self._idle.append(self._loop.create_future())
                turn = await self._idle[-1]
            queue, request = turn
            started = self._now()
            answer = await self._client.get(request.url)
            queue.running -= 1
            if answer.throttled:
                queue.throttled(started, self._now(), answer.retry_after)
            elif answer.host_failed:
                queue.failed(started, self._now(), answered=answer.http_status is not None)
            else:
                queue.succeeded()
            if answer.body:
                self._client.inspect(answer, partial(self._inspected, request))
            else:
                self._handle(request, answer)
            if queue.given_up:
                self._give_up(queue)
            self._wake()

    def _inspected(self, request: Request, answer: Answer | Exception) -> None:
        """Handles an inspected body; also while all is ending, so that no stored image lacks its
        result."""
        try:
            if isinstance(answer, Exception):
                raise answer
            self._handle(request, answer)
            self._wake()
        except Exception as error:  # the disk's, most likely
            self._fail(error)

    def _handle(self, request: Request, answer: Answer) -> None:
        if answer.status == "redirect":
            self._redirect(request, answer)
        elif answer.retry and request.attempt < self._options.attempts:
            pause = min(_BACK_OFF_S * 2 ** (request.attempt - 1), _MAX_BACK_OFF_S)
            ready_at = self._now() + pause * random.uniform(0.5, 1.5)
            start, attempt = request.start, request.attempt + 1
            retry = Request(ready_at, request.number, request.link, start, start, attempt)
            self._queue_of(start).put_later(retry)
        else:
            self._end(request, answer)

    def _redirect(self, request: Request, answer: Answer) -> None:
        code = answer.http_status
        try:
            # Joined before it is cleaned, since `//host/x` has the scheme of the redirect.
            url = clean_url(str(request.url.join(URL(answer.location))))
        except (BadUrlError, ValueError) as error:
            refused = isinstance(error, BadUrlError) and error.status == "refused_address"
            status = "refused_address" if refused else "failed"
            reason = str(error) if isinstance(error, BadUrlError) else "not a URL"
            self._end(request, Answer(status, f"redirected to {reason}", code))
            return
        redirected = Request(
            self._now(),
            request.number,
            request.link,
            request.start,
            url,
            request.attempt,
            request.redirects + 1,
        )
        if url.name == "removed.png":  # imgur's image in place of one that was taken down
            self._end(redirected, Answer("removed", "redirected to removed.png", code))
        elif redirected.redirects > _MAX_REDIRECTS:
            self._end(request, Answer("failed", f"more than {_MAX_REDIRECTS} redirects", code))
        else:
            self._queue_of(url).put_later(redirected)

    def _give_up(self, queue: HostQueue) -> None:
        self._waiting.pop(queue, None)
        for request in queue.drain():
            message = "its host failed time after time and was left alone"
            result = Result("failed", message, request.attempt - 1, None, str(request.url))
            self._add_result(request.link, result)

    def _end(self, request: Request, answer: Answer) -> None:
        result = Result(
            answer.status,
            answer.error,
            request.attempt,
            answer.http_status,
            str(request.url),
            answer.image,
            answer.min_bytes,
        )
        self._add_result(request.link, result)

    def _add_result(self, link: str, result: Result) -> None:
        if not self._ended:
            self._loop.call_soon(self._report)
        self._ended.append((link, result))

    def _report(self) -> None:
        """Passes on all results of this turn together, since a write for each would cost more."""
        ended, self._ended = self._ended, []
        try:
            self._on_results(ended)
        except Exception as error:
            self._fail(error)
        self._left -= len(ended)
        if not self._left and not self._finished.done():
            self._finished.set_result(None)

    def _fail(self, error: Exception) -> None:
        """Ends the run with an error."""
        if not self._finished.done():
            self._finished.set_exception(error)
