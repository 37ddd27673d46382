"""A board on which everything is wrong that can be, as handlers of `hostile.site`.

Its articles link the cases of `hostile.links`, and a few good portraits among them, so that a
pipeline that survives the rest has faces to train on.
"""

import html
import io
import itertools
import json
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from hostile.links import CASES, gives
from hostile.pages import (
    DELETED,
    HEAD,
    ORIGIN,
    PINNED,
    ROW_2016,
    ROW_2020,
    article_page,
    index_page,
    link,
    push,
)
from hostile.site import Handler, Request, image_bytes
from PIL import Image

from pttfaces.demo import encode, pages
from pttfaces.demo.board import DemoImage

BOARD = "board.test"
PEOPLE = 8  # good portraits
DENIED = "denied"  # an author to put on the deny list
SECRET = "s3cr3t"  # begins every cookie, and what a test puts into the environment
# Titles that a terminal, a spreadsheet or a page would execute.
TITLES = (
    '=HYPERLINK("http://evil.test","x")',
    "+1+cmd|'/C calc'!A0",
    "@SUM(1)",
    '\'quoted, "twice"',
    "\x1b[2J\x1b]0;owned\x07 gone",
    "photo\u202egpj.exe",
    "a\u2028b\x85c\x0bd",
    "<script>alert(1)</script>",
    "表" * 5000,
    "NA",
    "\U0001f9d1\u200d\U0001f3a8 e\u0301",
)
_FIRST = 1704067200  # 2024-01-01 in the board's own time, eight hours in


def routes() -> dict[str, Handler]:
    """Host name → the handler that answers for it."""
    hosts = {f"{name}.test": case.handler for name, case in CASES.items() if case.handler}
    odd = odd_images()
    hosts |= {f"{name}.test": gives(200, content) for name, content in odd.items()}
    return hosts | {BOARD: Board().answer, "imgur.com": _albums, "faces.test": _faces}


def odd_images() -> dict[str, bytes]:
    """Files that begin and end as images do, with something odd in between."""
    portrait = _portrait(100)
    noise = image_bytes("JPEG", 30, (300, 300))
    middle = len(noise) // 2
    grey = np.random.default_rng(31).integers(0, 65535, (90, 80), dtype=np.uint16)
    frames = [Image.open(io.BytesIO(image_bytes("PNG", seed))) for seed in (32, 33)]
    exif = b"\xff\xe1\x00\x20Exif\0\0II*\0\xff\xff\xff\xff"
    clear = Image.fromarray(np.full((50, 50, 4), 90, np.uint8))
    return {
        "a-hole-in-the-jpeg": noise[:middle] + bytes(900) + noise[middle + 900 :],
        "a-png-of-zlib-noise": _png(b"\x00" * 40),
        "a-png-with-too-few-rows": _png(zlib.compress(b"\0" * 10)),
        "a-png-that-swells": _png(zlib.compress(bytes(3 * 10**7), 9)),
        "a-webp-of-noise": image_bytes("WEBP", 34)[:60] + bytes(range(200)) * 9,
        "an-avif-of-noise": image_bytes("AVIF", 35)[:-300] + bytes(300),
        "one-pixel": image_bytes("PNG", 36, (1, 1)),
        "a-thread": image_bytes("PNG", 37, (9000, 1)),
        "four-inks": _saved(Image.open(io.BytesIO(portrait)).convert("CMYK"), "JPEG"),
        "sixteen-bits": _saved(Image.fromarray(grey), "PNG"),
        "a-palette": _saved(frames[0].convert("P"), "PNG"),
        "clear": _saved(clear, "PNG"),
        "in-motion": _saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "a-broken-exif": portrait[:2] + exif * 2 + portrait[2:],
        "a-copy": _portrait(0),
    }


class Board:
    """Three index pages, and an article for each fault."""

    def __init__(self) -> None:
        self._articles = dict(self._made())
        self._asked_for = "/bbs/Beauty/index.html"  # before the gate

    async def answer(self, request: Request) -> None:
        path = request.path
        if path.startswith("/ask/over18"):
            await self._ask(request)
        elif path.startswith("/bbs/") and "over18=1" not in request.headers.get("cookie", ""):
            await request.answer(302, Location=f"/ask/over18?from={path}")
        elif path.startswith("/bbs/Beauty/index"):
            number = path.removeprefix("/bbs/Beauty/index").removesuffix(".html") or "3"
            await request.answer(200, self._index(int(number)).encode())
        else:
            name = path.rpartition("/")[2].removesuffix(".html")
            handler = self._articles.get(name, gives(404, b"<title>404</title>"))
            await handler(request)

    async def _ask(self, request: Request) -> None:
        if "content-length" not in request.headers:
            self._asked_for = request.path.partition("=")[2]
            await request.answer(200, pages.age_page(self._asked_for).encode())
            return
        cookies = f"over18=1; Path=/\r\nSet-Cookie: session={SECRET}-of-the-site; Path=/"
        await request.answer(302, Location=self._asked_for, Set_Cookie=cookies)
        request.writer.close()  # without reading the form that follows

    def _index(self, number: int) -> str:
        names = list(self._articles)
        half = len(names) // 2
        rows = {
            1: _row(_id(-90000), "[正妹] 去年") + "</div></div>" * 3,
            2: DELETED + "".join(map(_row, names[:half], itertools.cycle(TITLES))) + self._odd(),
            # The first of these was on the page before a moment ago.
            3: "".join(map(_row, names[half - 1 :], itertools.cycle(TITLES)))
            + '<div class="r-list-sep"></div>'
            + PINNED,
        }[number]
        return index_page(rows, f"/bbs/Beauty/index{number - 1}.html" if number > 1 else "")

    def _odd(self) -> str:
        """Rows that lead to no article, or to one that the filters leave out."""
        return (
            _row(_id(40000), "[公告] 板規")
            + _row(_id(40001), "")
            + _row(_id(40002), "blank", nrec="")
            + _row(_id(40003), "odd", nrec="9" * 400)
            + _row(_id(40004), "denied", author=DENIED)
            + ROW_2020.replace("M.1704040318.A.E87", "M.99999999999999.A.001")
            + ROW_2020.replace("M.1704040318.A.E87", "../../etc/passwd")
            + ROW_2016
            + "<div class='r-ent'><div class='title'><a href='"
        )

    def _made(self) -> Iterator[tuple[str, Handler]]:
        numbers = itertools.count()

        def name() -> str:
            return _id(100 * next(numbers))

        def article(*parts: str) -> tuple[str, Handler]:
            return name(), gives(200, article_page(HEAD + "".join(parts) + ORIGIN).encode())

        posted = [case.posted or f"http://{key}.test/a.jpg" for key, case in CASES.items()]
        posted += [f"http://{key}.test/a.png" for key in odd_images()]
        hrefs = [link(html.escape(address)) for address in posted]
        for start in range(0, len(hrefs), 20):
            half = hrefs[start : start + 10]
            rest = (push("=cmd|x", anchor) for anchor in hrefs[start + 10 : start + 20])
            yield article(*half, "\n", *rest)
        people = [link(f"http://faces.test/{who}.jpg") for who in range(PEOPLE)]
        for who in range(0, PEOPLE, 2):
            yield article(*people[who : who + 2])
        yield article(*map(link, STRANGE_LINKS))
        yield article(*(link(f"https://imgur.com/a/{name}") for name in ALBUMS))
        box = '<div class="push center warning-box">檔案過大!部分文章無法顯示</div>'
        yield article(people[0], box)
        yield article(people[0] * 3000)
        yield article("<div class='push'>" * 20000, people[1])
        yield article("文" * 700000)
        yield article("&#x110000;" * 999, "&#0;\ufffe", people[0], "<!--" + people[1])
        yield name(), gives(200, article_page("\n\n").encode())
        yield name(), gives(200, article_page(people[2]).encode()[:-60])
        yield name(), gives(200, "\n".join(people).encode("utf-16"), Content_Type="text/plain")
        yield name(), gives(200, bytes(range(256)) * 99)
        yield name(), gives(200, b"<title>\x1b[31mPlease log in</title><form>")
        yield name(), gives(200, b"")
        yield name(), gives(404, b"<title>404</title>")
        yield name(), gives(410)
        yield name(), gives(403, b"no")
        yield name(), gives(302, Location="/bbs/Beauty/index.html")


STRANGE_LINKS = (
    "javascript:alert(1)//x.jpg",
    "data:image/jpeg;base64,/9j/x.jpg",
    "file:///etc/passwd.jpg",
    "ftp://ftp.test/x.jpg",
    "http://[::1/x.jpg",
    "http://h.test:0/x.jpg",
    "http://h.test:99999/x.jpg",
    "=http://good-formula.test/a.jpg",
    "http://" + "a" * 300 + ".test/x.jpg",
    "http://x.test/" + "a" * 9000 + ".jpg",
    "//imgur.com/removed",
    "https://ibb.co/abcdefg",
    "http://xn--a.test/a.jpg",
    "http://\u202egpj.test/a.jpg",
    "http://a.test/\x1b[2J.jpg",
    "http://a.test/x.jpghttps://b.test/y.jpg)",
    "http://user:hunter2@no-secrets.test/b.jpg",
)
ALBUMS = {
    "abcde01": ["http://127.0.0.1:1/a.jpg", "javascript:x.jpg", "http://faces.test/3.jpg", "//["],
    "abcde02": None,
    "abcde03": 9 * ["http://faces.test/4.jpg"],
}


async def _albums(request: Request) -> None:
    name = request.path.rpartition("/")[2]
    if request.path == "/robots.txt":
        await request.answer(404)
    elif name == "abcde02":
        deep = json.dumps("[" * 50000)
        await request.answer(200, f"<script>window.postDataJSON={deep}</script>".encode())
    elif name in ALBUMS:
        await request.answer(200, pages.album_page(name, ALBUMS[name]).encode())
    else:
        await request.answer(404)


async def _faces(request: Request) -> None:
    content = _portrait(int(request.path[1:].partition(".")[0]))
    await request.answer(200, content, Set_Cookie=f"id={SECRET}-of-the-host; Path=/")


def _portrait(who: int) -> bytes:
    return encode.image_bytes(DemoImage(who, "portrait", (who,)), seed=1)


def _id(seconds: int) -> str:
    return f"M.{_FIRST + seconds}.A.{seconds & 0xFFF:03X}"


def _row(name: str, title: str, author: str = "=cmd", nrec: str = "5") -> str:
    row = ROW_2020.replace("M.1704040318.A.E87", name).replace("[正妹] 一", html.escape(title))
    return row.replace("someone", author).replace(">38<", f">{nrec}<")


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _png(data: bytes) -> bytes:
    """A PNG of 64×64 pixels with a valid header and checksums around any data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
