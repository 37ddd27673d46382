"""Articles read over real HTTP: their status, their links, and sites that misbehave."""

from collections import Counter
from pathlib import Path

import pytest
from hostile.pages import HEAD, article_page, link, push
from small_site import (
    BASE,
    YEAR,
    Answer,
    demo_client,
    fast_client,
    rows_of,
    server,
)

from pttfaces.board.article_page import PostedLink
from pttfaces.board.articles import (
    ArticleRead,
    count_links,
    describe_links,
    filter_links,
    link_filter,
    read_articles,
)
from pttfaces.board.hosts import HostRules
from pttfaces.board.links import sort_links
from pttfaces.board.listing import Listing, filter_rows
from pttfaces.board.page_cache import PageCache
from pttfaces.demo.board import DemoBoard, image_key, make_board
from pttfaces.demo.site import HOST_ALIASES
from pttfaces.denylist import DenyList
from pttfaces.errors import SiteError
from pttfaces.tables import Article

RULES = HostRules(HOST_ALIASES)


def read_board(board: DemoBoard, folder: Path) -> tuple[list[Article], list[ArticleRead]]:
    """The demo site's articles, as listed and as read."""
    cache = PageCache(folder / "links")
    with demo_client(board) as client:
        rows = rows_of(client, BASE, "Test", YEAR, folder / "crawl")
        articles, _ = filter_rows([Listing("Test", YEAR, rows)], BASE, None, DenyList())
        return articles, list(read_articles(client, articles, lambda _: cache, RULES))


def test_read_articles_gives_each_its_status(tmp_path: Path) -> None:
    board = make_board(3, 30, "Test", 2024)
    articles, reads = read_board(board, tmp_path)
    statuses = Counter(read.status for read in reads)
    assert statuses == {"ok": 26, "gone": 1, "empty": 1, "truncated": 1, "malformed": 1}
    assert [read.article for read in reads] == articles
    counts = count_links(reads, RULES)
    assert counts["unresolved"] == 3
    assert counts["repeated"]
    assert "; 2 articles could not be read (data/articles_read.csv). Hosts" in describe_links(
        reads, RULES
    )
    posted = {url for read in reads for link in read.links.images for url in link.addresses}
    assert not {url for url in posted if "cache.ptt" in url}
    # Every address leads to an image of the site.
    assert {image_key(url) for url in posted} <= set(board.images)


def test_filter_links_removes_pushes_and_denied_links(tmp_path: Path) -> None:
    _, (read, *_) = read_board(make_board(3, 30, "Test", 2024), tmp_path)
    (pushed,) = [link for link in read.links.images if link.place == "push"]
    others = tuple(link for link in read.links.images if link.place == "body")
    nothing = link_filter(DenyList(), RULES)
    assert filter_links(read, True, nothing)[0] == read
    assert filter_links(read, False, nothing)[0].links.images == others
    names = [("author", pushed.author)]
    names += [("url", url) for url in (pushed.posted, *pushed.addresses)]
    for kind, value in names:
        deny = DenyList({kind: frozenset({value})})
        allowed, taken = filter_links(read, True, link_filter(deny, RULES))
        assert (allowed.links.images, taken) == (others, 1)


@pytest.mark.parametrize(
    ("posted", "denied"),
    [
        ("https://i.imgur.com/abcdefg.jpeg", "http://imgur.com/abcdefg"),
        ("https://imgur.com/abcdefg,hijklmn", "https://i.imgur.com/hijklmn.png"),
        ("http://m.imgur.com/a/AbCdE/", "https://imgur.com/a/AbCdE#2"),
        ("http://host.test/a.jpg(right)", "https://host.test/a.jpg"),
    ],
)
def test_filter_links_removes_other_forms_of_a_denied_link(posted: str, denied: str) -> None:
    article = Article("M.1704000001.A.000", f"{BASE}/1", "", "", "", 1)
    links = sort_links([PostedLink(posted, "body", "")], article.url, RULES)
    read = ArticleRead(article, "ok", (), links)
    filtered, count = filter_links(read, True, link_filter(DenyList.of([f"url:{denied}"]), RULES))
    assert (len(filtered.links.images), count) == (len(links.images) - 1, 1)


def test_filter_links_leaves_out_what_is_embedded_below_a_push(tmp_path: Path) -> None:
    embed = '<blockquote class="imgur-embed-pub"><a href="//imgur.com/readerB"></a></blockquote>'
    text = article_page(
        HEAD
        + link("https://i.imgur.com/posterA.jpg")
        + push("reader", link("https://i.imgur.com/readerB.png"))
        + f'<div class="richcontent">{embed}</div>'
    )

    def answer(path: str) -> Answer:
        return (404 if path == "/robots.txt" else 200), {}, text

    with server(answer) as (base, _), fast_client() as client:
        article = Article("M.1704000001.A.000", f"{base}/1", "", "", "", 1)
        (read,) = read_articles(client, [article], lambda _: PageCache(tmp_path), RULES)
    assert [(each.key, each.place, each.author) for each in read.links.images] == [
        ("imgur:posterA", "body", ""),
        ("imgur:readerB", "push", "reader"),
    ]
    deny = DenyList.of(["author:reader"])
    for pushes, denying in ((False, DenyList()), (True, deny)):
        filtered, denied = filter_links(read, pushes, link_filter(denying, RULES))
        assert [each.key for each in filtered.links.images] == ["imgur:posterA"]
        assert denied in (0, 1)


def test_read_articles_requests_malformed_articles_again(tmp_path: Path) -> None:
    login = "<title>Please log in</title>"
    texts = {"/1": login, "/2": '<div id="main-content">words</div>', "/3": ""}

    def answer(path: str) -> Answer:
        return (404 if path in ("/robots.txt", "/3") else 200), {}, texts.get(path, "")

    cache = PageCache(tmp_path)
    with server(answer) as (base, asked), fast_client() as client:
        articles = [
            Article(f"M.170400000{n}.A.000", f"{base}/{n}", "", "", "", 1) for n in (1, 2, 3)
        ]
        reads = read_articles(client, articles, lambda _: cache, RULES)
        assert [read.status for read in reads] == ["malformed", "ok", "gone"]
        texts["/1"] = texts["/2"]
        asked.clear()
        reads = read_articles(client, articles, lambda _: cache, RULES)
        assert [read.status for read in reads] == ["ok", "ok", "gone"]
    assert [path for path, _, _ in asked] == ["/1"]


def test_count_links_names_only_hosts_with_a_rule(tmp_path: Path) -> None:
    page = '<div id="main-content"><a href="https://i.imgur.com/abcdefg.jpg">1</a>' + "".join(
        f'<a href="https://{host}/1.jpg">1</a>' for host in ("her.home.test", "his.home.test")
    )

    def answer(path: str) -> Answer:
        return (404 if path == "/robots.txt" else 200), {}, page

    with server(answer) as (base, _), fast_client() as client:
        article = Article("M.1704000001.A.000", f"{base}/1", "", "", "", 1)
        reads = list(read_articles(client, [article], lambda _: PageCache(tmp_path), RULES))
    assert count_links(reads, RULES)["hosts"] == {"other": 2, "i.imgur.com": 1}


def test_describe_links_names_the_largest_hosts_that_no_rule_knows(tmp_path: Path) -> None:
    hosts = [f"h{n}.test" for n in range(7) for _ in range(n)] + ["i.imgur.com"] * 9
    page = '<div id="main-content">' + "".join(
        f'<a href="https://{host}/{n}{".jpg" * (n % 2)}">1</a>' for n, host in enumerate(hosts)
    )

    def answer(path: str) -> Answer:
        own = f'<a href="{base}/else.jpg">of the board itself</a>'
        return (404 if path == "/robots.txt" else 200), {}, page + own

    with server(answer) as (base, _), fast_client() as client:
        article = Article("M.1704000001.A.000", f"{base}/1", "", "", "", 1)
        reads = list(read_articles(client, [article], lambda _: PageCache(tmp_path), RULES))
    assert describe_links(reads, RULES).endswith(
        ". Hosts that no rule knows (docs/hosts.md): h6.test 6, h5.test 5, h4.test 4, h3.test 3, "
        "h2.test 2."
    )


def test_read_articles_when_site_serves_login_pages_raises_site_error(tmp_path: Path) -> None:
    login = "<title>Please log in</title><form></form>"
    with server(lambda path: (404 if "robots" in path else 200, {}, login)) as (base, asked):
        articles = [
            Article(f"M.17040{n:05}.A.000", f"{base}/{n}", "", "", "", 1) for n in range(300)
        ]
        with (
            fast_client() as client,
            pytest.raises(
                SiteError, match=r"9 articles before it are not article pages .*Please log in"
            ),
        ):
            list(read_articles(client, articles, lambda _: PageCache(tmp_path), RULES))
    assert len(asked) < 50
    assert not list(tmp_path.iterdir())  # nothing is cached


def test_read_articles_survives_a_few_malformed_in_a_row(tmp_path: Path) -> None:
    texts = {f"/{n}": "<p>500 - Internal Server Error" for n in range(9)}
    texts["/9"] = '<div id="main-content">words</div>'

    def answer(path: str) -> Answer:
        return (200 if path in texts else 404), {}, texts.get(path, "")

    with server(answer) as (base, _), fast_client() as client:
        articles = [
            Article(f"M.17040{n:05}.A.000", f"{base}/{n}", "", "", "", 1) for n in range(10)
        ]
        reads = list(read_articles(client, articles, lambda _: PageCache(tmp_path), RULES))
    assert Counter(read.status for read in reads) == {"malformed": 9, "ok": 1}


def test_read_articles_survives_addresses_that_lead_to_no_page(tmp_path: Path) -> None:
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

    with server(answer) as (base, _), fast_client() as client:
        articles = [
            Article(f"M.170400000{n}.A.000", f"{base}/{n}", "", "", "", 1) for n in range(1, 8)
        ]
        reads = read_articles(client, articles, lambda _: PageCache(tmp_path), RULES)
        assert [read.status for read in reads] == ["malformed"] * 6 + ["ok"]


def test_read_articles_when_redirected_site_goes_down_raises_site_error(
    tmp_path: Path,
) -> None:
    cache, target = PageCache(tmp_path), ""

    def answer(path: str) -> Answer:
        if path.startswith("/real/"):
            return (200 if path == "/real/1" else -1), {}, '<div id="main-content">words</div>'
        return (404, {}, "") if "robots" in path else (302, {"Location": target + path}, "")

    with server(answer) as (base, _), fast_client() as client:
        target = base.replace("127.0.0.1", "localhost") + "/real"
        articles = [
            Article(f"M.170400000{n}.A.000", f"{base}/{n}", "", "", "", 1) for n in range(1, 4)
        ]
        list(read_articles(client, articles[:1], lambda _: cache, RULES))  # its host has answered
        with pytest.raises(SiteError, match="does not answer"):
            list(read_articles(client, articles[1:], lambda _: cache, RULES))


def test_read_articles_when_robots_txt_redirects_endlessly_raises(
    tmp_path: Path,
) -> None:
    with (
        server(lambda _: (302, {"Location": "/robots.txt"}, "")) as (base, _),
        fast_client() as client,
        pytest.raises(SiteError, match=r"robots\.txt redirects more than"),
    ):
        article = Article("M.1704000001.A.000", f"{base}/1", "", "", "", 1)
        list(read_articles(client, [article], lambda _: PageCache(tmp_path), RULES))
