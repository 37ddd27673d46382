"""How the board's client behaves towards a site, over real HTTP."""

import itertools
import time
from pathlib import Path

import pytest
from small_site import FAST, YEAR, Answer, rows_of, server

from pttfaces.board.articles import read_articles
from pttfaces.board.client import Client, Manners
from pttfaces.board.listing import Article
from pttfaces.board.page_cache import Page, PageStore
from pttfaces.errors import SiteError
from pttfaces.http import LoopbackHosts


def as_it_is(page: Page) -> tuple[Page, bool]:
    return page, True


def test_a_busy_site_is_asked_again_after_the_time_it_names() -> None:
    answers = iter([(503, {"Retry-After": "1"}, "busy"), (429, {}, "slow"), (200, {}, "here")])

    def answer(path: str) -> Answer:
        return (404, {}, "") if path == "/robots.txt" else next(answers)

    with server(answer) as (base, asked), Client(LoopbackHosts(), FAST) as client:
        assert client.fetch(f"{base}/x").text == "here"
    (_, first, _), (_, second, _) = asked[1:3]
    assert second - first >= 1


def test_a_page_that_stays_busy_is_not_kept(tmp_path: Path) -> None:
    def answer(path: str) -> Answer:
        return (404, {}, "") if path == "/robots.txt" else (500, {}, "Server Too Busy")

    store = PageStore(tmp_path)
    with server(answer) as (base, asked), Client(LoopbackHosts(), FAST) as client:
        assert client.get(f"{base}/x", lambda page: (page, page.status == 200), store).status == 500
        assert len(asked) == 1 + FAST.attempts
        assert store.get(f"{base}/x") is None
        articles = [Article(f"M.17040{n:05}.A.000", f"{base}/{n}", "", "", "", 1) for n in range(9)]
        with pytest.raises(SiteError, match=r"4 articles before it are no articles \(status 500"):
            list(read_articles(client, articles, lambda _: store))


def test_robots_txt_is_respected() -> None:
    rules = "User-agent: *\nDisallow: /bbs/\nCrawl-delay: 0.2\n"
    with (
        server(lambda path: (200, {}, rules)) as (base, asked),
        Client(LoopbackHosts(), FAST) as client,
    ):
        with pytest.raises(SiteError, match=r"robots\.txt asks robots to stay away"):
            client.fetch(f"{base}/bbs/Test/index.html")
        for _ in range(3):
            client.fetch(f"{base}/else")
    assert {path for path, _, _ in asked} == {"/robots.txt", "/else"}


def test_a_robots_txt_that_cannot_be_had_forbids_everything() -> None:
    def answer(path: str) -> Answer:
        return (503 if path == "/robots.txt" else 200), {}, ""

    with (
        server(answer) as (base, asked),
        Client(LoopbackHosts(), FAST) as client,
        pytest.raises(SiteError, match=r"robots\.txt answers with status 503, .* try again later"),
    ):
        client.fetch(f"{base}/bbs/Test/index.html")
    assert {path for path, _, _ in asked} == {"/robots.txt"}


def test_the_rate_limit_is_kept_and_used() -> None:
    def answer(path: str) -> Answer:
        time.sleep(0.05)
        return 200, {}, ""

    manners = Manners(rate_per_s=40)
    with server(answer) as (base, asked), Client(LoopbackHosts(), manners) as client:
        list(client.get_all(((f"{base}/{n}", None) for n in range(41)), as_it_is))
    times = [at for path, at, _ in asked if path != "/robots.txt"]
    assert 1.0 <= times[-1] - times[0] + 0.01 < 1.9  # one after another: 2


def test_a_site_that_is_down_ends_in_one_sentence() -> None:
    with server(lambda path: (200, {}, "")) as (base, _):
        pass
    with (
        Client(LoopbackHosts(), FAST) as client,
        pytest.raises(SiteError, match=r"does not answer \(refused, 3 tries\); check the network"),
    ):
        client.fetch(f"{base}/bbs/Test/index.html")


def test_a_name_that_is_not_known_ends_in_one_sentence() -> None:
    with (
        Client(LoopbackHosts(), FAST) as client,
        pytest.raises(SiteError, match=r"its name is not known"),
    ):
        client.fetch("https://nowhere.invalid/bbs/Test/index.html")


def test_another_sites_page_is_no_board(tmp_path: Path) -> None:
    challenge = "<html><title>Just a moment...</title><body>checking your browser</body></html>"
    with (
        server(lambda path: (200, {}, challenge)) as (base, _),
        Client(LoopbackHosts(), FAST) as client,
        pytest.raises(SiteError, match=r"not an index page .*Just a moment"),
    ):
        rows_of(client, base, "Test", YEAR, tmp_path)


def test_a_challenge_page_is_named_by_its_status_and_title(tmp_path: Path) -> None:
    challenge = "<html><title>Just a moment...</title></html>"
    with (
        server(lambda path: (404 if "robots" in path else 403, {}, challenge)) as (base, _),
        Client(LoopbackHosts(), FAST) as client,
        pytest.raises(SiteError, match=r"status 403 \(its title: Just a moment\.\.\.\)"),
    ):
        rows_of(client, base, "Test", YEAR, tmp_path)


def test_the_gate_is_answered_once_for_all_pages() -> None:
    with (
        server(lambda path: (200, {}, path), gate=True) as (base, asked),
        Client(LoopbackHosts(), FAST) as client,
    ):
        urls = [(f"{base}/bbs/Test/{n}", None) for n in range(30)]
        texts = [page.text for page in client.get_all(urls, as_it_is)]
    assert texts == [f"/bbs/Test/{n}" for n in range(30)]
    paths = [path for path, _, _ in asked]
    assert [path for path in paths if path.startswith("POST")] == ["POST /ask/over18"]
    assert paths.count("/bbs/Test/0") == 2  # at the gate and through it
    assert all(paths.count(f"/bbs/Test/{n}") == 1 for n in range(1, 30))


def test_waits_grow_with_every_failed_try() -> None:
    answers = iter([(-1, {}, ""), (500, {}, ""), (507, {}, ""), (200, {}, "here")])

    def answer(path: str) -> Answer:
        return (404, {}, "") if path == "/robots.txt" else next(answers)

    manners = Manners(rate_per_s=1000, attempts=4, first_wait_s=0.1)
    with server(answer) as (base, asked), Client(LoopbackHosts(), manners) as client:
        assert client.fetch(f"{base}/x").text == "here"
    times = [at for _, at, _ in asked[1:]]
    first, second, third = (later - earlier for earlier, later in itertools.pairwise(times))
    assert first >= 0.05  # half of each wait is chance
    assert second >= 0.1
    assert third >= 0.2


def test_a_site_that_wants_to_be_left_alone_for_long_is_left_alone() -> None:
    def answer(path: str) -> Answer:
        return (404, {}, "") if path == "/robots.txt" else (503, {"Retry-After": "3600"}, "")

    with (
        server(answer) as (base, asked),
        Client(LoopbackHosts(), FAST) as client,
        pytest.raises(SiteError, match="asks to be left alone for 60 minutes; run the same"),
    ):
        client.fetch(f"{base}/x")
    assert len(asked) == 2


def test_robots_txt_is_read_as_its_standard_says() -> None:
    rules = (
        "\ufeffUser-agent: pttfaces\nDisallow: /*/private$\nDisallow: /bbs/\nAllow: /bbs/Test/\n"
    )
    with (
        server(lambda path: (200, {}, rules)) as (base, _),
        Client(LoopbackHosts(), FAST) as client,
    ):
        for allowed in ("/bbs/Test/index.html", "/a/private/else"):
            client.fetch(base + allowed)
        for forbidden in ("/bbs/Other/index.html", "/a/private"):
            with pytest.raises(SiteError, match=r"robots\.txt asks robots to stay away"):
                client.fetch(base + forbidden)


def test_redirects_wait_for_their_turn_and_circles_end() -> None:
    with (
        server(lambda path: (302, {"Location": "/round"}, "")) as (base, asked),
        Client(LoopbackHosts(), Manners(rate_per_s=50)) as client,
        pytest.raises(SiteError, match="leads in a circle of redirects"),
    ):
        began = time.monotonic()  # a busy machine's server may note the first request late
        client.fetch(f"{base}/x")
    assert asked[-1][1] - began >= 0.95 * (len(asked) - 1) / 50


def test_a_redirect_to_no_address_ends_in_one_sentence() -> None:
    def answer(path: str) -> Answer:
        return (404, {}, "") if path == "/robots.txt" else (302, {"Location": "http://["}, "")

    with (
        server(answer) as (base, _),
        Client(LoopbackHosts(), FAST) as client,
        pytest.raises(SiteError, match=r"/x (leads to what is no|is not an) address"),
    ):
        client.fetch(f"{base}/x")
