"""What answers decide: whether a host is down, how many requests its site gets, and how often."""

import asyncio
import random
import sys
from collections import Counter
from typing import Any, cast

import pytest
from hostile.site import options
from yarl import URL

from pttfaces.download.client import Answer, ImageClient
from pttfaces.download.host_queue import DOWN_AFTER, Host, Request, Site
from pttfaces.download.result import Result
from pttfaces.download.scheduler import fetch_all
from pttfaces.http import site_name

GOOD = Answer(Result("ok", http_status=200))
BROKEN = Answer(Result("failed", http_status=500), retry=True)
SILENT = Answer(Result("failed", "no connection"), retry=True, silent=True)
STALLED = Answer(Result("timeout", http_status=200), retry=True, silent=True)
PRIVATE = Answer(Result("refused_address"))
URL_ = URL("http://i.test/")
FIRST = Request("", URL_, URL_)
SECOND = Request("", URL_, URL_, attempt=2)


def throttled(retry_after: float | None) -> Answer:
    return Answer(Result("blocked", http_status=429), retry=True, retry_after=retry_after)


def new_host(count: int = 20, site: Site | None = None, **changes: float) -> Host:
    host = Host(site or Site(options(**changes)))
    for number in range(count):
        host.add(Request(str(number), URL_, URL_))
    if count:
        host.is_ready = True
        host.site.ready.append(host)
    return host


def start_all(site: Site, now: float) -> int:
    """Starts what may start at once; the number of requests under way."""
    while site.delay(now) == 0:
        site.start_next(now)
    return site.running


def end_all(host: Host) -> None:
    host.running = host.site.running = 0


def test_site_delay_without_a_request_is_none() -> None:
    """It waits for a change."""
    assert new_host(0).site.delay(0.0) is None


def test_site_gets_one_request_more_with_every_answer_and_half_when_links_time_out() -> None:
    """One link that times out says nothing; two in a row do."""
    host = new_host(count=200, per_host=12)
    assert start_all(host.site, 10.0) == 8
    for expected in (9, 10, 11, 12, 12):
        host.judge(FIRST, GOOD, 10.0, 10.0)
        assert start_all(host.site, 10.0) == expected
    for expected in (12, 6):
        host.judge(FIRST, STALLED, 11.0 - expected / 100, 11.0 - expected / 100)
        end_all(host)
        assert start_all(host.site, 11.0) == expected


@pytest.mark.parametrize(("most", "first"), [(1, 1), (6, 6), (12, 8), (32, 16)])
def test_site_gets_eight_requests_or_half_its_limit_before_it_answers(
    most: int, first: int
) -> None:
    assert start_all(new_host(count=40, per_host=most).site, 10.0) == first


@pytest.mark.parametrize(
    "answer",
    [GOOD, PRIVATE, BROKEN, *(Answer(Result("x", http_status=code)) for code in (403, 404, 503))],
)
def test_host_judge_of_an_answer_about_the_link_keeps_it_up(answer: Answer) -> None:
    host = new_host(count=200, per_host=9)
    for at in range(50):
        host.judge(FIRST, answer, float(at), float(at))
    assert not host.down
    assert start_all(host.site, 50.0) == 9


def test_host_with_silent_links_in_a_row_is_down_until_it_answers() -> None:
    host = new_host()
    for at in range(DOWN_AFTER):
        assert not host.down
        host.judge(FIRST, STALLED if at % 2 else SILENT, float(at), float(at))
    assert host.down
    host.judge(SECOND, BROKEN, 9.0, 9.0)
    assert not host.down
    assert host.may_start(9.0)


def test_host_judge_of_one_link_s_attempts_counts_one() -> None:
    host = new_host()
    for at in range(9):
        host.judge(SECOND if at else FIRST, SILENT, float(at), float(at))
    assert not host.down


def test_host_that_is_down_is_probed_by_one_request_at_a_time_ever_more_rarely() -> None:
    host = new_host()
    for at in range(DOWN_AFTER):
        host.judge(FIRST, SILENT, 0.0, 1.0)
        assert at < DOWN_AFTER - 1 or host.down
    now, pauses = 1.0, []
    for _ in range(12):
        start = host.start_time()
        assert start is not None
        pauses.append(start - now)
        now = start
        assert host.site.delay(now) == 0 or host.may_start(now)
        host.start_next()
        assert host.start_time() is None
        end_all(host)
        host.judge(FIRST, SILENT, now + 1e-3, now + 1e-3)
    assert pauses[:3] == pytest.approx([0.25, 0.5, 1.0], abs=0.01)
    assert pauses[-1] == pytest.approx(60.0, abs=0.01)


def test_host_start_next_takes_redirects_first_and_retries_last() -> None:
    host = new_host(0)
    host.add(Request("retry", URL_, URL_, attempt=2), not_before=5.0)
    assert host.start_time() == 5.0
    host.add(Request("first", URL_, URL_))
    host.add(Request("redirect", URL_, URL_, redirects=1))
    taken = [host.start_next().address for _ in range(3)]
    assert taken == ["redirect", "first", "retry"]


def test_site_shares_its_rate_and_limit_among_its_hosts_in_turn() -> None:
    site = Site(options(rate_per_host=10, per_host=9))
    hosts = [new_host(5, site) for _ in range(2)]
    order = []
    for at in range(4):
        assert site.delay(float(at)) == 0
        host, _ = site.start_next(float(at))
        order.append(hosts.index(host))
    assert order == [0, 1, 0, 1]
    site.start_next(4.0)
    assert site.delay(4.0) == pytest.approx(0) or site.delay(4.0) == pytest.approx(0.1)
    assert start_all(site, 100.0) <= 9


def test_site_leaves_out_a_host_that_is_down() -> None:
    site = Site(options())
    dead, alive = new_host(5, site), new_host(5, site)
    for _ in range(DOWN_AFTER):
        dead.judge(FIRST, SILENT, 0.0, 0.0)
    assert [site.start_next(0.1)[0] for _ in range(3) if site.delay(0.1) == 0] == [alive] * 3


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("i.imgur.com", "imgur.com"),
        ("imgur.com", "imgur.com"),
        ("images.example.co.uk", "example.co.uk"),
        ("i.meee.com.tw", "meee.com.tw"),
        ("a.blogspot.com", "blogspot.com"),
        ("a.test", "a.test"),
        ("x.a.test", "a.test"),
        ("localhost", "localhost"),
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_site_name_of_a_host_is_its_registered_domain(host: str, site: str) -> None:
    assert site_name(host) == site


def test_site_delay_keeps_the_rate_and_makes_up_for_late_requests() -> None:
    host = new_host(rate_per_host=10)
    host.judge(FIRST, GOOD, 0.0, 0.0)
    host.site.start_next(5.0)
    assert host.site.delay(5.0) == 0  # a tenth of a second may be made up for
    host.site.start_next(5.0)
    assert host.site.delay(5.0) == pytest.approx(0.1)
    assert host.site.delay(5.1) == pytest.approx(0)


def test_site_after_a_429_gets_half_the_rate_and_slowly_more_again() -> None:
    host = new_host(count=200, rate_per_host=10)

    def pause() -> float:
        host.site.start_next(1000.0)
        end_all(host)
        return host.site.delay(1000.0) or 0.0

    pause()
    assert pause() == pytest.approx(0.1)
    host.judge(FIRST, throttled(0.0), 990.0, 991.0)
    pauses = [pause() for _ in range(3)]
    assert pauses[2] - pauses[1] == pytest.approx(0.2)
    for _ in range(100):
        host.judge(FIRST, GOOD, 0.0, 0.0)
    pauses = [pause() for _ in range(3)]
    assert pauses[2] - pauses[1] == pytest.approx(0.1)


def test_site_that_sends_retry_after_rests_that_long() -> None:
    host = new_host()
    host.judge(FIRST, throttled(7.0), 0.0, 0.0)
    assert host.site.delay(0.0) == 7.0
    host.judge(FIRST, throttled(300.0), 8.0, 8.0)
    assert host.site.delay(8.0) == 300.0


def test_site_that_throttles_without_retry_after_rests_longer_each_time() -> None:
    host = new_host()
    host.judge(FIRST, throttled(None), 0.0, 0.0)
    host.judge(FIRST, throttled(None), 0.0, 0.0)  # was under way: the same refusal
    assert host.site.delay(0.0) == 5.0
    host.judge(FIRST, throttled(None), 6.0, 6.0)
    assert host.site.delay(6.0) == 10.0


def test_host_that_throttles_again_and_again_is_down() -> None:
    host = new_host()
    for at in range(DOWN_AFTER):
        assert not host.down
        host.judge(FIRST, throttled(1.0), at + 0.5, at + 0.5)
    assert host.down


def test_host_that_asks_for_a_longer_pause_than_a_run_makes_is_down_until_then() -> None:
    """The run does not wait for it, and a run that lasts that long does not ask it before."""
    host = new_host()
    host.judge(FIRST, throttled(3600.0), 0.0, 1.0)
    assert host.down
    assert host.start_time() == 3601.0
    assert new_host(site=host.site).site.delay(1.0) == 5.0  # other hosts may answer
    host.judge(FIRST, GOOD, 3601.0, 3602.0)
    assert not host.down


@pytest.mark.parametrize("answer", [SILENT, throttled(None), throttled(0.0)])
def test_host_that_is_down_for_days_is_asked_now_and_then(answer: Answer) -> None:
    host = new_host()
    for at in range(3000):
        host.judge(FIRST, answer, at * 300.0, at * 300.0 + 1)
    assert host.down
    assert (host.start_time() or 0.0) <= at * 300.0 + 301


class Counting:
    """A client whose every answer is at hand."""

    async def get(self, url: URL, keep_alive: bool = True) -> Answer:
        await asyncio.sleep(0)
        return SILENT if url.host and url.host.startswith("dead") else GOOD


def steps(links: int, hosts: int, concurrency: int) -> int:
    """How many function calls it takes to schedule two links a host; a third of the hosts fail."""
    names = ["dead" if at % 3 == 0 else "h" for at in range(hosts)]
    urls = [f"http://{names[at % hosts]}{at % hosts}.test/{at}" for at in range(links)]
    count = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    limits = options(concurrency=concurrency, attempts=1)
    client = cast(ImageClient, Counting())
    sys.setprofile(profile)
    try:
        asyncio.run(fetch_all(urls, client, limits, lambda *_: ()))
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("concurrency", [1, 32])
def test_fetch_all_from_many_hosts_takes_time_in_proportion_to_the_links(concurrency: int) -> None:
    few, many = steps(1000, 500, concurrency), steps(4000, 2000, concurrency)
    assert many < 4 * few * 1.2


class Moody:
    """A client whose hosts answer as their name and chance have it."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.asked: Counter[str] = Counter()

    async def get(self, url: URL, keep_alive: bool = True) -> Answer:
        self.asked[str(url)] += 1
        if self._chance.random() < 0.5:
            await asyncio.sleep(self._chance.random() * 1e-3)
        if "dead" in str(url.host):
            return SILENT
        kind = self._chance.choice([GOOD, GOOD, GOOD, BROKEN, SILENT, STALLED, throttled(0.0)])
        if kind is GOOD and self._chance.random() < 0.2:
            target = self._chance.choice(["dead0", "h0", "h1"])
            return Answer(Result("failed", http_status=302), location=f"http://{target}.test/x")
        return kind


@pytest.mark.parametrize("seed", range(20))
def test_fetch_all_of_any_answers_ends_each_address_once(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses without a result were never asked for."""
    for name in ("scheduler._BACK_OFF_S", "scheduler._MIN_PATIENCE_S", "host_queue._PROBE_S"):
        monkeypatch.setattr(f"pttfaces.download.{name}", 1e-3)
    chance = random.Random(seed)
    names = [f"{chance.choice(['h', 'h', 'dead'])}{at}.test" for at in range(chance.randint(1, 9))]
    urls = [f"http://{chance.choice(names)}/{at}" for at in range(chance.randint(1, 60))]
    limits = options(
        concurrency=chance.randint(1, 5), per_host=chance.randint(1, 3), attempts=seed % 3 + 1
    )
    ended: Counter[str] = Counter()

    def on_result(url: str, _: Result) -> list[str]:
        ended[url] += 1
        return [f"{url}-more"] if chance.random() < 0.2 else []

    client = Moody(seed)

    async def run() -> None:
        async with asyncio.timeout(30):
            await fetch_all(urls, cast(ImageClient, client), limits, on_result)

    asyncio.run(run())
    assert set(ended.values()) <= {1}
    asked = {url for url in client.asked if not url.endswith("/x")}
    assert asked <= ended.keys()
    assert set(urls) - ended.keys() <= set(urls) - asked
