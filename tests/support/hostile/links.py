"""Links to images on hosts that misbehave, and what the ledger must say of each."""

import asyncio
import gzip
import ipaddress
import struct
import zlib
from dataclasses import dataclass, field

import brotli
from backports import zstd
from hostile.site import EXTENSIONS, Handler, Request, image_bytes

JPEG = image_bytes("JPEG", 1)
MIB = 2**20


@dataclass
class Case:
    """A link and its expected ledger row."""

    status: str
    handler: Handler | None = None
    error: str = ""
    posted: str | None = None  # another URL than http://<case>.test/a.jpg
    attempts: int = 1
    size: tuple[str, str] | None = None
    more: dict[str, str] = field(default_factory=dict)


def lengths(seed: int, values: str) -> Handler:
    """An image with more than one Content-Length, in two pieces."""
    body = image_bytes("JPEG", seed)
    content = head(values.format(len(body))) + body

    async def handler(request: Request) -> None:
        await request.send(content[:30])
        await asyncio.sleep(0.05)
        await request.send(content[30:])

    return handler


def gives(code: int, body: bytes = b"", **headers: str) -> Handler:
    async def handler(request: Request) -> None:
        await request.answer(code, body, **headers)

    return handler


def sends(*pieces: bytes) -> Handler:
    async def handler(request: Request) -> None:
        await request.send(*pieces)
        request.writer.close()

    return handler


def leads_to(place: str) -> Handler:
    return gives(302, Location=place)


def first(handler: Handler, then: Handler) -> Handler:
    async def both(request: Request) -> None:
        await (handler if request.number == 1 else then)(request)

    return both


async def endless(request: Request, piece: bytes) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await request.send(b"%x\r\n" % len(piece) + piece + b"\r\n")


async def slow(request: Request, start: bytes) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\n" + start)
    for _ in range(100):
        await asyncio.sleep(0.2)
        await request.send(b"x")


async def endless_header(request: Request) -> None:
    await slow(request, b"X-Slow: ")


async def endless_image(request: Request) -> None:
    await endless(request, b"\xff\xd8\xff\xe0" + b"\1" * 60000)


async def endless_html(request: Request) -> None:
    await endless(request, b"<html>" + b"no " * 20000)


async def drip(request: Request) -> None:
    await slow(request, b"Content-Length: 1000\r\n\r\n\xff\xd8\xff")


async def silent(request: Request) -> None:
    await asyncio.sleep(60)


async def reset_at_once(request: Request) -> None:
    request.reset()


async def reset_in_the_head(request: Request) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    request.reset()


async def reset_in_the_body(request: Request) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + JPEG[:900])
    await asyncio.sleep(0.05)
    request.reset()


async def length_too_small(request: Request) -> None:
    await request.send(head(900), JPEG[:900])
    await asyncio.sleep(0.3)  # sent at once, the rest would count as a broken next response
    await request.send(JPEG[900:])
    request.writer.close()


async def no_secrets(request: Request) -> None:
    secret = {"referer", "cookie", "authorization"} & set(request.headers)
    await request.answer(400 if secret else 200, image_bytes("JPEG", 12), Set_Cookie="a=b")


async def hands_on_secrets(request: Request) -> None:
    if request.path == "/a.jpg":
        place = "http://user:secret@redirect-with-secrets.test/b.jpg"
        await request.answer(302, Location=place, Set_Cookie="a=b")
    else:
        await no_secrets(request)


def head(length: int | str, *more: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in more)
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{lines}\r\n".encode()


def png_header(side: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body
    end = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return content + struct.pack(">I", zlib.crc32(body)) + end


def png_of_many_frames(frames: int) -> bytes:
    """An animated PNG whose header claims 2³² − 1 frames, with some empty ones."""
    content = image_bytes("PNG", 18)
    number = iter(range(10**6))
    control = chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0))
    moving = b"".join(
        chunk(b"fcTL", struct.pack(">IIIIIHHBB", next(number), 1, 1, 0, 0, 0, 1, 0, 0))
        + chunk(b"fdAT", struct.pack(">I", next(number)))
        for _ in range(frames)
    )
    end = len(content) - 12  # IEND
    return content[:33] + control + content[33:end] + moving + content[end:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def gif_header(side: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0, 0, 0) + FRAME + b"\x3b"


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, 9)


BOMB = gzipped(b"\xff\xd8\xff\xe0" + b"\0" * 200 * MIB)
BROTLI_BOMB = brotli.compress(b"\xff\xd8\xff\xe0" + b"\0" * 50 * MIB, quality=5)
ZSTD_BOMB = zstd.compress(b"\xff\xd8\xff\xe0" + b"\0" * 50 * MIB)
DEFLATED = zlib.compress(b"\xff\xd8\xff\xe0" + b"\0" * 200 * MIB, 9)
FRAME = b",\0\0\0\0\1\0\1\0\0\2\0"
DISGUISED = "bad redirect: a host in disguise: not a plain address"
OVER = "is over 10 megapixels"
BROKE = "the connection broke"
NOT_HTTP = "the response is not valid HTTP"
LOOP = "http://redirect-loop.test/a.jpg"
SEEN = image_bytes("JPEG", 2)

CASES: dict[str, Case] = {
    **{
        f"a-good-{kind.lower()}": Case("ok", gives(200, image_bytes(kind, 3)), size=("64", "48"))
        for kind in EXTENSIONS
    },
    **{
        f"a-truncated-{kind.lower()}": Case(
            "truncated", gives(200, image_bytes(kind, 4)[:-20]), "its end is missing"
        )
        for kind in EXTENSIONS
    },
    "no-length-whole": Case("ok", sends(b"HTTP/1.1 200 OK\r\n\r\n", image_bytes("JPEG", 5))),
    "no-length-cut": Case(
        "truncated", sends(b"HTTP/1.1 200 OK\r\n\r\n", JPEG[:-9]), "its end is missing", attempts=2
    ),
    "no-length-cut-once": Case(
        "ok",
        first(
            sends(b"HTTP/1.1 200 OK\r\n\r\n", JPEG[:-9]),
            sends(b"HTTP/1.1 200 OK\r\n\r\n", image_bytes("JPEG", 6)),
        ),
        attempts=2,
    ),
    "length-too-large": Case("failed", sends(head(99999), JPEG), BROKE, attempts=2),
    "length-too-small": Case("truncated", length_too_small, "its end is missing"),
    "length-absurd": Case(
        "too_large", sends(head(10**15)), "larger than 1 MiB", more={"bytes": str(10**15)}
    ),
    "length-negative": Case("failed", sends(head(-5), JPEG), NOT_HTTP, attempts=2),
    "endless-image": Case(
        "too_large", endless_image, "larger than 1 MiB", more={"bytes": str(MIB + 1)}
    ),
    "endless-html": Case("not_an_image", endless_html, "HTML", attempts=2),
    "gzip-bomb": Case("too_large", gives(200, BOMB, Content_Encoding="gzip"), "larger than 1 MiB"),
    "deflate-bomb": Case(
        "too_large", gives(200, DEFLATED, Content_Encoding="deflate"), "larger than 1 MiB"
    ),
    "gzipped-image": Case(
        "ok", gives(200, gzipped(image_bytes("JPEG", 7)), Content_Encoding="gzip")
    ),
    "x-gzipped-image": Case(
        "ok", gives(200, gzipped(image_bytes("JPEG", 21)), Content_Encoding="x-gzip")
    ),
    "x-gzip-bomb": Case(
        "too_large", gives(200, BOMB, Content_Encoding="x-gzip"), "larger than 1 MiB"
    ),
    "x-gzip-cut": Case(
        "failed",
        gives(200, gzipped(image_bytes("JPEG", 21))[:-20], Content_Encoding="x-gzip"),
        BROKE,
        attempts=2,
    ),
    "brotli-image": Case(
        "ok", gives(200, brotli.compress(image_bytes("JPEG", 22)), Content_Encoding="br")
    ),
    "brotli-bomb": Case(
        "too_large", gives(200, BROTLI_BOMB, Content_Encoding="br"), "larger than 1 MiB"
    ),
    "zstd-image": Case(
        "ok", gives(200, zstd.compress(image_bytes("JPEG", 23)), Content_Encoding="zstd")
    ),
    "zstd-bomb": Case(
        "too_large", gives(200, ZSTD_BOMB, Content_Encoding="zstd"), "larger than 1 MiB"
    ),
    "encoding-nobody-knows": Case(
        "not_an_image", gives(200, b"\x1b\x07\x00", Content_Encoding="lzma"), "unknown bytes"
    ),
    "length-twice": Case("ok", lengths(24, "{0}\r\nContent-Length: {0}")),
    "length-list": Case("ok", lengths(25, "{0}, {0}")),
    "length-twice-unequal": Case(
        "failed", lengths(26, "{0}\r\nContent-Length: 7"), NOT_HTTP, attempts=2
    ),
    "gzip-that-is-none": Case(
        "failed", gives(200, JPEG, Content_Encoding="gzip"), BROKE, attempts=2
    ),
    "drip": Case("timeout", drip, "not finished within 10 s", attempts=2),
    "silent": Case("timeout", silent, "not finished within 10 s", attempts=2),
    "html-as-jpeg": Case(
        "not_an_image",
        gives(200, b"<!DOCTYPE html><p>hi", Content_Type="image/jpeg"),
        "HTML",
        attempts=2,
    ),
    "svg-with-script": Case(
        "not_an_image", gives(200, b"<svg><script>1</script></svg>"), "SVG or other XML"
    ),
    "jpeg-as-html": Case("ok", gives(200, image_bytes("JPEG", 8), Content_Type="text/html")),
    "polyglot": Case("ok", gives(200, image_bytes("JPEG", 9) + b"<script>1</script>")),
    "empty-body": Case("not_an_image", gives(200), "empty", attempts=2),
    "garbage": Case("not_an_image", gives(200, bytes(range(256)) * 9), "unknown bytes"),
    "png-bomb": Case("too_large", gives(200, png_header(60000)), f"60000×60000 {OVER}"),
    "gif-bomb": Case("too_large", gives(200, gif_header(65535)), f"65535×65535 {OVER}"),
    "gif-of-many-frames": Case(
        "ok", gives(200, image_bytes("GIF")[:-1] + b",\0\0\0\0\1\0\1\0\0\2\0" * 9999 + b";")
    ),
    "png-of-many-frames": Case("ok", gives(200, png_of_many_frames(9999)), size=("64", "48")),
    "gone-404": Case("gone", gives(404, b"<html>"), "HTTP 404"),
    "gone-410": Case("gone", gives(410), "HTTP 410"),
    "forbidden-403": Case("blocked", gives(403), "HTTP 403", attempts=2),
    "login-401": Case("blocked", gives(401), "HTTP 401"),
    "odd-418": Case("failed", gives(418), "HTTP 418"),
    "broken-500": Case("failed", gives(500), "HTTP 500", attempts=2),
    "busy-503-then-ok": Case(
        "ok", first(gives(503), gives(200, image_bytes("JPEG", 10))), attempts=2
    ),
    "busy-429-then-ok": Case(
        "ok", first(gives(429, Retry_After="1"), gives(200, image_bytes("JPEG", 11))), attempts=2
    ),
    "busy-429-for-ever": Case("blocked", gives(429, Retry_After="0"), "HTTP 429", attempts=2),
    "retry-after-nonsense": Case(
        "blocked", gives(403, Retry_After="soon-ish"), "HTTP 403", attempts=2
    ),
    "reset-at-once": Case("failed", reset_at_once, BROKE, attempts=2),
    "reset-in-the-head": Case("failed", reset_in_the_head, BROKE, attempts=2),
    "reset-in-the-body": Case("failed", reset_in_the_body, BROKE, attempts=2),
    "not-http": Case(
        "failed",
        sends(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        "the response is not valid HTTP",
        attempts=2,
    ),
    "huge-header": Case(
        "failed", gives(200, JPEG, X_Big="x" * 70000), "the response is not valid HTTP", attempts=2
    ),
    "many-headers": Case(
        "failed",
        gives(200, JPEG, **{f"X_{at}": "y" * 50 for at in range(5000)}),
        "the response is not valid HTTP",
        attempts=2,
    ),
    "wrong-charset": Case(
        "ok", gives(200, image_bytes("JPEG", 17), Content_Type="text/html; charset=klingon-\xff")
    ),
    "endless-header": Case("timeout", endless_header, "not finished within 10 s", attempts=2),
    "no-secrets": Case("ok", no_secrets, posted="http://user:secret@no-secrets.test/a.jpg#here"),
    "redirect-with-secrets": Case(
        "duplicate",  # of no-secrets
        hands_on_secrets,
        more={"final_url": "http://redirect-with-secrets.test/b.jpg"},
    ),
    "redirect": Case(
        "ok",
        leads_to("http://redirect-end.test/b.jpg"),
        more={"final_url": "http://redirect-end.test/b.jpg"},
    ),
    "redirect-end": Case("duplicate", gives(200, SEEN)),
    "redirect-relative": Case(
        "ok",
        first(leads_to("../x/y.jpg?z=1"), gives(200, image_bytes("JPEG", 13))),
        more={"final_url": "http://redirect-relative.test/x/y.jpg?z=1"},
    ),
    "redirect-loop": Case("failed", leads_to(LOOP), "more than 8 redirects"),
    "redirect-to-removed": Case(
        "removed",
        leads_to("http://redirect-end.test/removed.png"),
        "redirected to removed.png",
        more={"final_url": "http://redirect-end.test/removed.png", "http_status": "302"},
    ),
    "redirect-nowhere": Case("failed", gives(302), "HTTP 302"),
    "redirect-not-a-url": Case("failed", leads_to("http://[bad/"), "bad redirect: not a URL"),
    "redirect-to-bytes": Case("gone", first(leads_to("/\xff\xfe"), gives(404)), "HTTP 404"),
    **{
        f"redirect-to-{name}": Case(
            "refused_address", leads_to(place), "not a public address", more={"final_url": place}
        )
        for name, place in {
            "loopback": "http://127.0.0.1:9/x.jpg",
            "loopback-6": "http://[::1]:9/x.jpg",
            # written as this Python writes it: 3.13 ends it in a dotted quad
            "mapped-loopback": f"http://[{ipaddress.ip_address('::ffff:127.0.0.1')}]:9/x.jpg",
            "metadata": "http://169.254.169.254/latest/meta-data",
            "private-net": "https://192.168.0.1/x.jpg",
            "a-name-of-loopback": "http://localhost:9/x.jpg",
        }.items()
    },
    **{
        f"redirect-to-{name}": Case(
            "refused_address",
            leads_to(place),
            "bad redirect: a host in disguise: not a plain address",
        )
        for name, place in {
            "decimal": "http://2130706433/x.jpg",
            "octal": "http://0177.0.0.1/x.jpg",
            "hexadecimal": "http://0x7f000001/x.jpg",
        }.items()
    },
    "redirect-to-a-file": Case(
        "refused_address",
        leads_to("file:///etc/passwd"),
        "bad redirect: only http and https are fetched",
    ),
    "posted-loopback": Case(
        "refused_address", None, "not a public address", "http://127.0.0.1:80/a.jpg"
    ),
    "posted-decimal": Case(
        "refused_address",
        None,
        "a host in disguise: not a plain address",
        "http://2130706433/a.jpg",
        attempts=0,
    ),
    "no-such-host": Case(
        "failed",
        None,
        "the host name does not resolve",
        "http://no-such-host.invalid/a.jpg",
        attempts=2,
    ),
    **{
        name: Case("refused_address", None, "not a public address", f"http://{name}.test/a.jpg")
        for name in ("name-of-private", "name-of-mapped", "name-of-metadata", "name-of-nat64")
    },
    "second-answer-private": Case(
        "refused_address",
        None,
        "not a public address",
        "http://second-answer-private.test/a.jpg",
        attempts=2,
    ),
    "very-long-url": Case(
        "failed",
        None,
        "a URL of more than 8192 characters",
        "http://x.test/" + "a" * 9000,
        attempts=0,
    ),
    "upper-case-host": Case(
        "ok", gives(200, image_bytes("JPEG", 14)), posted="HTTP://UPPER-case-HOST.test/A.jpg"
    ),
    "non-ascii-path": Case(
        "ok", gives(200, image_bytes("JPEG", 15)), posted="http://non-ascii-path.test/美女 圖.jpg"
    ),
    "dots-and-nul": Case(
        "ok",
        gives(200, image_bytes("JPEG", 16)),
        posted="http://dots-and-nul.test/..%2F..%2Fetc/%00/..\\evil.php",
    ),
    "same-bytes-twice": Case("duplicate", gives(200, SEEN)),
    "same-url-twice": Case("duplicate", None, posted="http://a-good-png.test/a.jpg"),
}
