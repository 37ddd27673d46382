"""No good image is lost to its neighbours: dead links, dead hosts, and hosts that ask for patience.

The limits are preset `seed`'s, with all times a fiftieth.
"""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from hostile.site import Handler, Request, Site, image_bytes, options

from pttfaces import tables
from pttfaces.denylist import DenyList
from pttfaces.download import DownloadSummary, download
from pttfaces.http import LoopbackHosts
from pttfaces.tables import Link

SEED: dict[str, Any] = {
    "concurrency": 32,
    "per_host": 8,
    "rate_per_host": 500,
    "attempts": 3,
    "timeout_s": 1.2,
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("pttfaces.download.host_queue._PROBE_S", 0.01)
    monkeypatch.setattr("pttfaces.download.scheduler._MIN_PATIENCE_S", 0.3)
    monkeypatch.setattr("pttfaces.download.scheduler._BACK_OFF_S", 0.02)


def links_to(*urls: str) -> list[Link]:
    return [Link(f"M.{at}", at, url, (url,), "body") for at, url in enumerate(urls)]


def get(links: list[Link], hosts: LoopbackHosts, **changes: Any) -> DownloadSummary:
    return download(links, hosts, "web", options(**{**SEED, **changes}), DenyList())


def rows() -> list[dict[str, str]]:
    return tables.read_csv("data/ledger.csv").to_dict("records")


def statuses() -> list[str]:
    return [row["status"] for row in rows()]


async def good(request: Request) -> None:
    number = int("".join(filter(str.isdigit, request.path)))
    await request.answer(200, image_bytes("JPEG", number, (16, 16)))


async def hangs_up(request: Request) -> None:
    request.reset()


async def stalls(request: Request) -> None:
    await asyncio.sleep(60)


async def stalls_in_the_body(request: Request) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n\xff\xd8\xff")
    await asyncio.sleep(60)


def refuses(code: int) -> Handler:
    async def handler(request: Request) -> None:
        await request.answer(code, b"<html>no")

    return handler


def mixed(dead: Handler) -> Handler:
    """A host whose links that begin with /dead are dead."""

    async def handler(request: Request) -> None:
        await (dead if request.path.startswith("/dead") else good)(request)

    return handler


def shuffled(good_links: int, dead_links: int) -> list[bool]:
    order = [True] * good_links + [False] * dead_links
    random.Random(0).shuffle(order)
    return order


ORDERS = {
    "some in the middle": [True] * 20 + [False] * 3 + [True] * 40,
    "a tenth": shuffled(180, 20),
    "the first ten": [False] * 10 + [True] * 100,
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize(
    "dead", [refuses(403), refuses(500), hangs_up], ids=["403", "500", "reset"]
)
def test_download_from_a_host_with_dead_links_gets_every_good_one(
    order: list[bool], dead: Handler
) -> None:
    urls = [f"http://a.test/{'' if alive else 'dead'}{at}.jpg" for at, alive in enumerate(order)]
    with Site({"a.test": mixed(dead)}) as site:
        get(links_to(*urls), site.hosts())
        assert statuses().count("ok") == order.count(True)
        asked = [request.path for request in site.seen]
    if dead is not hangs_up:  # aiohttp itself asks again there
        again = next(at for at, path in enumerate(asked) if path in asked[:at])
        assert again >= len(order) - 8  # retries come after first requests


def test_download_from_two_hosts_with_dead_and_failing_links_gets_every_good_one() -> None:
    async def failing(request: Request) -> None:
        await (stalls if request.number % 2 else hangs_up)(request)

    kinds = ["good"] * 200 + ["dead"] * 25 + ["failing"] * 6
    random.Random(1).shuffle(kinds)

    async def handler(request: Request) -> None:
        kind = kinds[int("".join(filter(str.isdigit, request.path)))]
        await {"good": good, "dead": refuses(403), "failing": failing}[kind](request)

    with Site({"a.test": handler, "b.test": handler}) as site:
        get(links_to(*(f"http://{'ab'[at % 2]}.test/{at}.jpg" for at in range(231))), site.hosts())
    assert statuses().count("ok") == 200
    assert statuses().count("blocked") == 25


@pytest.mark.parametrize("dead", [hangs_up, stalls, stalls_in_the_body])
def test_download_from_a_dead_host_leaves_most_links_unasked(dead: Handler) -> None:
    """It is probed a few times; the links that were tried keep what was seen."""
    urls = [f"http://b.test/{at}.jpg" for at in range(60)]
    with Site({"a.test": good, "b.test": dead}) as site:
        get(links_to("http://a.test/1", *urls), site.hosts(), timeout_s=0.3)
        asked = {request.path for request in site.seen if request.headers["host"] == "b.test"}
    table = rows()[1:]
    assert rows()[0]["status"] == "ok"
    assert 8 <= len(asked) <= 20
    for row in table:
        was_asked = row["url"].removeprefix("http://b.test") in asked
        expected = ("failed", "timeout") if was_asked else ("unasked",)
        assert row["status"] in expected
        assert bool(row["error"]) == was_asked
        assert row["attempts"] == ("1" if was_asked else "")


def test_download_run_again_asks_first_for_what_was_never_asked() -> None:
    """And then for what failed; the host is up again."""
    is_up = False

    async def handler(request: Request) -> None:
        await (good if is_up else hangs_up)(request)

    urls = [f"http://b.test/{at}.jpg" for at in range(60)]
    with Site({"a.test": good, "b.test": handler}) as site:
        get(links_to("http://a.test/99", *urls), site.hosts(), per_host=1)
        unasked = {row["url"] for row in rows() if row["status"] == "unasked"}
        assert 40 < len(unasked) < 60
        is_up = True
        before = len(site.seen)
        summary = get(links_to("http://a.test/99", *urls), site.hosts(), per_host=1)
        asked = [f"http://b.test{request.path}" for request in site.seen[before:]]
    assert set(asked[: len(unasked)]) == unasked
    assert summary.requested == len(asked) == 60
    assert statuses() == ["ok"] * 61


def test_download_from_a_host_that_comes_back_gets_all() -> None:
    """While other hosts have work, it is probed."""
    down = range(20, 32)
    count = 0

    async def restarts(request: Request) -> None:
        nonlocal count
        count += 1
        await (hangs_up if count in down else good)(request)

    async def unhurried(request: Request) -> None:
        await asyncio.sleep(0.05)
        await good(request)

    urls = [f"http://{'ab'[at % 2]}.test/{at}.jpg" for at in range(200)]
    with Site({"a.test": unhurried, "b.test": restarts}) as site:
        get(links_to(*urls), site.hosts(), per_host=2)
    assert statuses() == ["ok"] * 200


def test_download_from_a_host_that_throttles_for_ever_ends() -> None:
    async def busy(request: Request) -> None:
        await request.answer(429, Retry_After="0")

    urls = [f"http://b.test/{at}.jpg" for at in range(100)]
    with Site({"a.test": good, "b.test": busy}) as site:
        get(links_to("http://a.test/1", *urls), site.hosts())
        assert len(site.times["b.test"]) < 30
    assert set(statuses()[1:]) == {"blocked", "unasked"}


def test_download_from_many_hosts_keeps_few_connections_open() -> None:
    """A process may have about a thousand open files, on macOS 256."""
    writers: dict[int, asyncio.StreamWriter] = {}
    most = 0

    async def counting(request: Request) -> None:
        nonlocal most
        writers[id(request.writer)] = request.writer
        most = max(most, sum(not writer.is_closing() for writer in writers.values()))
        await good(request)
        if request.headers.get("connection") == "close":
            request.writer.close()

    names = [f"h{at}.test" for at in range(400)]
    with Site(dict.fromkeys(names, counting)) as site:
        get(links_to(*(f"http://{names[at % 400]}/{at}.jpg" for at in range(800))), site.hosts())
    assert statuses() == ["ok"] * 800
    assert most < 100
