"""Listing a board over real HTTP: the demo site, and small servers that misbehave on purpose."""

import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pttfaces.board.client import Client, Manners
from pttfaces.board.ids import Span, posted_at
from pttfaces.board.listing import Article, choose, list_rows
from pttfaces.board.reading import count, permitted, read_articles
from pttfaces.board.store import PageStore
from pttfaces.demo import pages
from pttfaces.demo.site import HOSTS, serve
from pttfaces.demo.world import Post, World, make_world, picture_key
from pttfaces.denylist import DenyList
from pttfaces.door import Door
from pttfaces.errors import DataError, SiteError

BASE = "https://www.ptt.test"
FAST = Manners(rate_per_s=1000, attempts=3, first_wait_s=0.01)
YEAR = Span.of_days(2024, "0101", "1231")


@contextmanager
def client_of(world: World) -> Iterator[Client]:
    with serve(world) as port, Client(Door(dict.fromkeys(HOSTS, port)), FAST) as client:
        yield client


def thirty_years(posts: int) -> World:
    """A board from 1996 to 2025, ever busier; some posts are deleted, once a whole page of them."""
    start, end = 820454400, 1767196800
    world = World("Test")
    for index in range(posts):
        seconds = start + int((end - start) * (index / posts) ** 0.7)
        deleted = index % 37 == 5 or 400 <= index < 420
        world.posts.append(post_at(seconds, index, "deleted" if deleted else "ok"))
    world.pinned = [post_at(start, 0xFFF), post_at(end, 0xFFE)]
    return world


def post_at(seconds: int, number: int, page: str = "ok") -> Post:
    title = "(本文已被刪除) [a]" if page == "deleted" else f"[正妹] {number}"
    return Post(f"M.{seconds}.A.{number % 4096:03X}", title, "someone", 5, page=page)


def of_year(world: World, span: Span = YEAR) -> list[str]:
    return [p.id for p in world.posts if p.page != "deleted" and posted_at(p.id) in span]


def listed(client: Client, folder: Path, span: Span = YEAR) -> list[str]:
    rows = list_rows(client, BASE, "Test", span, folder)
    return [row.id for row in rows if row.id and posted_at(row.id) in span]


def test_the_year_is_found_exactly_and_by_few_pages(tmp_path: Path) -> None:
    world = thirty_years(20 * 300)
    with client_of(world) as client:
        assert listed(client, tmp_path) == of_year(world)
    edges = len(list(tmp_path.glob("edges/*/*")))
    assert edges <= 2 * 10 + 1  # 2^9 pages; the newest page is one more
    within = len(list(tmp_path.glob("pages/*/*")))
    assert within <= len(of_year(world)) / 20 + 4


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


def test_rows_that_moved_behind_the_reader_are_read_again(tmp_path: Path) -> None:
    world = thirty_years(20 * 120)
    wanted = of_year(world)
    middle = world.posts.index(next(p for p in world.posts if p.id == wanted[len(wanted) // 2]))
    with client_of(world) as client:
        list_rows(client, BASE, "Test", YEAR, tmp_path)
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

    with server(answer) as (base, _), Client(Door(), FAST) as client:
        rows = list_rows(client, base, "Test", YEAR, tmp_path)
    assert max(Counter(row.id for row in rows if row.id).values()) == 1


def test_a_board_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with (
        client_of(thirty_years(30)) as client,
        pytest.raises(SiteError, match=r"no board Nowhere .*check board.name"),
    ):
        list_rows(client, BASE, "Nowhere", YEAR, tmp_path)


def test_an_empty_board_is_named(tmp_path: Path) -> None:
    with client_of(World("Test")) as client, pytest.raises(DataError, match=r"Test .* is empty"):
        list_rows(client, BASE, "Test", YEAR, tmp_path)


def test_each_row_left_out_has_its_reason(tmp_path: Path) -> None:
    world = make_world(3, 30, "Test", 2024)
    with client_of(world) as client:
        rows = list_rows(client, BASE, "Test", YEAR, tmp_path)
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


# ------------------------------------------------------------------------------- reading articles


def test_articles_are_read_with_their_status(tmp_path: Path) -> None:
    world = make_world(3, 30, "Test", 2024)
    with client_of(world) as client:
        rows = list_rows(client, BASE, "Test", YEAR, tmp_path / "crawl")
        articles, _ = choose(rows, BASE, YEAR, None, DenyList())
        reads = list(read_articles(client, articles, lambda _: PageStore(tmp_path / "links")))
    statuses = Counter(read.status for read in reads)
    assert statuses == {"ok": 26, "gone": 1, "empty": 1, "truncated": 1, "malformed": 1}
    assert [read.article for read in reads] == articles
    counts = count(reads)
    assert counts["unresolved"] == 3
    assert counts["repeated"]
    posted = {url for read in reads for link in read.links.pictures if (url := link.url)}
    assert not {url for url in posted if "cache.ptt" in url}
    # Every address that was made out leads to a picture of the site.
    assert {picture_key(url) for url in posted} <= set(world.pictures)


def test_pushes_and_denied_links_are_left_out(tmp_path: Path) -> None:
    world = make_world(3, 30, "Test", 2024)
    with client_of(world) as client:
        rows = list_rows(client, BASE, "Test", YEAR, tmp_path / "crawl")
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


# --------------------------------------------------------------------------------------- manners


Answer = tuple[int, dict[str, str], str]


@contextmanager
def server(answer: Callable[[str], Answer]) -> Iterator[tuple[str, list[tuple[str, float, str]]]]:
    """A small site; gives its address and the list of (path, time, User-Agent) of its requests."""
    asked: list[tuple[str, float, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append((self.path, time.monotonic(), self.headers["User-Agent"]))
            status, headers, text = answer(self.path)
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


def plainly(world: World) -> Callable[[str], Answer]:
    """A board without the question after the reader's age."""

    def answer(path: str) -> Answer:
        name = path.rpartition("/index")[2].removesuffix(".html")
        if path == "/robots.txt" or not (name == "" or name.isdigit()):
            return 404, {}, "nothing"
        return 200, {}, pages.index_page(world, int(name or pages.page_count(world)))

    return answer


def test_a_board_without_a_gate_works_and_learns_who_reads(tmp_path: Path) -> None:
    world = thirty_years(20 * 40)
    with server(plainly(world)) as (base, asked), Client(Door(), FAST) as client:
        rows = list_rows(client, base, "Test", YEAR, tmp_path)
    assert [r.id for r in rows if r.id and posted_at(r.id) in YEAR] == of_year(world)
    assert all(agent.startswith("pttfaces/") for _, _, agent in asked)


def test_a_listing_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    world = thirty_years(20 * 150)
    board, answered = plainly(world), iter(range(10**6))
    breaks_at = 10**6

    def answer(path: str) -> Answer:
        return board(path) if next(answered) < breaks_at else (403, {}, "no more")

    with server(answer) as (base, asked):
        with Client(Door(), FAST) as client:
            undisturbed = list_rows(client, base, "Test", YEAR, tmp_path / "undisturbed")
        whole, breaks_at = len(asked), 2 * len(asked) - 6
        with Client(Door(), FAST) as client, pytest.raises(SiteError, match="status 403"):
            list_rows(client, base, "Test", YEAR, tmp_path / "stopped")
        breaks_at = 10**6
        asked.clear()
        with Client(Door(), FAST) as client:
            assert list_rows(client, base, "Test", YEAR, tmp_path / "stopped") == undisturbed
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
        with Client(Door(), FAST) as client, pytest.raises(SiteError):
            list_rows(client, base, "Test", everything, tmp_path)
        well = True
        with Client(Door(), FAST) as client:
            rows = list_rows(client, base, "Test", everything, tmp_path)
    assert [r.id for r in rows if r.id and posted_at(r.id) in YEAR] == of_year(world)


def test_an_article_that_was_another_page_is_asked_for_again(tmp_path: Path) -> None:
    login = "<title>Please log in</title>"
    texts = {"/1": login, "/2": '<div id="main-content">words</div>', "/3": ""}

    def answer(path: str) -> Answer:
        return (404 if path in ("/robots.txt", "/3") else 200), {}, texts.get(path, "")

    store = PageStore(tmp_path)
    with server(answer) as (base, asked), Client(Door(), FAST) as client:
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

    with server(answer) as (base, _), Client(Door(), FAST) as client:
        article = Article("M.1704000001.A.000", f"{base}/1", "", "", "", 1)
        reads = list(read_articles(client, [article], lambda _: PageStore(tmp_path)))
    assert count(reads)["hosts"] == {"other": 2, "i.imgur.com": 1}


def test_a_busy_site_is_asked_again_after_the_time_it_names() -> None:
    answers = iter([(503, {"Retry-After": "1"}, "busy"), (429, {}, "slow"), (200, {}, "here")])

    def answer(path: str) -> Answer:
        return (404, {}, "") if path == "/robots.txt" else next(answers)

    with server(answer) as (base, asked), Client(Door(), FAST) as client:
        assert client.get(f"{base}/x").text == "here"
    (_, first, _), (_, second, _) = asked[1:3]
    assert second - first >= 1


def test_a_page_that_stays_busy_is_not_kept(tmp_path: Path) -> None:
    def answer(path: str) -> Answer:
        return (404, {}, "") if path == "/robots.txt" else (500, {}, "Server Too Busy")

    store = PageStore(tmp_path)
    with server(answer) as (base, asked), Client(Door(), FAST) as client:
        assert client.get(f"{base}/x", store, lambda page: page.status == 200).status == 500
        assert len(asked) == 1 + FAST.attempts
        assert store.get(f"{base}/x") is None
        articles = [Article(f"M.17040{n:05}.A.000", f"{base}/{n}", "", "", "", 1) for n in range(9)]
        with pytest.raises(SiteError, match="4 articles before it answer with status 500"):
            list(read_articles(client, articles, lambda _: store))


def test_robots_txt_is_respected() -> None:
    rules = "User-agent: *\nDisallow: /bbs/\nCrawl-delay: 0.2\n"
    with (
        server(lambda path: (200, {}, rules)) as (base, asked),
        Client(Door(), FAST) as client,
    ):
        with pytest.raises(SiteError, match=r"robots\.txt asks robots to stay away"):
            client.get(f"{base}/bbs/Test/index.html")
        for _ in range(3):
            client.get(f"{base}/else")
    assert {path for path, _, _ in asked} == {"/robots.txt", "/else"}


def test_a_robots_txt_that_cannot_be_had_forbids_everything() -> None:
    def answer(path: str) -> Answer:
        return (503 if path == "/robots.txt" else 200), {}, ""

    with (
        server(answer) as (base, asked),
        Client(Door(), FAST) as client,
        pytest.raises(SiteError, match=r"robots\.txt answers with status 503, .* try again later"),
    ):
        client.get(f"{base}/bbs/Test/index.html")
    assert {path for path, _, _ in asked} == {"/robots.txt"}


def test_the_rate_limit_is_kept_and_used() -> None:
    def answer(path: str) -> Answer:
        time.sleep(0.05)
        return 200, {}, ""

    manners = Manners(rate_per_s=40)
    with server(answer) as (base, asked), Client(Door(), manners) as client:
        list(client.get_all((f"{base}/{n}", None) for n in range(41)))
    times = [at for path, at, _ in asked if path != "/robots.txt"]
    assert 1.0 <= times[-1] - times[0] + 0.01 < 1.4


def test_a_site_that_is_down_ends_in_one_sentence() -> None:
    with server(lambda path: (200, {}, "")) as (base, _):
        pass
    with (
        Client(Door(), FAST) as client,
        pytest.raises(SiteError, match=r"does not answer \(refused, 3 tries\); check the network"),
    ):
        client.get(f"{base}/bbs/Test/index.html")


def test_a_name_that_is_not_known_ends_in_one_sentence() -> None:
    with Client(Door(), FAST) as client, pytest.raises(SiteError, match=r"its name is not known"):
        client.get("https://nowhere.invalid/bbs/Test/index.html")


def test_another_sites_page_is_no_board(tmp_path: Path) -> None:
    challenge = "<html><title>Just a moment...</title><body>checking your browser</body></html>"
    with (
        server(lambda path: (200, {}, challenge)) as (base, _),
        Client(Door(), FAST) as client,
        pytest.raises(SiteError, match=r"not an index page .*Just a moment"),
    ):
        list_rows(client, base, "Test", YEAR, tmp_path)
