"""The door: made-up names lead to the loopback, all others out, and nobody sees a port."""

import email.utils
import http.server
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.http import USER_AGENT, LoopbackHosts, retry_after


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/here?a=1")
            self.send_header("Set-Cookie", "seen=1; Path=/")
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


@pytest.fixture
def door() -> Iterator[LoopbackHosts]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield LoopbackHosts({"www.board.test": server.server_address[1]})
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_session_of_a_loopback_host_is_answered_on_this_machine(
    door: LoopbackHosts, scheme: str
) -> None:
    with door.session() as session:
        response = session.get(f"{scheme}://www.board.test/page?x=1")
    assert response.text == f"/page?x=1|www.board.test|{USER_AGENT}|"
    assert response.url == f"{scheme}://www.board.test/page?x=1"


def test_session_of_a_loopback_host_keeps_redirects_and_cookies_with_its_name(
    door: LoopbackHosts,
) -> None:
    with door.session() as session:
        response = session.get("https://www.board.test/moved")
        assert response.url == "https://www.board.test/here?a=1"
        assert response.text.endswith("|seen=1")
        assert [cookie.domain for cookie in session.cookies] == ["www.board.test"]


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
