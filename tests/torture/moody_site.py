"""The demo site behind a proxy that can go down, answer slowly, or answer 500, by its mood."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Literal

import aiohttp
from aiohttp import web
from yarl import URL

from pttfaces.demo.board import DemoBoard
from pttfaces.demo.site import serve
from pttfaces.http import LOOPBACK

Mood = Literal["well", "down", "slow", "busy"]

_HOP_BY_HOP = {"transfer-encoding", "connection", "content-length", "keep-alive"}
_SLOW_S = 1.5


class MoodySite:
    """Forwards requests to a demo site. port: on loopback; mood: how it answers from now on."""

    def __init__(self, demo_port: int) -> None:
        self.mood: Mood = "well"
        self.port = 0
        self._demo_port = demo_port

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.mood == "down":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.mood == "busy":
            return web.Response(status=500, text="500 - Internal Server Error / Server Too Busy.")
        if self.mood == "slow":
            await asyncio.sleep(_SLOW_S)
        session: aiohttp.ClientSession = request.app["session"]
        url = f"http://{LOOPBACK}:{self._demo_port}{request.raw_path}"
        async with session.request(
            request.method,
            URL(url, encoded=True),
            headers=request.headers,
            data=await request.read(),
            allow_redirects=False,
        ) as response:
            headers = [(k, v) for k, v in response.headers.items() if k.lower() not in _HOP_BY_HOP]
            return web.Response(status=response.status, headers=headers, body=await response.read())


@contextmanager
def moody_site(board: DemoBoard) -> Iterator[MoodySite]:
    """A site in a good mood, served from threads of this process until the block ends."""
    with serve([board]) as demo_port:
        site = MoodySite(demo_port)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="moody site", daemon=True)
        thread.start()
        runner = asyncio.run_coroutine_threadsafe(_start(site), loop).result()
        try:
            yield site
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


async def _start(site: MoodySite) -> web.AppRunner:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", site.answer)

    async def session(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as opened:
            app["session"] = opened
            yield

    application.cleanup_ctx.append(session)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    site.port = int(runner.addresses[0][1])
    return runner
