"""What is sent and how responses are read: bytes as posted, encodings, proxies, networks."""

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hostile.site import Request, Site, image_bytes, options

from pttfaces import tables
from pttfaces.denylist import DenyList
from pttfaces.download import download
from pttfaces.errors import SiteError
from pttfaces.http import LoopbackHosts, proxy_for
from pttfaces.tables import Link

JPEG = image_bytes("JPEG", 1)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    proxy_for.cache_clear()
    yield
    proxy_for.cache_clear()


def get(hosts: LoopbackHosts, *urls: str, **changes: Any) -> list[dict[str, str]]:
    links = [Link("M.1", at, url, (url,), "body") for at, url in enumerate(urls)]
    with suppress(SiteError):
        download(links, hosts, "web", options(**changes), DenyList())
    return tables.read_csv("data/ledger.csv").to_dict("records")


AS_POSTED = [
    "/unsafe/http%3A%2F%2Fother.test%2Fp.jpg?s=a%2Fb%3D",
    "/a%2Db%7Ec.jpg?x=%41%2b+%20",
    "/it's(1)[2]{3}.jpg?q='[a]'&r={b}|c",
    '/%22"%22.jpg?q="x"',
    "/a//b/../c/./d.jpg",
    "/%zz%.jpg?%",
]


def test_download_sends_paths_and_queries_as_posted() -> None:
    async def good(request: Request) -> None:
        await request.answer(200, JPEG)

    with Site({"a.test": good}) as site:
        get(site.hosts(), *(f"http://a.test{path}" for path in AS_POSTED), per_host=1)
        assert [request.path for request in site.seen] == AS_POSTED


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/美女.jpg".encode(), "/%E7%BE%8E%E5%A5%B3.jpg"),
        ("/美女.jpg?q=圖".encode("big5"), "/%AC%FC%A4k.jpg?q=%B9%CF"),
        (b"/a b.jpg", "/a%20b.jpg"),
        (b"b%2Fc.jpg?s=%3d%41", "/x/b%2Fc.jpg?s=%3d%41"),
        (b"//a.test/d.jpg", "/d.jpg"),
        (b"?e=1", "/x/start?e=1"),
    ],
)
def test_download_follows_a_location_s_bytes_as_browsers_do(location: bytes, path: str) -> None:
    async def leads(request: Request) -> None:
        if request.number == 1 and request.path == "/x/start":
            head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
            await request.send(head + location + b"\r\n\r\n")
        else:
            await request.answer(200, JPEG)

    with Site({"a.test": leads}) as site:
        (row,) = get(site.hosts(), "http://a.test/x/start")
        assert [request.path for request in site.seen] == ["/x/start", path]
    assert row["status"] == "ok"
    assert row["final_url"] == f"http://a.test{path}"


# --- a proxy


class Proxy(http.server.BaseHTTPRequestHandler):
    """Answers every request for a URL with an image, and tunnels to `port`."""

    port = 0
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(JPEG)))
        self.end_headers()
        self.wfile.write(JPEG)

    def do_CONNECT(self) -> None:
        self.asked.append(self.path)
        self.send_response(502)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """The address of a running proxy, and what it is asked for."""
    asked: list[str] = []
    handler = type("Handler", (Proxy,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_download_through_the_environment_s_proxy_sends_it_the_url(
    proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are the proxy's to resolve; hosts on loopback, and addresses in URLs, are not."""
    address, asked = proxy
    monkeypatch.setenv("HTTP_PROXY", address)
    monkeypatch.setenv("NO_PROXY", "direct.invalid")

    async def own(request: Request) -> None:
        await request.answer(200, image_bytes("JPEG", 2))

    urls = [
        "http://behind-the-proxy.invalid/a%2Fb.jpg",
        "http://own.test/x.jpg",
        "http://direct.invalid/x.jpg",
        "http://10.0.0.1/x.jpg",
        "http://localhost/x.jpg",
    ]
    with Site({"own.test": own}) as site:
        rows = get(site.hosts(), *urls, attempts=1)
    assert asked == [urls[0]]
    assert [(row["status"], row["error"]) for row in rows] == [
        ("ok", ""),
        ("ok", ""),
        ("failed", "the host name does not resolve"),
        ("refused_address", "not a public address"),
        ("refused_address", "not a public address"),
    ]


def test_download_through_a_proxy_that_cannot_connect_names_it(
    proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, asked = proxy
    monkeypatch.setenv("HTTPS_PROXY", address)
    rows = get(LoopbackHosts(), "https://a.invalid/x.jpg", attempts=1)
    assert asked == ["a.invalid:443"]
    assert rows[0]["error"] == "the proxy answered HTTP 502"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed.getsockname()[1]}")
        proxy_for.cache_clear()
        rows = get(LoopbackHosts(), "https://a.invalid/x.jpg", attempts=1)
    assert rows[0]["error"] == "no connection to the proxy"


# --- networks


def resolving(address: str, port: int) -> Callable[..., Any]:
    """`socket.getaddrinfo` of a resolver that knows one address."""

    def getaddrinfo(host: Any, _port: Any, *_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return getaddrinfo


def test_download_from_a_fake_ip_names_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving("198.18.0.7", 80))
    (row,) = get(LoopbackHosts(), "http://i.example.com/x.jpg", attempts=1)
    assert row["status"] == "refused_address"
    assert "a local proxy answers for DNS (fake IP, 198.18.0.0/15)" in row["error"]
    assert "download.allow_networks" in row["error"]


def test_download_from_an_allowed_network_connects_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def good(request: Request) -> None:
        await request.answer(200, JPEG)

    with Site({"i.example.com": good}) as site:
        monkeypatch.setattr(socket, "getaddrinfo", resolving("127.0.0.1", site.port))
        url = f"http://i.example.com:{site.port}/x.jpg"
        for networks, status in ([], "refused_address"), (["10.0.0.0/8", "127.0.0.0/8"], "ok"):
            (row,) = get(LoopbackHosts(), url, attempts=1, allow_networks=networks)
            assert row["status"] == status
