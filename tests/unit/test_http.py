"""What both web clients share: names on loopback, certificates, proxies, contact."""

import asyncio
import email.utils
import http.server
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from pttfaces import weights
from pttfaces.board.client import PageClient, RetryPolicy
from pttfaces.errors import ParamsError, SiteError, WeightsError
from pttfaces.http import (
    HttpClient,
    LoopbackHosts,
    RefusedAddressError,
    proxy_for,
    retry_after,
    ssl_context,
    user_agent,
)

NOWHERE = LoopbackHosts()


def get(hosts: LoopbackHosts, *urls: str, networks: tuple[str, ...] | None = None) -> list[str]:
    """The texts of URLs, requested one after the other by one client."""

    async def read() -> list[str]:
        texts = []
        async with HttpClient(hosts, networks, cookies=True) as client:
            for url in urls:
                async with client.request("GET", URL(url)) as response:
                    texts.append(await response.text())
        return texts

    return asyncio.run(read())


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/here?a=1")
            self.send_header("Set-Cookie", "seen=1; Path=/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = "|".join(
            [
                self.path,
                self.headers["Host"],
                self.headers["User-Agent"],
                self.headers["Cookie"] or "",
            ]
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _default_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PTTFACES_CONTACT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def door() -> Iterator[LoopbackHosts]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield LoopbackHosts({"www.board.test": server.server_address[1]})
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_http_client_of_a_loopback_host_is_answered_on_this_machine(
    door: LoopbackHosts, scheme: str
) -> None:
    (text,) = get(door, f"{scheme}://www.board.test/page?x=1")
    assert text == f"/page?x=1|www.board.test|{user_agent()}|"


def test_http_client_of_loopback_hosts_keeps_the_cookies_of_each(door: LoopbackHosts) -> None:
    (port,) = door.ports.values()
    hosts = LoopbackHosts({"www.board.test": port, "else.test": port})
    moved, here, elsewhere = get(
        hosts, "http://www.board.test/moved", "http://www.board.test/here", "http://else.test/here"
    )
    assert moved == ""  # a redirect as it comes
    assert here.endswith("|seen=1")
    assert elsewhere.endswith("|")


def test_resolve_of_any_other_host_changes_nothing(door: LoopbackHosts) -> None:
    assert door.resolve("https://www.ptt.cc/bbs/x?y=1") == ("https://www.ptt.cc/bbs/x?y=1", {})
    assert LoopbackHosts().resolve("http://www.board.test/") == ("http://www.board.test/", {})


def test_resolve_of_an_upper_case_name_without_a_path_finds_its_host(door: LoopbackHosts) -> None:
    address, headers = door.resolve("HTTPS://WWW.Board.TEST")
    assert address.startswith("http://127.0.0.1:")
    assert address.endswith("/")
    assert headers["Host"].lower() == "www.board.test"


@given(st.text(max_size=40))
def test_retry_after_of_any_text_is_none_or_not_negative(text: str) -> None:
    wait = retry_after(text)
    assert wait is None or wait >= 0


def test_retry_after_of_a_number_or_a_date_gives_seconds() -> None:
    """Of all else it gives None."""
    assert retry_after(" 7 ") == 7
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert retry_after(date) == pytest.approx(100, abs=5)
    assert retry_after("Mon, 01 Jan 2024 00:00:00 GMT") == 0
    for nonsense in ("", "-5", "nan", "inf", "soon", "٣", "Mon, 99 Jan 2024 00:00:00 GMT"):
        assert retry_after(nonsense) is None


@pytest.mark.parametrize(
    "contact", ["me@lab.test", "mailto:me@lab.test", "https://lab.test/project?x=1"]
)
def test_user_agent_names_the_contact(contact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "contact" not in user_agent()
    monkeypatch.setenv("PTTFACES_CONTACT", contact)
    assert user_agent().startswith("pttfaces/")
    assert user_agent().endswith(f"contact: {contact})")


@pytest.mark.parametrize(
    "contact", ["me", "two words@lab.test", "a@b.test\r\nX: y", "http://x", "é@b.c"]
)
def test_user_agent_when_contact_is_none_raises_params_error(
    contact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTTFACES_CONTACT", contact)
    with pytest.raises(ParamsError, match=r"PTTFACES_CONTACT is .* expected a mail address"):
        user_agent()


@contextmanager
def raw_server(
    answer: type[socketserver.BaseRequestHandler], context: ssl.SSLContext | None = None
) -> Iterator[int]:
    """A server that answers each connection with `answer`'s bytes; yields its port."""

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def get_request(self) -> tuple[socket.socket, object]:
            sock, address = super().get_request()
            return (context.wrap_socket(sock, server_side=True) if context else sock), address

        def handle_error(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


class Raw(socketserver.BaseRequestHandler):
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    drips = b""

    def handle(self) -> None:
        self.request.recv(65536)
        self.request.sendall(self.first)
        while self.drips:
            time.sleep(0.02)
            self.request.sendall(self.drips)


class DrippingHead(Raw):
    first, drips = b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"


class DrippingBody(Raw):
    first, drips = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"x"


class DrippingWithoutLength(Raw):
    first, drips = b"HTTP/1.1 200 OK\r\n\r\n", b"x"


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """A certificate authority whose certificate is in the file ca.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return authority


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.mark.parametrize("kind", [DrippingHead, DrippingBody, DrippingWithoutLength])
@pytest.mark.parametrize("tls", [False, True])
def test_page_client_ends_a_response_that_drips(
    kind: type[Raw],
    tls: bool,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each wait for the next byte is short, so a limit of each would wait for ever."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = server_context(authority) if tls else None
    retries = RetryPolicy(attempts=1, limit_s=0.3)
    with (
        raw_server(kind, context) as port,
        PageClient(NOWHERE, 1000, retries) as client,
        pytest.raises(SiteError, match="timed out"),
    ):
        client.fetch(f"{'https' if tls else 'http'}://localhost:{port}/")


def test_page_client_ends_a_response_that_drips_on_a_connection_used_again() -> None:
    class Second(Raw):
        def handle(self) -> None:
            super().handle()
            self.request.recv(65536)
            self.request.sendall(DrippingBody.first)
            while True:
                time.sleep(0.02)
                self.request.sendall(b"x")

    retries = RetryPolicy(attempts=1, limit_s=0.3)
    with (
        raw_server(Second) as port,
        PageClient(NOWHERE, 1000, retries) as client,
        pytest.raises(SiteError, match=r"/x does not answer \(timed out"),
    ):
        client.fetch(f"http://127.0.0.1:{port}/x")  # after robots.txt


def test_http_client_trusts_the_bundle_of_the_environment(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raw_server(Raw, server_context(authority)) as port:
        url = f"https://localhost:{port}/"
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            get(NOWHERE, url)
        for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
            assert get(NOWHERE, url) == ["hello"]
            monkeypatch.delenv(name)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_weights_are_downloaded_with_the_bundle_of_the_environment(
    name: str, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "net.bin"
    with raw_server(Raw, server_context(authority)) as port:
        url = f"https://localhost:{port}/net.bin"
        with pytest.raises(WeightsError, match="no connection"):
            weights.find("Net", None, [target], url, None)
        monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
        assert weights.find("Net", None, [target], url, None).read_bytes() == b"hello"


def test_ssl_context_trusts_certifis_certificates_and_checks_names() -> None:
    context = ssl_context()
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.cert_store_stats()["x509_ca"] > 50


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_ssl_context_when_bundle_has_no_certificates_raises_params_error(
    name: str, content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content:
        (tmp_path / "ca.pem").write_text(content)
    monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    with pytest.raises(ParamsError, match=f"variable {name} is .*ca.pem"):
        ssl_context()


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Sets variables of the environment, which `proxy_for` else reads once."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    proxy_for.cache_clear()
    yield monkeypatch
    proxy_for.cache_clear()


def test_proxy_for_reads_the_environment(proxies: pytest.MonkeyPatch) -> None:
    proxies.setenv("HTTPS_PROXY", "http://user:secret@proxy.test:3128")
    proxies.setenv("http_proxy", "proxy.test:8080")
    proxies.setenv("NO_PROXY", "direct.test,.inside.test")
    assert proxy_for("https://a.test/x?y=1") == "http://user:secret@proxy.test:3128"
    assert proxy_for("http://a.test/x") == "http://proxy.test:8080"
    for direct in ("direct.test", "a.inside.test", "localhost", "127.0.0.1:8000", "[::1]:80"):
        assert proxy_for(f"https://{direct}/x") is None


def test_proxy_for_of_another_kind_raises_params_error(proxies: pytest.MonkeyPatch) -> None:
    proxies.setenv("ALL_PROXY", "socks5://user:secret@proxy.test:1080")
    with pytest.raises(ParamsError, match="of the kind socks5://; expected http") as raised:
        proxy_for("https://socks.test/")
    assert "secret" not in str(raised.value)


def test_http_client_asks_the_proxy_and_never_for_a_loopback_host(
    door: LoopbackHosts, proxies: pytest.MonkeyPatch
) -> None:
    (port,) = door.ports.values()
    proxies.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    through, here = get(
        door, "http://elsewhere.invalid/page", "http://www.board.test/page", networks=()
    )
    assert through.startswith("http://elsewhere.invalid/page|elsewhere.invalid|")
    assert here.startswith("/page|www.board.test|")
    with pytest.raises(RefusedAddressError, match="not a public address"):
        get(door, "http://10.0.0.1/page", networks=())


def test_http_client_through_a_proxy_checks_the_hosts_own_certificate(
    authority: trustme.CA, tmp_path: Path, proxies: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    class Tunnel(socketserver.BaseRequestHandler):
        """A proxy that connects every name to one server."""

        def handle(self) -> None:
            asked.append(self.request.recv(65536).split()[1])
            with socket.create_connection(("127.0.0.1", port)) as target:
                self.request.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                pair = (self.request, target)
                forth = threading.Thread(target=copy, args=pair, daemon=True)
                forth.start()
                copy(target, self.request)

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    proxies.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("behind.invalid").configure_cert(context)
    with raw_server(Raw, context) as port, raw_server(Tunnel) as proxy:
        proxies.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
        assert get(NOWHERE, "https://behind.invalid/x", networks=()) == ["hello"]
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            get(NOWHERE, "https://other.invalid/x", networks=())
    assert asked == [b"behind.invalid:443", b"other.invalid:443"]


def test_http_client_sends_no_passwords_of_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine www.board.test login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    asked: list[bytes] = []

    class Recording(Raw):
        def handle(self) -> None:
            asked.append(self.request.recv(65536))
            self.request.sendall(self.first)

    with raw_server(Recording) as port:
        get(LoopbackHosts({"www.board.test": port}), "http://www.board.test/page")
    assert b"authorization" not in asked[0].lower()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "private.test", "mapped.test"])
def test_http_client_for_public_addresses_connects_to_no_other(
    host: str, door: LoopbackHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = socket.getaddrinfo, []
    names = {"private.test": "192.168.7.7", "mapped.test": "::ffff:127.0.0.1"}

    def getaddrinfo(name: str, *rest: object, **options: object) -> object:
        asked.append(name)
        return real(names.get(name, name), *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    (port,) = door.ports.values()
    with pytest.raises(aiohttp.ClientConnectorError) as refused:
        get(door, f"http://{host}:{port}/page", networks=())
    assert str(refused.value.os_error) == "not a public address"
    assert get(door, "http://www.board.test/page", networks=())  # a host of this machine, by name
    assert asked == ([] if host == "127.0.0.1" else [host])
    assert get(door, f"http://127.0.0.1:{port}/page", networks=("127.0.0.0/8",))
