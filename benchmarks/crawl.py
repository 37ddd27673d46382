"""Compares our board client with a plain loop of requests and BeautifulSoup, in one run.

    PYTHONPATH=src python benchmarks/crawl.py

The site is a process of its own on loopback, with pages of 20 rows and articles of 200 pushes as
ptt.cc writes them. Bounds: with responses that take 50 ms and a rate of 20 index pages or 4
articles a second, at least 95 % of the rate is reached; without a limit we read more pages a second
than the loop, whether the site responds at once or after 50 ms. The loop is the simplest client:
one page after another, one session, BeautifulSoup with Python's own parser.

A year of 5,400 cached articles with 0 to 200 pushes is parsed again, as the stage links does where
its settings change: on all cores, at most two minutes; and a tenth of them in one process, with the
thresholds of the garbage collector that Python and our stages have.
"""

import argparse
import asyncio
import gc
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import requests
from aiohttp import web
from bs4 import BeautifulSoup

from pttfaces.board.article_page import parse_article
from pttfaces.board.articles import read_articles
from pttfaces.board.client import PageClient
from pttfaces.board.hosts import HostRules
from pttfaces.board.index_page import parse_index
from pttfaces.board.page_cache import Page, PageCache
from pttfaces.demo import pages
from pttfaces.demo.board import DemoBoard, Post, Push
from pttfaces.http import LoopbackHosts
from pttfaces.tables import Article

URL = "https://www.ptt.cc/bbs/Test/index1.html"
DELAY_S = 0.05
RATES = (("bbs/Test/index", 20), ("article/", 4))  # 4 is the rate of the presets for a real board


def index_text() -> str:
    posts = [Post(f"M.{1704067200 + n}.A.{n:03X}", f"[正妹] {n}", "someone", n) for n in range(60)]
    return pages.index_page(DemoBoard("Test", posts=posts), 2)


def article_text(pushes: int = 200) -> str:
    lines = tuple(f"https://i.imgur.com/{n:07}.jpg" for n in range(10))
    posted = tuple(Push("推", f"reader{n}", "好看", "01/01 08:00") for n in range(pushes))
    post = Post("M.1704067200.A.000", "[正妹]", "someone", 99, lines=lines, pushes=posted)
    return pages.article_page(DemoBoard("Test", posts=[post]), post)


def site(ready: Connection) -> None:
    """A process: index pages below /bbs/, articles below /article/; with ?slow, after DELAY_S."""
    texts = {"bbs": index_text(), "article": article_text()}

    async def answer(request: web.Request) -> web.Response:
        text = texts.get(request.path.split("/")[1])
        if "slow" in request.query:
            await asyncio.sleep(DELAY_S)
        return web.Response(text=text or "", status=200 if text else 404, content_type="text/html")

    async def serve() -> None:
        application = web.Application()
        application.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ready.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())


@contextmanager
def served() -> Iterator[str]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=site, args=(there,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.kill()
        process.join()


def read_pages(urls: list[str], rate: float) -> float:
    """Seconds from the first request to the last page parsed, without robots.txt."""

    def read(page: Page) -> tuple[int, bool]:
        if "/bbs/" in page.url:
            return len(parse_index(page.text, page.url).rows), True
        return len(parse_article(page.text).links), True

    with PageClient(LoopbackHosts(), rate) as client:
        client.fetch(urls[0])
        started = time.perf_counter()
        found = list(client.get_all(((url, None) for url in urls), read))
        seconds = time.perf_counter() - started
    assert all(found)
    return seconds


def loop(urls: list[str]) -> float:
    """The same with a plain loop."""
    with requests.Session() as session:
        session.get(urls[0])
        started = time.perf_counter()
        for url in urls:
            assert read_with(session.get(url).text, "html.parser", "/bbs/" in url)
        return time.perf_counter() - started


def read_with(text: str, parser: str, index: bool) -> int:
    soup = BeautifulSoup(text, parser)
    if not index:
        return len([str(link["href"]) for link in soup.select("#main-content a[href]")])
    rows = []
    for row in soup.select("div.r-ent"):
        cells = [row.select_one(name) for name in ("div.title > a[href]", "div.nrec", "div.author")]
        rows.append([cell.get_text().strip() for cell in cells if cell])
    return len(rows)


def median_ms(work: Callable[[], object], times: int) -> float:
    """Median milliseconds of one call."""
    work()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1000


def parsers(times: int) -> None:
    for kind, text, index in (("index", index_text(), True), ("article", article_text(), False)):
        our_ms = median_ms(
            partial(parse_index, text, URL) if index else partial(parse_article, text), times
        )
        print(f"parsing, {kind} page of {len(text.encode()) / 1024:.0f} KiB:")
        print(f"  ours (lxml, strained)          {our_ms:8.2f} ms")
        for parser in ("html.parser", "lxml"):
            peer_ms = median_ms(partial(read_with, text, parser, index), times)
            print(
                f"  BeautifulSoup, {parser:12}    {peer_ms:8.2f} ms, "
                f"{peer_ms / our_ms:.1f} times ours"
            )


def speed(base: str, count: int, rounds: int, query: str, name: str) -> None:
    for kind in ("bbs/Test/index", "article/"):
        urls = [f"{base}/{kind}{n}.html{query}" for n in range(count)]
        ours, peers = [], []
        for _ in range(rounds):
            peers.append(loop(urls) / count)
            ours.append(read_pages(urls, 1e6) / count)
        our_s, peer_s = statistics.median(ours), statistics.median(peers)
        kind = "index pages" if "index" in kind else "articles   "
        print(
            f"{kind}, {name}: ours {1 / our_s:7.1f} a second, the loop {1 / peer_s:6.1f}: "
            f"{peer_s / our_s:.1f} times (bound: 1)"
        )


def year(count: int, folder: Path) -> None:
    """Parses `count` cached articles on all cores, and a tenth of them in this process."""
    cache = PageCache(folder)
    urls = [f"https://www.ptt.cc/bbs/Test/M.{1704067200 + n}.A.000.html" for n in range(count)]
    texts = [article_text(pushes) for pushes in range(201)]
    for number, url in enumerate(urls):
        cache.put(Page(url, 200, texts[number * 37 % len(texts)]))
    articles = [Article(f"M.{n}.A.000", url, "", "", "", 1) for n, url in enumerate(urls)]
    with PageClient(LoopbackHosts(), 1) as client:  # without a request
        started = time.perf_counter()
        reads = list(read_articles(client, articles, lambda _: cache, HostRules()))
        seconds = time.perf_counter() - started
    assert all(read.status == "ok" and len(read.links.images) == 10 for read in reads)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(
        f"{count} cached articles parsed on {os.cpu_count()} cores: {seconds:.1f} s "
        f"(bound: 120 s for 5,400), processor {usage[1].ru_utime:.1f} s; largest process "
        f"{max(each.ru_maxrss for each in usage) / 1024:.0f} MiB"
    )
    default, ours = (gc.get_threshold()[0], 100_000)
    spent: dict[int, list[float]] = {default: [], ours: []}
    for part in range(4):  # in turn
        for threshold, seconds_spent in spent.items():
            gc.set_threshold(threshold)
            started = time.process_time()
            for url in urls[part : count // 10 : 4]:
                page = cache.get(url)
                assert page is not None
                assert parse_article(page.text).links
            seconds_spent.append(time.process_time() - started)
    gc.set_threshold(default)
    one, other = (sum(each) * 1000 / (count // 10) for each in spent.values())
    print(
        f"  in one process {other:.1f} ms of processor an article with the threshold {ours}, "
        f"{one:.1f} ms with {default}: {one / other:.2f} times"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="compare our board client with a plain loop")
    parser.add_argument("--count", type=int, default=60, help="pages in each timing")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each timing")
    parser.add_argument("--articles", type=int, default=5400, help="cached articles; 0: none")
    options = parser.parse_args()
    with served() as base:
        for kind, rate in RATES:
            urls = [f"{base}/{kind}{n}.html?slow" for n in range(options.count)]
            # The first of them starts one interval after the request before.
            seconds = [read_pages(urls, rate) for _ in range(options.rounds)]
            print(
                f"{kind}*.html, rate {rate} a second, responses after {DELAY_S * 1000:.0f} ms: "
                f"{options.count / statistics.median(seconds) / rate:.1%} of the rate is reached "
                "(bound: 95 %)"
            )
        speed(base, options.count, options.rounds, "", "responses at once    ")
        speed(base, options.count, options.rounds, "?slow", "responses after 50 ms")
    parsers(20)
    if options.articles:
        with tempfile.TemporaryDirectory() as folder:
            year(options.articles, Path(folder))


if __name__ == "__main__":
    main()
