"""The embedded board's server: a small site on loopback that behaves like ptt.cc and its hosts.

It answers for made-up host names; a door maps them to its port. Pictures are drawn when asked for,
in worker threads. Knows the demo's world and pages, and no other room.
"""

import asyncio
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote, urlsplit

from aiohttp import web

from pttfaces.demo import pages
from pttfaces.demo.board import (
    BOARD_HOST,
    PICTURE_HOSTS,
    Picture,
    Post,
    World,
    make_world,
    picture_key,
)
from pttfaces.errors import SiteError
from pttfaces.http import LOOPBACK

if TYPE_CHECKING:
    from pttfaces.config import Params

Draw: TypeAlias = Callable[[Picture, int], bytes]

HOSTS = (BOARD_HOST, *PICTURE_HOSTS, "cache.ptt.test")
# Links to the demo's hosts, under the reserved top-level domain .test, look like links to these.
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
_WITH_HOST = re.compile(r"/@([^/]+)(/.*|$)")  # how a browser names a made-up host: /@host/path
_ATTRIBUTE = re.compile(
    rf'((?:href|src|action)=")(?:https?:)?//({"|".join(map(re.escape, HOSTS))})(?=[/"])',
    re.IGNORECASE,
)


@contextmanager
def serve_params(params: "Params", port: int = 0) -> Iterator[int]:
    """As `serve`, for the board that params.yaml describes."""
    demo, board = params.demo, params.board
    world = make_world(demo.seed, demo.articles, board.name, board.year)
    with serve(world, port) as served:
        yield served


@contextmanager
def serve(world: World, port: int = 0, draw: Draw | None = None) -> Iterator[int]:
    """Serves a world on 127.0.0.1 from a thread of its own; gives the port, a free one for 0.

    The world may change while it is served. draw: what makes a picture's file, with the world's
    seed; the demo's drawings where it is not given. SiteError: the port is in use.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="demo site", daemon=True)
    thread.start()
    drawing = ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="drawing")
    runner = web.AppRunner(
        _Site(world, drawing, draw or _drawn).application(), access_log=None, shutdown_timeout=0.5
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
            f"port {port} of {LOOPBACK} cannot be used ({why}); "
            "name another, or leave it out for any free one."
        ) from None
    return int(runner.addresses[0][1])


class _Site:
    def __init__(self, world: World, drawing: ThreadPoolExecutor, draw: Draw) -> None:
        self._world = world
        self._draw = draw
        self._drawing = drawing
        self._asked: Counter[int] = Counter()  # how often a busy picture was asked for

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        host, path = (request.host or "").rsplit(":", 1)[0].lower(), request.path
        in_browser = host in (LOOPBACK, "localhost")
        if in_browser:
            named = _WITH_HOST.fullmatch(path)
            host, path = (named[1].lower(), named[2] or "/") if named else (BOARD_HOST, path)
        if host == BOARD_HOST:
            response = await self._board(request, path)
        else:
            response = await self._picture_host(request, host, path, in_browser)
        return _for_browser(response) if in_browser else response

    # ------------------------------------------------------------------------------------ board

    async def _board(self, request: web.Request, path: str) -> web.Response:
        board = self._world.board
        if path == "/robots.txt":
            return web.Response(text=_ROBOTS)
        if path == "/ask/over18":
            return await self._age(request)
        if path in ("/", "/bbs", "/bbs/", "/bbs/index.html"):
            return _page(pages.listing_of_boards([board]))
        if path.startswith("/bbs/") and request.cookies.get("over18") != "1":
            return _redirect(f"/ask/over18?from={quote(path, safe='')}")
        if match := re.fullmatch(rf"/bbs/{re.escape(board)}/index(\d{{0,7}})\.html", path):
            last = pages.page_count(self._world)
            number = int(match[1]) if match[1] else last
            if 1 <= number <= last:
                return _page(pages.index_page(self._world, number))
        if match := re.fullmatch(rf"/bbs/{re.escape(board)}/([\w.]+)\.html", path):
            post = self._post(match[1])
            if post and post.page not in ("gone", "deleted"):
                return _page(pages.article_page(self._world, post))
        return _page(pages.not_found_page(), 404)

    async def _age(self, request: web.Request) -> web.Response:
        if request.method != "POST":
            return _page(pages.age_page(request.query.get("from", "/")))
        form = await request.post()
        target = str(form.get("from", "/"))
        if form.get("yes") != "yes" or not target.startswith("/") or target.startswith("//"):
            return _redirect("/")
        response = _redirect(target)
        response.set_cookie("over18", "1", path="/")
        return response

    def _post(self, name: str) -> Post | None:
        posts = (*self._world.posts, *self._world.pinned)
        return next((post for post in posts if post.id == name), None)

    # --------------------------------------------------------------------------------- pictures

    async def _picture_host(
        self, request: web.Request, host: str, path: str, in_browser: bool
    ) -> web.Response:
        if host == "i.imgur.test" and path == "/removed.png":
            return await self._file(self._placeholder, "image/png")
        if host in ("imgur.test", "m.imgur.test") and re.match(r"/(a|gallery)/", path):
            name = path.rpartition("/")[2]
            return _page(pages.album_page(name, self._world.albums.get(name)))
        if host == "api.imgur.test":
            return self._api(request, path)
        if host == "cache.ptt.test":
            copied = re.fullmatch(r"/c/https/(.+)/300x300\.jpg", path)
            return await self._hand_out(f"//{copied[1]}" if copied else "", small=True)
        referer = urlsplit(request.headers.get("Referer", "")).hostname or host
        if host.endswith("imgur.test") and not referer.endswith("imgur.test") and not in_browser:
            return web.Response(status=403, text="no hotlinking")
        small = host == "pbs.twimg.test" and request.query.get("name") != "orig"
        return await self._hand_out(f"//{host}{path}", small)

    def _api(self, request: web.Request, path: str) -> web.Response:
        """imgur's API, version 3, as far as albums go: for applications that name themselves."""
        named = re.fullmatch(r"/3/(?:album/(\w+)/images|gallery/album/(\w+))", path)
        if not request.headers.get("Authorization", "").startswith("Client-ID "):
            return web.json_response({"data": {"error": "Invalid client_id"}}, status=403)
        addresses = self._world.albums.get((named[1] or named[2]) if named else "")
        if not named or addresses is None:
            return web.json_response({"data": {"error": "not found"}}, status=404)
        images = [{"link": address} for address in addresses]
        return web.json_response({"data": images if named[1] else {"images": images}})

    async def _hand_out(self, address: str, small: bool) -> web.Response:
        picture = self._world.pictures.get(picture_key(f"https:{address}"))
        if picture is None or picture.answer == "missing":
            return web.Response(status=404, text="404 Not Found")
        if picture.answer == "removed":
            return _redirect("https://i.imgur.test/removed.png")
        if picture.answer.startswith("busy"):
            self._asked[picture.number] += 1
            if self._asked[picture.number] == 1:
                status = int(picture.answer.split()[1])
                return web.Response(status=status, headers={"Retry-After": "1"}, text="busy")
        return await self._file(lambda: self._content(picture, small), _TYPES[picture.format])

    async def _file(self, make: Callable[[], bytes], content_type: str) -> web.Response:
        content = await asyncio.get_running_loop().run_in_executor(self._drawing, make)
        return web.Response(body=content, content_type=content_type)

    def _content(self, picture: Picture, small: bool) -> bytes:
        content = self._draw(picture, self._world.seed)
        if not small or picture.answer in ("html", "truncated"):
            return content
        from pttfaces.demo import encode

        return encode.small_copy(content)

    def _placeholder(self) -> bytes:
        from pttfaces.demo import encode

        return encode.removed_placeholder()


def _drawn(picture: Picture, seed: int) -> bytes:
    from pttfaces.demo import encode  # pages are served without what draws

    return encode.picture_bytes(picture, seed)


def _page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


def _redirect(target: str) -> web.Response:
    return web.Response(status=302, headers={"Location": target})


def _for_browser(response: web.Response) -> web.Response:
    """Turns made-up hosts into paths below this one, so that a browser can follow them."""
    if response.content_type == "text/html" and response.text:
        response.text = _ATTRIBUTE.sub(_as_path, response.text)
    location = urlsplit(response.headers.get("Location", ""))
    if location.hostname in HOSTS:
        response.headers["Location"] = f"/@{location.hostname}{location.path}"
    return response


def _as_path(attribute: re.Match[str]) -> str:
    return f"{attribute[1]}/@{attribute[2].lower()}"
