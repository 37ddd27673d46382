"""Serves the demo board on loopback: a site that behaves like ptt.cc and the image hosts it links.

It answers under made-up host names, which `LoopbackHosts` maps to its port. Images are drawn on
request, in worker threads.
"""

import asyncio
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote, urlsplit

from aiohttp import web

from pttfaces.demo import pages
from pttfaces.demo.board import (
    BOARD_HOST,
    IMAGE_HOSTS,
    DemoBoard,
    DemoImage,
    board_seed,
    image_key,
    make_board,
)
from pttfaces.errors import SiteError
from pttfaces.http import LOOPBACK

if TYPE_CHECKING:
    from pttfaces.config import Params

Draw: TypeAlias = Callable[[DemoImage, int], bytes]

HOSTS = (BOARD_HOST, *IMAGE_HOSTS, "cache.ptt.test")
# The demo's hosts, under the reserved top-level domain .test → the real ones that they imitate.
HOST_ALIASES = {
    "i.imgur.test": "i.imgur.com",
    "imgur.test": "imgur.com",
    "m.imgur.test": "m.imgur.com",
    "pbs.twimg.test": "pbs.twimg.com",
    "i.meee.test": "i.meee.com.tw",
    "meee.test": "meee.com.tw",
    "d.img.test": "d.img.vision",
    "i.ibb.test": "i.ibb.co",
}

_ROBOTS = "User-agent: *\nDisallow: /poll/\nDisallow: /v1/\n"
_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}
_WITH_HOST = re.compile(r"/@([^/]+)(/.*|$)")  # a made-up host in a browser: /@host/path
_ATTRIBUTE = re.compile(
    rf'((?:href|src|action)=")(?:https?:)?//({"|".join(map(re.escape, HOSTS))})(?=[/"])',
    re.IGNORECASE,
)


@contextmanager
def serve_params(params: "Params", port: int = 0) -> Iterator[int]:
    """As `serve`, for the boards that params.yaml describes."""
    demo, board = params.demo, params.board
    boards = [
        make_board(board_seed(demo.seed, name), demo.articles, name, *board.years)
        for name in board.names
    ]
    with serve(boards, port) as served:
        yield served


@contextmanager
def serve(boards: Sequence[DemoBoard], port: int = 0, draw: Draw | None = None) -> Iterator[int]:
    """Serves boards on 127.0.0.1 from a thread of its own; yields the port, a free one for 0.

    The boards may change while they are served. draw: makes an image's file from the image and the
    board's seed, by default the demo's drawing. SiteError: the port is in use.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="demo site", daemon=True)
    thread.start()
    drawing = ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="drawing")
    runner = web.AppRunner(
        _Site(boards, drawing, draw or _image_bytes).application(),
        access_log=None,
        shutdown_timeout=0.5,
    )
    try:
        yield asyncio.run_coroutine_threadsafe(_start(runner, port), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        drawing.shutdown(cancel_futures=True)


async def _start(runner: web.AppRunner, port: int) -> int:
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise SiteError(
            f"port {port} of {LOOPBACK} cannot be used ({why}); choose another, or 0 for any free "
            "one."
        ) from None
    return int(runner.addresses[0][1])


class _Site:
    def __init__(
        self, boards: Sequence[DemoBoard], drawing: ThreadPoolExecutor, draw: Draw
    ) -> None:
        self._boards = {board.name: board for board in boards}
        self._draw = draw
        self._drawing = drawing
        self._busy_requests: Counter[str] = Counter()  # by key of the image

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        host, path = (request.host or "").rsplit(":", 1)[0].lower(), request.path
        in_browser = host in (LOOPBACK, "localhost")
        if in_browser:
            match = _WITH_HOST.fullmatch(path)
            host, path = (match[1].lower(), match[2] or "/") if match else (BOARD_HOST, path)
        if host == BOARD_HOST:
            response = await self._board_page(request, path)
        else:
            response = await self._image_host(request, host, path, in_browser)
        return _for_browser(response) if in_browser else response

    async def _board_page(self, request: web.Request, path: str) -> web.Response:
        if path == "/robots.txt":
            return web.Response(text=_ROBOTS)
        if path == "/ask/over18":
            return await self._age_question(request)
        if path in ("/", "/bbs", "/bbs/", "/bbs/index.html"):
            return _page(pages.board_list_page(list(self._boards)))
        if path.startswith("/bbs/") and request.cookies.get("over18") != "1":
            return _redirect(f"/ask/over18?from={quote(path, safe='')}")
        match = re.fullmatch(r"/bbs/([\w-]+)/(?:index(\d{0,7})|([\w.]+))\.html", path)
        if match and (board := self._boards.get(match[1])):
            if match[2] is None:
                post = next((p for p in (*board.posts, *board.pinned) if p.id == match[3]), None)
                if post and post.page not in ("gone", "deleted"):
                    return _page(pages.article_page(board, post))
            else:
                last = pages.page_count(board)
                number = int(match[2]) if match[2] else last
                if 1 <= number <= last:
                    return _page(pages.index_page(board, number))
        return _page(pages.not_found_page(), 404)

    async def _age_question(self, request: web.Request) -> web.Response:
        if request.method != "POST":
            return _page(pages.age_page(request.query.get("from", "/")))
        form = await request.post()
        target = str(form.get("from", "/"))
        if form.get("yes") != "yes" or not target.startswith("/") or target.startswith("//"):
            return _redirect("/")
        response = _redirect(target)
        response.set_cookie("over18", "1", path="/")
        return response

    async def _image_host(
        self, request: web.Request, host: str, path: str, in_browser: bool
    ) -> web.Response:
        if host == "i.imgur.test" and path == "/removed.png":
            return await self._file(self._placeholder, "image/png")
        if host in ("imgur.test", "m.imgur.test") and re.match(r"/(a|gallery)/", path):
            name = path.rpartition("/")[2]
            return _page(pages.album_page(name, self._album(name)))
        if host == "api.imgur.test":
            return self._api(request, path)
        if host == "cache.ptt.test":
            copied = re.fullmatch(r"/c/https/(.+)/300x300\.jpg", path)
            return await self._serve_image(f"//{copied[1]}" if copied else "", small=True)
        referer = urlsplit(request.headers.get("Referer", "")).hostname or host
        if host.endswith("imgur.test") and not referer.endswith("imgur.test") and not in_browser:
            return web.Response(status=403, text="no hotlinking")
        small = host == "pbs.twimg.test" and request.query.get("name") != "orig"
        return await self._serve_image(f"//{host}{path}", small)

    def _album(self, name: str) -> tuple[str, ...] | None:
        """The addresses of an album's images; None if no board has it."""
        albums = (board.albums.get(name) for board in self._boards.values())
        return next((album for album in albums if album is not None), None)

    def _api(self, request: web.Request, path: str) -> web.Response:
        """Albums of imgur's API, version 3, for requests with a client id."""
        album = re.fullmatch(r"/3/(?:album/(\w+)/images|gallery/album/(\w+))", path)
        if not request.headers.get("Authorization", "").startswith("Client-ID "):
            return web.json_response({"data": {"error": "Invalid client_id"}}, status=403)
        addresses = self._album((album[1] or album[2]) if album else "")
        if not album or addresses is None:
            return web.json_response({"data": {"error": "not found"}}, status=404)
        images = [{"link": address} for address in addresses]
        return web.json_response({"data": images if album[1] else {"images": images}})

    async def _serve_image(self, address: str, small: bool) -> web.Response:
        key = image_key(f"https:{address}")
        board = next((board for board in self._boards.values() if key in board.images), None)
        image = board.images[key] if board else None
        if board is None or image is None or image.answer == "missing":
            return web.Response(status=404, text="404 Not Found")
        if image.answer == "removed":
            return _redirect("https://i.imgur.test/removed.png")
        if image.answer.startswith("busy"):
            self._busy_requests[key] += 1
            if self._busy_requests[key] == 1:
                status = int(image.answer.split()[1])
                return web.Response(status=status, headers={"Retry-After": "1"}, text="busy")
        seed = board.seed
        return await self._file(lambda: self._content(image, seed, small), _TYPES[image.format])

    async def _file(self, make: Callable[[], bytes], content_type: str) -> web.Response:
        content = await asyncio.get_running_loop().run_in_executor(self._drawing, make)
        return web.Response(body=content, content_type=content_type)

    def _content(self, image: DemoImage, seed: int, small: bool) -> bytes:
        content = self._draw(image, seed)
        if not small or image.answer in ("html", "truncated"):
            return content
        from pttfaces.demo import encode

        return encode.small_copy(content)

    def _placeholder(self) -> bytes:
        from pttfaces.demo import encode

        return encode.removed_placeholder()


def _image_bytes(image: DemoImage, seed: int) -> bytes:
    from pttfaces.demo import encode  # pages are served without importing OpenCV

    return encode.image_bytes(image, seed)


def _page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


def _redirect(target: str) -> web.Response:
    return web.Response(status=302, headers={"Location": target})


def _for_browser(response: web.Response) -> web.Response:
    """Rewrites made-up hosts as paths below this one, so that a browser can follow them."""
    if response.content_type == "text/html" and response.text:
        response.text = _ATTRIBUTE.sub(_as_path, response.text)
    location = urlsplit(response.headers.get("Location", ""))
    if location.hostname in HOSTS:
        response.headers["Location"] = f"/@{location.hostname}{location.path}"
    return response


def _as_path(attribute: re.Match[str]) -> str:
    return f"{attribute[1]}/@{attribute[2].lower()}"
