"""Which site a run reads, and hosts that lead to servers on this machine."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import loopback
import pytest
import settings

from pttfaces import source
from pttfaces.errors import ParamsError
from pttfaces.http import LoopbackHosts


@contextmanager
def server() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.headers["Host"].encode() + self.path.encode())

        def log_message(self, *_: object) -> None:
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield running.server_address[1]
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def test_connect_to_a_real_board_leads_named_hosts_to_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with server() as port:
        monkeypatch.setenv("PTTFACES_LOOPBACK_HOSTS", f"Board.test={port}, img.test={port}")
        with (
            source.connect(settings.params(source="ptt")) as hosts,
            loopback.session(hosts) as session,
        ):
            answer = session.get("https://board.test/bbs/x?y=1")
            assert answer.text == "board.test/bbs/x?y=1"
            assert answer.url == "https://board.test/bbs/x?y=1"
            assert hosts.port("img.test") == port
            assert hosts.port("i.imgur.com") is None


def test_connect_to_the_demo_starts_a_board_unless_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = settings.params(source="demo")
    monkeypatch.delenv("PTTFACES_LOOPBACK_HOSTS", raising=False)
    with source.connect(params) as hosts:
        session = loopback.session(hosts)
        assert session.get(f"{source.base_url(params)}/robots.txt").status_code == 200
        assert hosts.port("i.imgur.test")
    monkeypatch.setenv("PTTFACES_LOOPBACK_HOSTS", "www.ptt.test=8081")
    with source.connect(params) as hosts:
        assert hosts == LoopbackHosts({"www.ptt.test": 8081})


@pytest.mark.parametrize("entry", ["img.test", "img.test=", "=80", "img.test=x", "img.test=70000"])
def test_connect_with_an_entry_that_is_not_allowed_raises_params_error(
    monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    monkeypatch.setenv("PTTFACES_LOOPBACK_HOSTS", f"a.test=80,{entry}")
    with (
        pytest.raises(ParamsError, match=f"PTTFACES_LOOPBACK_HOSTS has the entry '{entry}'"),
        source.connect(settings.params(source="inbox")),
    ):
        pass


def test_cache_namespace_of_the_demo_is_not_that_of_the_real_web() -> None:
    demo, ptt = (settings.params(source=kind) for kind in ("demo", "ptt"))
    assert source.cache_namespace(ptt) == source.cache_namespace(settings.params(source="inbox"))
    assert source.cache_namespace(demo) != source.cache_namespace(ptt) == "web"
    other = settings.params(source="demo", demo=settings.group("demo", seed=9))
    assert source.cache_namespace(other) != source.cache_namespace(demo)
    years = settings.params(source="demo", board=settings.group("board", year=[2022, 2024]))
    assert source.cache_namespace(years) == source.cache_namespace(demo)
    assert source.listing_namespace(years) != source.listing_namespace(demo)
    assert source.base_url(ptt) == "https://www.ptt.cc"
    assert source.host_aliases(ptt) == {}
