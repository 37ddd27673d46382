"""A small site on loopback that answers as a test defines, and records its requests."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from pttfaces.board.article_ids import Span, posted_at
from pttfaces.board.client import PageClient, RetryPolicy
from pttfaces.board.index_page import IndexRow
from pttfaces.board.listing import list_rows
from pttfaces.board.page_cache import IndexPageCache
from pttfaces.demo import pages
from pttfaces.demo.board import DemoBoard, Post
from pttfaces.demo.site import HOSTS, serve
from pttfaces.http import LoopbackHosts

BASE = "https://www.ptt.test"  # the demo board
RETRIES = RetryPolicy(attempts=3, first_wait_s=0.01)
YEAR = Span.of_days(2024, "0101", "1231")
Answer = tuple[int, dict[str, str], str]


def fast_client(
    hosts: LoopbackHosts | None = None,
    credentials: Callable[[str], Mapping[str, str]] | None = None,
) -> PageClient:
    """A client with a high rate and short waits."""
    return PageClient(hosts or LoopbackHosts(), 1000, RETRIES, credentials)


@contextmanager
def demo_client(board: DemoBoard) -> Iterator[PageClient]:
    """A client of the demo site, which serves a board at BASE."""
    with serve([board]) as port, fast_client(LoopbackHosts(dict.fromkeys(HOSTS, port))) as client:
        yield client


@contextmanager
def server(
    answer: Callable[[str], Answer], gate: bool = False, by_host: bool = False
) -> Iterator[tuple[str, list[tuple[str, float, str]]]]:
    """Serves a site; yields its address and the list of (path, time, User-Agent) of its requests.

    A status below 0 closes the connection. gate: asks for the reader's age, once a session.
    by_host: `answer` and the list get HOST/PATH in place of /PATH.
    """
    asked: list[tuple[str, float, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if by_host:
                self.path = f"{self.headers['Host']}{self.path}"
            asked.append((self.path, time.monotonic(), self.headers["User-Agent"]))
            outside = gate and "over18=1" not in self.headers.get("Cookie", "")
            if outside and self.path.startswith("/bbs/"):
                self.send(302, {"Location": f"/ask/over18?from={self.path}"}, "")
            elif outside and self.path.startswith("/ask/over18"):
                self.send(200, {}, pages.age_page(self.path.partition("=")[2]))
            else:
                self.send(*answer(self.path))

        def do_POST(self) -> None:
            asked.append((f"POST {self.path}", time.monotonic(), self.headers["User-Agent"]))
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            welcome = {"Location": form["from"][0], "Set-Cookie": "over18=1; Path=/"}
            self.send(302, welcome if form.get("yes") == ["yes"] else {"Location": "/"}, "")

        def send(self, status: int, headers: dict[str, str], text: str) -> None:
            if status < 0:
                self.close_connection = True
                return
            body = text.encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}", asked
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def without_gate(board: DemoBoard) -> Callable[[str], Answer]:
    """Answers as a board that does not ask for the reader's age."""

    def answer(path: str) -> Answer:
        _, index, name = path.removesuffix(".html").rpartition("/index")
        if index:
            number, last = int(name or pages.page_count(board)), pages.page_count(board)
            return (200, {}, pages.index_page(board, number)) if number <= last else (404, {}, "")
        post = next((one for one in board.posts if path.endswith(f"/{one.id}.html")), None)
        return (200, {}, pages.article_page(board, post)) if post else (404, {}, "nothing")

    return answer


def rows_of(client: PageClient, base: str, board: str, span: Span, folder: Path) -> list[IndexRow]:
    """A listing that `folder` resumes, on a board where nothing is settled."""
    return list_rows(
        client, base, board, span, folder, IndexPageCache(folder / "ranges"), settled=0
    )


def thirty_years(posts: int) -> DemoBoard:
    """A board from 1996 to 2025, ever busier; some posts are deleted, once a whole page of them."""
    start, end = 820454400, 1767196800
    board = DemoBoard("Test")
    for index in range(posts):
        seconds = start + int((end - start) * (index / posts) ** 0.7)
        deleted = index % 37 == 5 or 400 <= index < 420
        board.posts.append(post_at(seconds, index, "deleted" if deleted else "ok"))
    board.pinned = [post_at(start, 0xFFF), post_at(end, 0xFFE)]
    return board


def post_at(seconds: int, number: int, page: str = "ok") -> Post:
    title = "(本文已被刪除) [a]" if page == "deleted" else f"[正妹] {number}"
    return Post(f"M.{seconds}.A.{number % 4096:03X}", title, "someone", 5, page=page)


def of_year(board: DemoBoard, span: Span = YEAR) -> list[str]:
    return [p.id for p in board.posts if p.page != "deleted" and posted_at(p.id) in span]
