"""Listing a board over real HTTP: the demo site, and small servers that misbehave on purpose."""

import gzip
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from small_site import (
    FAST,
    YEAR,
    Answer,
    of_year,
    plainly,
    post_at,
    rows_of,
    server,
    thirty_years,
)

from pttfaces.board.article_ids import Span, posted_at
from pttfaces.board.articles import count, permitted, read_articles, sentence
from pttfaces.board.client import Client
from pttfaces.board.index import Row
from pttfaces.board.listing import Article, choose, list_rows
from pttfaces.board.page_cache import PageStore, Shelf
from pttfaces.demo.board import World, make_world, picture_key
from pttfaces.demo.site import HOSTS, serve
from pttfaces.denylist import DenyList
from pttfaces.errors import DataError, SiteError
from pttfaces.http import LoopbackHosts

BASE = "https://www.ptt.test"


@contextmanager
def client_of(world: World) -> Iterator[Client]:
    with serve(world) as port, Client(LoopbackHosts(dict.fromkeys(HOSTS, port)), FAST) as client:
        yield client


def listed(client: Client, folder: Path, span: Span = YEAR) -> list[str]:
    rows = rows_of(client, BASE, "Test", span, folder)
    return [row.id for row in rows if row.id and posted_at(row.id) in span]


def test_the_year_is_found_exactly_whatever_is_posted_meanwhile(tmp_path: Path) -> None:
    world = thirty_years(20 * 300)
    wanted, board, lock = of_year(world), plainly(world), threading.Lock()

    def answer(path: str) -> Answer:
        with lock:
            for _ in range(7):
                world.posts.append(post_at(1767196800 + len(world.posts), len(world.posts)))
            return board(path)

    with server(answer) as (base, asked), Client(LoopbackHosts(), FAST) as client:
        rows = rows_of(client, base, "Test", YEAR, tmp_path)
    assert [row.id for row in rows if row.id and posted_at(row.id) in YEAR] == wanted
    paths = Counter(path for path, _, _ in asked)
    assert set(paths.values()) == {1}
    # robots.txt, the newest page at the beginning and at the end, 2^9 pages for either edge
    assert len(paths) <= 3 + 2 * 10 + len(wanted) / 20 + 3


def test_an_edge_of_a_board_of_4000_pages_is_found_by_16_pages(tmp_path: Path) -> None:
    world = thirty_years(20 * 4000)
    last_days = Span(posted_at(world.posts[-50].id) or 0, YEAR.end * 2)
    with server(plainly(world)) as (base, asked), Client(LoopbackHosts(), FAST) as client:
        rows = rows_of(client, base, "Test", last_days, tmp_path)
    assert [row.id for row in rows if row.id][-48:] == of_year(world, last_days)[-48:]
    # Beside the edge: robots.txt, the newest page at the end, and the pages of the last days.
    assert len(asked) - 2 - 3 <= 16


@pytest.mark.parametrize("year", [1995, 1996, 2006, 2025, 2026])
def test_years_at_the_boards_ends_and_beyond(year: int, tmp_path: Path) -> None:
    world = thirty_years(20 * 61 + 7)
    span = Span.of_days(year, "0101", "1231")
    with client_of(world) as client:
        assert listed(client, tmp_path, span) == of_year(world, span)


def test_a_single_day_counts_in_the_boards_own_time(tmp_path: Path) -> None:
    day = Span.of_days(2024, "0229", "0229")
    posts = [post_at(s, i) for i, s in enumerate((day.start - 1, day.start, day.end - 1, day.end))]
    with client_of(World("Test", posts=posts)) as client:
        assert listed(client, tmp_path, day) == [posts[1].id, posts[2].id]


def test_posts_that_arrive_or_are_purged_meanwhile_cost_nothing(tmp_path: Path) -> None:
    world = thirty_years(20 * 120)
    wanted = of_year(world)
    ended = threading.Event()

    def change() -> None:
        for number in range(400):
            world.posts.append(post_at(1767196800 + number, number))
            if number % 10 == 0:
                del world.posts[number]  # an old post: every younger row moves
            if ended.wait(0.002):
                return

    with client_of(world) as client:
        writer = threading.Thread(target=change)
        writer.start()
        found = listed(client, tmp_path)
        ended.set()
        writer.join()
    assert found == wanted


@pytest.mark.parametrize("year", [2024, 2025])
def test_a_board_that_loses_pages_meanwhile_is_read_again(year: int, tmp_path: Path) -> None:
    world = thirty_years(20 * 120)
    span = Span.of_days(year, "0101", "1231")
    wanted, board, requests = of_year(world, span), plainly(world), iter(range(10**6))

    def answer(path: str) -> Answer:
        if next(requests) == 14:
            del world.posts[0:90]
        return board(path)

    with server(answer) as (base, _), Client(LoopbackHosts(), FAST) as client:
        rows = rows_of(client, base, "Test", span, tmp_path)
    assert [row.id for row in rows if row.id and posted_at(row.id) in span] == wanted


def test_rows_that_moved_behind_the_reader_are_read_again(tmp_path: Path) -> None:
    world = thirty_years(20 * 120)
    wanted = of_year(world)
    middle = world.posts.index(next(p for p in world.posts if p.id == wanted[len(wanted) // 2]))
    with client_of(world) as client:
        rows_of(client, BASE, "Test", YEAR, tmp_path)
        # As if killed before this page was read; then ten posts go, so that half of its rows stand
        # on the page below, which is kept as it was.
        for path in tmp_path.glob("pages/*/*"):
            url = json.loads(gzip.decompress(path.read_bytes()))["url"]
            if url.endswith(f"/index{middle // 20 + 1}.html"):
                path.unlink()
        del world.posts[0:10]
        assert listed(client, tmp_path) == wanted


def test_no_row_comes_twice_even_if_posts_are_purged_all_the_time(tmp_path: Path) -> None:
    world = thirty_years(20 * 120)
    board, lock = plainly(world), threading.Lock()

    def answer(path: str) -> Answer:
        with lock:
            del world.posts[0]
            return board(path)

    with server(answer) as (base, _), Client(LoopbackHosts(), FAST) as client:
        rows = rows_of(client, base, "Test", YEAR, tmp_path)
    assert max(Counter(row.id for row in rows if row.id).values()) == 1


def test_a_board_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with (
        client_of(thirty_years(30)) as client,
        pytest.raises(SiteError, match=r"no board Nowhere .*check board.name"),
    ):
        rows_of(client, BASE, "Nowhere", YEAR, tmp_path)


def test_an_empty_board_is_named(tmp_path: Path) -> None:
    with client_of(World("Test")) as client, pytest.raises(DataError, match=r"Test .* is empty"):
        rows_of(client, BASE, "Test", YEAR, tmp_path)


def test_each_row_left_out_has_its_reason(tmp_path: Path) -> None:
    world = make_world(3, 30, "Test", 2024)
    with client_of(world) as client:
        rows = rows_of(client, BASE, "Test", YEAR, tmp_path)
    articles, left_out = choose(rows, BASE, YEAR, None, DenyList())
    assert len(articles) == 30
    assert left_out["announcement"] == 4
    assert left_out["deleted"] == 4
    assert left_out["no_title"] == 2
    assert left_out["no_popularity"] == 6
    assert left_out["other_date"] + len(articles) + 16 == len(rows)
    assert [article.id for article in articles] == sorted(
        (article.id for article in articles), key=lambda name: int(name.split(".")[1])
    )

    with_blank, left_out = choose(rows, BASE, YEAR, 0, DenyList())
    negative = sum(article.nrec < 0 for article in articles)
    assert left_out["below_min_nrec"] == negative > 0
    assert len(with_blank) == 30 - negative + 6

    deny = DenyList(
        {"author": frozenset({articles[0].author}), "article": frozenset({articles[1].id})}
    )
    assert choose(rows, BASE, YEAR, None, deny)[1]["denied"] >= 2


def test_a_row_that_leads_to_no_article_that_is_known_is_counted() -> None:
    row = Row(None, "/bbs/Test/X.1.html", "[正妹]", "someone", 5)
    articles, left_out = choose([row], BASE, YEAR, None, DenyList())
    assert (articles, left_out["unknown_id"], left_out["deleted"]) == ([], 1, 0)


def test_a_year_that_goes_on_is_brought_up_to_date_without_reading_it_all(tmp_path: Path) -> None:
    world = thirty_years(20 * 300)
    wanted, settled = of_year(world), YEAR.start + 300 * 86400
    of_later = (settled + 40 * 86400, YEAR.end)
    later = [p for p in world.posts if of_later[0] <= (posted_at(p.id) or 0) < of_later[1]]
    del world.posts[world.posts.index(later[0]) :]  # not posted yet
    shelf = Shelf(tmp_path / "shelf")

    def read(base: str, moment: int) -> list[Row]:
        with Client(LoopbackHosts(), FAST) as client:
            work = tmp_path / f"work-{moment}"
            return list_rows(client, base, "Test", YEAR, work, shelf, moment)

    with server(plainly(world)) as (base, asked):
        before = read(base, settled)
        whole = len(asked)
        world.posts += later
        young = world.posts.index(later[0]) - 1
        world.posts[young] = replace(world.posts[young], nrec=77)
        asked.clear()
        rows = read(base, settled + 60 * 86400)
        assert [row.id for row in rows if row.id and posted_at(row.id) in YEAR] == wanted
        assert len(before) < len(rows)
        assert next(row.nrec for row in rows if row.id == world.posts[young].id) == 77
        assert len(asked) < whole  # fewer pages, though the year has grown
        ages = [posted_at(row.id) or 0 for row in rows if row.id]
        index_pages = {path for path, _, _ in asked if "/index" in path}
        assert len(index_pages) <= 1 + 9 + 1 + 2 + sum(settled <= age for age in ages) / 20
        # Over and settled, it costs nothing, under other last days neither.
        read(base, YEAR.end + 1)
        asked.clear()
        assert read(base, YEAR.end + 1) == rows
        assert not asked


# ------------------------------------------------------------------------------- reading articles


def test_articles_are_read_with_their_status(tmp_path: Path) -> None:
    world = make_world(3, 30, "Test", 2024)
    with client_of(world) as client:
        rows = rows_of(client, BASE, "Test", YEAR, tmp_path / "crawl")
        articles, _ = choose(rows, BASE, YEAR, None, DenyList())
        reads = list(read_articles(client, articles, lambda _: PageStore(tmp_path / "links")))
    statuses = Counter(read.status for read in reads)
    assert statuses == {"ok": 26, "gone": 1, "empty": 1, "truncated": 1, "malformed": 1}
    assert [read.article for read in reads] == articles
    counts = count(reads)
    assert counts["unresolved"] == 3
    assert counts["repeated"]
    assert sentence(reads).endswith("; 2 articles could not be read (data/articles_read.csv).")
    posted = {url for read in reads for link in read.links.pictures if (url := link.url)}
    assert not {url for url in posted if "cache.ptt" in url}
    # Every address that was made out leads to a picture of the site.
    assert {picture_key(url) for url in posted} <= set(world.pictures)


def test_pushes_and_denied_links_are_left_out(tmp_path: Path) -> None:
    world = make_world(3, 30, "Test", 2024)
    with client_of(world) as client:
        rows = rows_of(client, BASE, "Test", YEAR, tmp_path / "crawl")
        articles, _ = choose(rows, BASE, YEAR, None, DenyList())
        (read,) = read_articles(client, articles[:1], lambda _: PageStore(tmp_path / "links"))
    (pushed,) = [link for link in read.links.pictures if link.place == "push"]
    others = tuple(link for link in read.links.pictures if link.place == "body")
    assert permitted(read, True, DenyList())[0] == read
    assert permitted(read, False, DenyList())[0].links.pictures == others
    for kind, value in (("author", pushed.author), ("url", pushed.posted), ("url", pushed.url)):
        deny = DenyList({kind: frozenset({value or ""})})
        allowed, taken = permitted(read, True, deny)
        assert (allowed.links.pictures, taken) == (others, 1)


def test_a_board_without_a_gate_works_and_learns_who_reads(tmp_path: Path) -> None:
    world = thirty_years(20 * 40)
    with server(plainly(world)) as (base, asked), Client(LoopbackHosts(), FAST) as client:
        rows = rows_of(client, base, "Test", YEAR, tmp_path)
    assert [r.id for r in rows if r.id and posted_at(r.id) in YEAR] == of_year(world)
    assert all(agent.startswith("pttfaces/") for _, _, agent in asked)


def test_a_listing_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    world = thirty_years(20 * 150)
    board, answered = plainly(world), iter(range(10**6))
    breaks_at = 10**6

    def answer(path: str) -> Answer:
        return board(path) if next(answered) < breaks_at else (403, {}, "no more")

    with server(answer) as (base, asked):
        with Client(LoopbackHosts(), FAST) as client:
            undisturbed = rows_of(client, base, "Test", YEAR, tmp_path / "undisturbed")
        whole, breaks_at = len(asked), 2 * len(asked) - 6
        with Client(LoopbackHosts(), FAST) as client, pytest.raises(SiteError, match="status 403"):
            rows_of(client, base, "Test", YEAR, tmp_path / "stopped")
        breaks_at = 10**6
        asked.clear()
        with Client(LoopbackHosts(), FAST) as client:
            assert rows_of(client, base, "Test", YEAR, tmp_path / "stopped") == undisturbed
    # robots.txt once more, and what was refused or not yet asked for: six of the first listing
    assert len(asked) == 1 + 6 < whole


@pytest.mark.parametrize("trouble", [(200, "<title>Please log in</title>"), (404, "not found")])
@pytest.mark.parametrize("place", ["/index.html", "/index20.html"])
def test_a_page_that_was_no_list_is_asked_for_again(
    trouble: tuple[int, str], place: str, tmp_path: Path
) -> None:
    world = thirty_years(20 * 40)
    board, well = plainly(world), False

    def answer(path: str) -> Answer:
        wrong = path.endswith(place) and not well
        return (trouble[0], {}, trouble[1]) if wrong else board(path)

    everything = Span.of_days(1996, "0101", "1231")
    everything = Span(everything.start, YEAR.end)
    with server(answer) as (base, _):
        with Client(LoopbackHosts(), FAST) as client, pytest.raises(SiteError):
            rows_of(client, base, "Test", everything, tmp_path)
        well = True
        with Client(LoopbackHosts(), FAST) as client:
            rows = rows_of(client, base, "Test", everything, tmp_path)
    assert [r.id for r in rows if r.id and posted_at(r.id) in YEAR] == of_year(world)


def test_an_article_that_was_another_page_is_asked_for_again(tmp_path: Path) -> None:
    login = "<title>Please log in</title>"
    texts = {"/1": login, "/2": '<div id="main-content">words</div>', "/3": ""}

    def answer(path: str) -> Answer:
        return (404 if path in ("/robots.txt", "/3") else 200), {}, texts.get(path, "")

    store = PageStore(tmp_path)
    with server(answer) as (base, asked), Client(LoopbackHosts(), FAST) as client:
        articles = [
            Article(f"M.170400000{n}.A.000", f"{base}/{n}", "", "", "", 1) for n in (1, 2, 3)
        ]
        reads = read_articles(client, articles, lambda _: store)
        assert [read.status for read in reads] == ["malformed", "ok", "gone"]
        texts["/1"] = texts["/2"]
        asked.clear()
        reads = read_articles(client, articles, lambda _: store)
        assert [read.status for read in reads] == ["ok", "ok", "gone"]
    assert [path for path, _, _ in asked] == ["/1"]


def test_only_hosts_of_the_table_are_named_in_the_counts(tmp_path: Path) -> None:
    page = '<div id="main-content"><a href="https://i.imgur.com/abcdefg.jpg">1</a>' + "".join(
        f'<a href="https://{host}/1.jpg">1</a>' for host in ("her.home.test", "his.home.test")
    )

    def answer(path: str) -> Answer:
        return (404 if path == "/robots.txt" else 200), {}, page

    with server(answer) as (base, _), Client(LoopbackHosts(), FAST) as client:
        article = Article("M.1704000001.A.000", f"{base}/1", "", "", "", 1)
        reads = list(read_articles(client, [article], lambda _: PageStore(tmp_path)))
    assert count(reads)["hosts"] == {"other": 2, "i.imgur.com": 1}


def test_a_site_that_serves_something_else_than_articles_is_named(tmp_path: Path) -> None:
    login = "<title>Please log in</title><form></form>"
    with server(lambda path: (404 if "robots" in path else 200, {}, login)) as (base, asked):
        articles = [
            Article(f"M.17040{n:05}.A.000", f"{base}/{n}", "", "", "", 1) for n in range(300)
        ]
        with (
            Client(LoopbackHosts(), FAST) as client,
            pytest.raises(SiteError, match=r"9 articles before it are no articles .*Please log in"),
        ):
            list(read_articles(client, articles, lambda _: PageStore(tmp_path)))
    assert len(asked) < 50
    assert not list(tmp_path.iterdir())  # nothing of it is kept


def test_a_few_bad_articles_in_a_row_end_nothing(tmp_path: Path) -> None:
    texts = {f"/{n}": "<p>500 - Internal Server Error" for n in range(9)}
    texts["/9"] = '<div id="main-content">words</div>'

    def answer(path: str) -> Answer:
        return (200 if path in texts else 404), {}, texts.get(path, "")

    with server(answer) as (base, _), Client(LoopbackHosts(), FAST) as client:
        articles = [
            Article(f"M.17040{n:05}.A.000", f"{base}/{n}", "", "", "", 1) for n in range(10)
        ]
        reads = list(read_articles(client, articles, lambda _: PageStore(tmp_path)))
    assert Counter(read.status for read in reads) == {"malformed": 9, "ok": 1}


def test_an_article_whose_address_leads_to_no_page_ends_nothing(tmp_path: Path) -> None:
    def answer(path: str) -> Answer:
        if path == "/1":
            return 302, {"Location": "/1"}, ""
        if path == "/2":
            return 302, {"Location": "http://["}, ""
        if path == "/3":
            return 200, {}, "x" * (33 * 2**20)
        if path in ("/4", "/5"):
            return 302, {"Location": {"/4": "mailto:someone", "/5": "http://*.test/"}[path]}, ""
        if path == "/6":  # to another site, where nobody listens
            return 302, {"Location": "http://localhost:1/"}, ""
        return (404 if "robots" in path else 200), {}, '<div id="main-content">words</div>'

    with server(answer) as (base, _), Client(LoopbackHosts(), FAST) as client:
        articles = [
            Article(f"M.170400000{n}.A.000", f"{base}/{n}", "", "", "", 1) for n in range(1, 8)
        ]
        reads = read_articles(client, articles, lambda _: PageStore(tmp_path))
        assert [read.status for read in reads] == ["malformed"] * 6 + ["ok"]


def test_a_site_that_redirects_to_another_name_and_then_dies_ends_the_reading(
    tmp_path: Path,
) -> None:
    place = ""

    def answer(path: str) -> Answer:
        if path.startswith("/real/"):
            return (200 if path == "/real/1" else -1), {}, '<div id="main-content">words</div>'
        return (404, {}, "") if "robots" in path else (302, {"Location": place + path}, "")

    with server(answer) as (base, _), Client(LoopbackHosts(), FAST) as client:
        place = base.replace("127.0.0.1", "localhost") + "/real"
        articles = [
            Article(f"M.170400000{n}.A.000", f"{base}/{n}", "", "", "", 1) for n in range(1, 4)
        ]
        with pytest.raises(SiteError, match="does not answer"):
            list(read_articles(client, articles, lambda _: PageStore(tmp_path)))


def test_rules_for_robots_that_lead_nowhere_end_the_reading(tmp_path: Path) -> None:
    with (
        server(lambda _: (302, {"Location": "/robots.txt"}, "")) as (base, _),
        Client(LoopbackHosts(), FAST) as client,
        pytest.raises(SiteError, match=r"robots\.txt leads in a circle"),
    ):
        article = Article("M.1704000001.A.000", f"{base}/1", "", "", "", 1)
        list(read_articles(client, [article], lambda _: PageStore(tmp_path)))
