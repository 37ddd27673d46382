"""The board's client over real HTTP: its rate, retries, robots.txt, redirects and the 18+ gate."""

import itertools
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from small_site import RETRIES, YEAR, Answer, fast_client, rows_of, server

from pttfaces.board.articles import read_articles
from pttfaces.board.client import _MAX_BYTES, PageClient, PageError, RetryPolicy
from pttfaces.board.hosts import HostRules
from pttfaces.board.page_cache import Page, PageCache
from pttfaces.errors import SiteError
from pttfaces.http import LoopbackHosts
from pttfaces.tables import Article


def unparsed(page: Page) -> tuple[Page, bool]:
    return page, True


def test_fetch_when_site_is_busy_waits_as_retry_after_says() -> None:
    answers = iter([(503, {"Retry-After": "1"}, "busy"), (429, {}, "slow"), (200, {}, "here")])

    def answer(path: str) -> Answer:
        return (404, {}, "") if path == "/robots.txt" else next(answers)

    with server(answer) as (base, asked), fast_client() as client:
        assert client.fetch(f"{base}/x").text == "here"
    (_, first, _), (_, second, _) = asked[1:3]
    assert second - first >= 1


def test_get_when_page_stays_busy_is_not_cached(tmp_path: Path) -> None:
    def answer(path: str) -> Answer:
        return (404, {}, "") if path == "/robots.txt" else (500, {}, "Server Too Busy")

    cache = PageCache(tmp_path)
    with server(answer) as (base, asked), fast_client() as client:
        assert client.get(f"{base}/x", lambda page: (page, page.status == 200), cache).status == 500
        assert len(asked) == 1 + RETRIES.attempts
        assert cache.get(f"{base}/x") is None
        articles = [Article(f"M.17040{n:05}.A.000", f"{base}/{n}", "", "", "", 1) for n in range(9)]
        with pytest.raises(
            SiteError, match=r"4 articles before it are not article pages \(status 500"
        ):
            list(read_articles(client, articles, lambda _: cache, HostRules()))


def test_fetch_when_redirect_has_a_large_body_stops_at_the_limit() -> None:
    """requests itself reads the whole body of a redirect before it shows the response."""

    def answer(path: str) -> Answer:
        if path == "/robots.txt":
            return 404, {}, ""
        return 302, {"Location": "/y"}, "x" * (_MAX_BYTES + 1)

    with (
        server(answer) as (base, _),
        fast_client() as client,
        pytest.raises(PageError, match="sends more than 8 MiB"),
    ):
        client.fetch(f"{base}/x")


def test_fetch_respects_robots_txt() -> None:
    rules = "User-agent: *\nDisallow: /bbs/\nCrawl-delay: 0.2\n"
    with (
        server(lambda path: (200, {}, rules)) as (base, asked),
        fast_client() as client,
    ):
        with pytest.raises(SiteError, match=r"robots\.txt disallows"):
            client.fetch(f"{base}/bbs/Test/index.html")
        for _ in range(3):
            client.fetch(f"{base}/else")
    assert {path for path, _, _ in asked} == {"/robots.txt", "/else"}


def test_fetch_when_robots_txt_fails_requests_nothing() -> None:
    def answer(path: str) -> Answer:
        return (503 if path == "/robots.txt" else 200), {}, ""

    with (
        server(answer) as (base, asked),
        fast_client() as client,
        pytest.raises(SiteError, match=r"robots\.txt answers with status 503, .* try again later"),
    ):
        client.fetch(f"{base}/bbs/Test/index.html")
    assert {path for path, _, _ in asked} == {"/robots.txt"}


def test_get_all_keeps_and_uses_the_rate() -> None:
    def answer(path: str) -> Answer:
        time.sleep(0.05)
        return 200, {}, ""

    with server(answer) as (base, asked), PageClient(LoopbackHosts(), 40) as client:
        list(client.get_all(((f"{base}/{n}", None) for n in range(41)), unparsed))
    times = [at for path, at, _ in asked if path != "/robots.txt"]
    assert 1.0 <= times[-1] - times[0] + 0.01 < 1.9  # one after another: 2


def test_fetch_spaces_the_requests_of_each_site() -> None:
    """Hosts of one registered domain share the rate; another site's requests do not wait."""
    names = ("a.photos.test", "b.photos.test", "else.test")

    def ask(*hosts: str) -> float:
        started = time.monotonic()
        for host in hosts:
            client.fetch(f"http://{host}/x")
        return time.monotonic() - started

    with server(lambda path: (200, {}, "")) as (base, _):
        ports = dict.fromkeys(names, int(base.rpartition(":")[2]))
        with PageClient(LoopbackHosts(ports), 4) as client:
            ask(*names)  # each host's robots.txt
            time.sleep(0.25)
            assert ask("a.photos.test", "else.test") < 0.25
            assert ask("b.photos.test", "a.photos.test") >= 0.25


def test_fetch_when_response_drips_raises_site_error() -> None:
    """Each byte comes in time; all of them would take for ever."""
    stop = threading.Event()

    class Dripping(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
            with suppress(OSError):
                while not stop.wait(0.02):
                    self.request.sendall(b"x")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dripping) as dripping:
        dripping.daemon_threads = True
        threading.Thread(target=dripping.serve_forever, args=(0.02,), daemon=True).start()
        retries = RetryPolicy(attempts=2, first_wait_s=0.01, limit_s=0.2)
        with (
            PageClient(LoopbackHosts(), 1000, retries) as client,
            pytest.raises(SiteError, match=r"does not answer \(timed out, 2 attempts\)"),
        ):
            client.fetch(f"http://127.0.0.1:{dripping.server_address[1]}/x")
        stop.set()
        dripping.shutdown()


def test_fetch_when_site_is_down_raises_site_error() -> None:
    with server(lambda path: (200, {}, "")) as (base, _):
        pass
    with (
        fast_client() as client,
        pytest.raises(
            SiteError,
            match=r"does not answer \(connection refused, 3 attempts\); check the network",
        ),
    ):
        client.fetch(f"{base}/bbs/Test/index.html")


def test_fetch_when_the_proxy_is_down_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with (
            fast_client() as client,
            pytest.raises(SiteError, match=r"\(no connection through the proxy of the environment"),
        ):
            client.fetch("https://behind-a-proxy.invalid/x")


def test_fetch_when_host_is_unknown_raises_site_error() -> None:
    with (
        fast_client() as client,
        pytest.raises(SiteError, match=r"host name not found"),
    ):
        client.fetch("https://nowhere.invalid/bbs/Test/index.html")


def test_list_rows_when_page_is_another_sites_raises_site_error(tmp_path: Path) -> None:
    challenge = "<html><title>Just a moment...</title><body>checking your browser</body></html>"
    with (
        server(lambda path: (200, {}, challenge)) as (base, _),
        fast_client() as client,
        pytest.raises(SiteError, match=r"not an index page .*Just a moment"),
    ):
        rows_of(client, base, "Test", YEAR, tmp_path)


def test_list_rows_when_page_is_a_challenge_names_status_and_title(tmp_path: Path) -> None:
    challenge = "<html><title>Just a moment...</title></html>"
    with (
        server(lambda path: (404 if "robots" in path else 403, {}, challenge)) as (base, _),
        fast_client() as client,
        pytest.raises(SiteError, match=r"status 403 \(its title: Just a moment\.\.\.\)"),
    ):
        rows_of(client, base, "Test", YEAR, tmp_path)


def test_get_all_answers_the_gate_once() -> None:
    with (
        server(lambda path: (200, {}, path), gate=True) as (base, asked),
        fast_client() as client,
    ):
        urls = [(f"{base}/bbs/Test/{n}", None) for n in range(30)]
        texts = [page.text for page in client.get_all(urls, unparsed)]
    assert texts == [f"/bbs/Test/{n}" for n in range(30)]
    paths = [path for path, _, _ in asked]
    assert [path for path in paths if path.startswith("POST")] == ["POST /ask/over18"]
    assert paths.count("/bbs/Test/0") == 2  # at the gate and through it
    assert all(paths.count(f"/bbs/Test/{n}") == 1 for n in range(1, 30))


def test_fetch_waits_longer_after_each_failure() -> None:
    answers: Iterator[Answer] = iter(
        [(-1, {}, ""), (500, {}, ""), (507, {}, ""), (200, {}, "here")]
    )

    def answer(path: str) -> Answer:
        return (404, {}, "") if path == "/robots.txt" else next(answers)

    retries = RetryPolicy(attempts=4, first_wait_s=0.1)
    with server(answer) as (base, asked), PageClient(LoopbackHosts(), 1000, retries) as client:
        assert client.fetch(f"{base}/x").text == "here"
    times = [at for _, at, _ in asked[1:]]
    first, second, third = (later - earlier for earlier, later in itertools.pairwise(times))
    assert first >= 0.05  # half of each wait is random
    assert second >= 0.1
    assert third >= 0.2


def test_fetch_when_site_asks_for_a_long_pause_raises_site_error() -> None:
    def answer(path: str) -> Answer:
        return (404, {}, "") if path == "/robots.txt" else (503, {"Retry-After": "3600"}, "")

    with (
        server(answer) as (base, asked),
        fast_client() as client,
        pytest.raises(SiteError, match="asks for a pause of 60 minutes; run the same"),
    ):
        client.fetch(f"{base}/x")
    assert len(asked) == 2


def test_fetch_reads_robots_txt_by_its_standard() -> None:
    rules = (
        "\ufeffUser-agent: pttfaces\nDisallow: /*/private$\nDisallow: /bbs/\nAllow: /bbs/Test/\n"
    )
    with (
        server(lambda path: (200, {}, rules)) as (base, _),
        fast_client() as client,
    ):
        for allowed in ("/bbs/Test/index.html", "/a/private/else"):
            client.fetch(base + allowed)
        for forbidden in ("/bbs/Other/index.html", "/a/private"):
            with pytest.raises(SiteError, match=r"robots\.txt disallows"):
                client.fetch(base + forbidden)


def test_fetch_when_redirects_are_endless_raises_within_the_rate() -> None:
    with (
        server(lambda path: (302, {"Location": "/round"}, "")) as (base, asked),
        PageClient(LoopbackHosts(), 50) as client,
        pytest.raises(SiteError, match="redirects more than 10 times"),
    ):
        started = time.monotonic()  # a busy machine's server may record the first request late
        client.fetch(f"{base}/x")
    assert asked[-1][1] - started >= 0.95 * (len(asked) - 1) / 50


def test_fetch_when_redirect_is_no_url_raises_site_error() -> None:
    def answer(path: str) -> Answer:
        return (404, {}, "") if path == "/robots.txt" else (302, {"Location": "http://["}, "")

    with (
        server(answer) as (base, _),
        fast_client() as client,
        pytest.raises(SiteError, match="/x is, or redirects to, an invalid URL"),
    ):
        client.fetch(f"{base}/x")
