"""A small HTTP server on loopback that misbehaves on purpose, and the images that it serves."""

import asyncio
import io
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from PIL import Image

from pttfaces.config import Download
from pttfaces.http import LOOPBACK_VARIABLE, LoopbackHosts

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "AVIF": "avif"}


def image_bytes(kind: str, seed: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """A small image of noise, in a format's Pillow name."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def options(**changes: Any) -> Download:
    """The `download` group for tests: generous rates, short times."""
    values: dict[str, Any] = {
        "concurrency": 16,
        "per_host": 8,
        "rate_per_host": 10000,
        "attempts": 2,
        "timeout_s": 3,
        "max_mib": 1,
        "max_megapixels": 10,
        "keep_truncated": False,
        "placeholders": [],
        "allow_networks": [],
    }
    return Download(**{**values, **changes})


@dataclass
class Request:
    """What came in, and where the answer goes."""

    path: str
    headers: dict[str, str]
    number: int  # how often this host and path was asked for, from 1
    writer: asyncio.StreamWriter

    async def send(self, *pieces: bytes) -> None:
        """Writes raw bytes."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        """A proper answer; header names with `_` for `-`."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {code} Some Reason\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
        await self.send(head.encode() + body)

    def reset(self) -> None:
        """Ends the connection with a TCP reset."""
        self.writer.transport.abort()


Handler = Callable[[Request], Awaitable[None]]


@dataclass
class Site:
    """The server, in a thread of its own; `routes` maps a host name to what answers for it."""

    routes: Mapping[str, Handler]
    asked: Counter[str] = field(default_factory=Counter)  # "host/path" → requests
    times: dict[str, list[float]] = field(default_factory=dict)  # host → when
    seen: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def hosts(self) -> LoopbackHosts:
        """All hosts of the site."""
        return LoopbackHosts(dict.fromkeys(self.routes, self.port))

    @property
    def environment(self) -> dict[str, str]:
        """Leads the stages to the site for all its hosts."""
        return {LOOPBACK_VARIABLE: ",".join(f"{host}={self.port}" for host in self.routes)}

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda *_: None)  # clients that leave are no news
        self._loop.run_until_complete(self._run(started))
        self._loop.close()

    async def _run(self, started: threading.Event) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=500)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines)
                    if name
                }
                host, path = headers["host"].partition(":")[0], first.split(" ")[1]
                self.asked[host + path] += 1
                self.times.setdefault(host, []).append(time.monotonic())
                request = Request(path, headers, self.asked[host + path], writer)
                self.seen.append(request)
                await self.routes[host](request)
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
