"""Requests many addresses at once: fair between sites, within limits, with redirects and retries.

Every request, a redirect's too, waits in the queue of the host that it goes to. The hosts of one
registered domain form a site: they share its rate and its number of requests at once. The sites
share the slots for requests under way.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeAlias

from pttfaces.config import Download
from pttfaces.download.addresses import clean_url
from pttfaces.download.client import Answer, ImageClient
from pttfaces.download.host_queue import Host, Request, Site
from pttfaces.download.result import RejectedError, Result
from pttfaces.http import site_name

# What the run may wait for hosts that are down once no other host has links left: a share of its
# time so far; where no other host answers, it may be our own network: at least some seconds.
_PATIENCE, _MIN_PATIENCE_S = 0.03, 10.0
_LOOK_S = 0.1  # between two looks for other hosts' links
_MAX_REDIRECTS = 8
_BACK_OFF_S, _MAX_BACK_OFF_S = 0.5, 60.0
_QUEUE_BATCH = 100  # links that are queued before answers get their turn
_HOSTS_AT_EASE = 100  # whose connections may all stay open; of more, those to hosts of many links
_DNS_THREADS = 32  # the default of few threads would let dead names block all look-ups

# Takes the result of an address; returns further addresses to request. Addresses whose request was
# never sent, since their host is down, have no result.
OnResult: TypeAlias = Callable[[str, Result], Iterable[str]]


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
        self._open = 0  # how many links are not done
        self._changed = asyncio.Event()  # all are done, or a host that is or was down has answered
        self._ended = False  # by `_give_up`
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
            now, hosts = self._now(), self._hosts.values()
            is_idle = not any(host.links and not host.down for host in hosts)
            patience = _PATIENCE * (now - began)
            if not any(host.answered and not host.down for host in hosts):
                patience = max(patience, _MIN_PATIENCE_S)
            try:
                wait_s = max(0.0, patience - idle_s) if is_idle else _LOOK_S
                await asyncio.wait_for(self._changed.wait(), wait_s)
            except TimeoutError:
                if is_idle:
                    self._give_up()
                    return
            idle_s += (self._now() - now) * is_idle

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
        self._arrange(host)
        self._start()

    def _host(self, name: str) -> Host:
        if name not in self._hosts:
            site = site_name(name)
            if site not in self._sites:
                self._sites[site] = Site(self._options)
            self._hosts[name] = Host(self._sites[site])
        return self._hosts[name]

    def _arrange(self, host: Host) -> None:
        """Makes a host ready, now or when its next request may start."""
        if host.timer:
            host.timer.cancel()
            host.timer = None
        start = host.start_time()
        if start is not None and start > self._now():
            host.timer = self._loop.call_at(start, self._wake, host)
        elif start is not None and not host.is_ready:
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
            self._workers.add(self._tasks.create_task(self._work(*turn)))

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
                # A process may have about a thousand open files, and there may be more hosts.
                links_to_keep = max(1, len(self._hosts) // _HOSTS_AT_EASE)
                keep_alive = host.links > links_to_keep
                answer = await self._client.get(request.url, keep_alive)
            except asyncio.CancelledError:
                if not self._ended:
                    raise
                answer = Answer(Result("timeout", "no response before the end of the run"))
            host.running -= 1
            host.site.running -= 1
            was_down = host.down
            host.judge(request, answer, started, self._now())
            self._finish(request, answer)
            if was_down or host.down:
                self._changed.set()
            self._arrange(host)
            turn = self._next()
            self._start()  # an answer may open its site by one request
        if worker := asyncio.current_task():
            self._workers.discard(worker)

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
                not_before=self._now() + pause * random.uniform(0.5, 1.0),
            )
        else:
            self._end(request.address, result)

    def _redirect(self, request: Request, answer: Answer) -> None:
        result = Result("failed", http_status=answer.result.http_status)
        try:
            url = clean_url(answer.location, str(request.url))
        except RejectedError as error:
            failure = result._replace(status=error.status, error=f"bad redirect: {error}")
            self._end(request.address, _complete(request, failure))
            return
        redirected = replace(request, url=url, redirects=request.redirects + 1)
        if url.name == "removed.png":  # imgur's image in place of one that was taken down
            removed = result._replace(status="removed", error="redirected to removed.png")
            self._end(request.address, _complete(redirected, removed))
        elif request.redirects < _MAX_REDIRECTS:
            unsent = result._replace(error="redirected to a host that does not answer")
            self._queue(replace(redirected, result=_complete(redirected, unsent)))
        else:
            failure = result._replace(error=f"more than {_MAX_REDIRECTS} redirects")
            self._end(request.address, _complete(request, failure))

    def _end(self, address: str, result: Result) -> None:
        for other in self._on_result(address, result):
            self._add(other)
        self._open -= 1
        if not self._open:
            self._changed.set()

    def _give_up(self) -> None:
        """Ends all that waits for hosts that are down. What was never requested gets no result."""
        self._ended = True
        for host in self._hosts.values():
            if host.timer:
                host.timer.cancel()
            for request in host.take_all():
                if request.result:
                    self._end(request.address, request.result)
        for worker in self._workers:  # of hosts that are down, as all that is left
            worker.cancel()


def _complete(request: Request, result: Result) -> Result:
    return result._replace(attempts=request.attempt, final_url=str(request.url))
