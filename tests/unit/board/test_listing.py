"""Listing a board over real HTTP: the demo site, and small sites that misbehave."""

import gzip
import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from small_site import (
    BASE,
    YEAR,
    Answer,
    demo_client,
    fast_client,
    of_year,
    post_at,
    rows_of,
    server,
    thirty_years,
    without_gate,
)

from pttfaces.board.article_ids import Span, posted_at
from pttfaces.board.client import PageClient
from pttfaces.board.index_page import IndexRow
from pttfaces.board.listing import Listing, filter_rows, list_rows
from pttfaces.board.page_cache import IndexPageCache
from pttfaces.demo.board import DemoBoard, make_board
from pttfaces.denylist import DenyList
from pttfaces.errors import DataError, SiteError


def listed(client: PageClient, folder: Path, span: Span = YEAR) -> list[str]:
    rows = rows_of(client, BASE, "Test", span, folder)
    return [row.id for row in rows if row.id and posted_at(row.id) in span]


def test_list_rows_finds_the_year_exactly_while_posts_arrive(tmp_path: Path) -> None:
    board = thirty_years(20 * 300)
    wanted, respond, lock = of_year(board), without_gate(board), threading.Lock()

    def answer(path: str) -> Answer:
        with lock:
            for _ in range(7):
                board.posts.append(post_at(1767196800 + len(board.posts), len(board.posts)))
            return respond(path)

    with server(answer) as (base, asked), fast_client() as client:
        rows = rows_of(client, base, "Test", YEAR, tmp_path)
    assert [row.id for row in rows if row.id and posted_at(row.id) in YEAR] == wanted
    paths = Counter(path for path, _, _ in asked)
    assert set(paths.values()) == {1}
    # robots.txt, the newest page at the beginning and at the end, 2^9 pages for either edge
    assert len(paths) <= 3 + 2 * 10 + len(wanted) / 20 + 3


def test_list_rows_finds_an_edge_of_4000_pages_by_16_requests(tmp_path: Path) -> None:
    board = thirty_years(20 * 4000)
    last_days = Span(posted_at(board.posts[-50].id) or 0, YEAR.end * 2)
    with server(without_gate(board)) as (base, asked), fast_client() as client:
        rows = rows_of(client, base, "Test", last_days, tmp_path)
    assert [row.id for row in rows if row.id][-48:] == of_year(board, last_days)[-48:]
    # Beside the edge: robots.txt, the newest page at the end, and the pages of the last days.
    assert len(asked) - 2 - 3 <= 16


@pytest.mark.parametrize("year", [1995, 1996, 2006, 2025, 2026])
def test_list_rows_of_years_at_the_boards_ends_and_beyond_gives_their_rows(
    year: int, tmp_path: Path
) -> None:
    board = thirty_years(20 * 61 + 7)
    span = Span.of_days(year, "0101", "1231")
    with demo_client(board) as client:
        assert listed(client, tmp_path, span) == of_year(board, span)


def test_list_rows_of_a_day_counts_in_utc_plus_8(tmp_path: Path) -> None:
    day = Span.of_days(2024, "0229", "0229")
    posts = [post_at(s, i) for i, s in enumerate((day.start - 1, day.start, day.end - 1, day.end))]
    with demo_client(DemoBoard("Test", posts=posts)) as client:
        assert listed(client, tmp_path, day) == [posts[1].id, posts[2].id]


def test_list_rows_while_posts_arrive_and_are_purged_loses_no_row(tmp_path: Path) -> None:
    board = thirty_years(20 * 120)
    wanted = of_year(board)
    ended = threading.Event()

    def change() -> None:
        for number in range(400):
            board.posts.append(post_at(1767196800 + number, number))
            if number % 10 == 0:
                del board.posts[number]  # an old post: every younger row moves
            if ended.wait(0.002):
                return

    with demo_client(board) as client:
        writer = threading.Thread(target=change)
        writer.start()
        found = listed(client, tmp_path)
        ended.set()
        writer.join()
    assert found == wanted


@pytest.mark.parametrize("year", [2024, 2025])
def test_list_rows_when_pages_are_lost_reads_again(year: int, tmp_path: Path) -> None:
    board = thirty_years(20 * 120)
    span = Span.of_days(year, "0101", "1231")
    wanted, respond, requests = of_year(board, span), without_gate(board), iter(range(10**6))

    def answer(path: str) -> Answer:
        if next(requests) == 14:
            del board.posts[0:90]
        return respond(path)

    with server(answer) as (base, _), fast_client() as client:
        rows = rows_of(client, base, "Test", span, tmp_path)
    assert [row.id for row in rows if row.id and posted_at(row.id) in span] == wanted


def test_list_rows_when_rows_have_moved_reads_again(tmp_path: Path) -> None:
    board = thirty_years(20 * 120)
    wanted = of_year(board)
    middle = board.posts.index(next(p for p in board.posts if p.id == wanted[len(wanted) // 2]))
    with demo_client(board) as client:
        rows_of(client, BASE, "Test", YEAR, tmp_path)
        # As if killed before this page was read. Then ten posts are purged, so that half of its
        # rows are on the page below, which is cached as it was.
        for path in tmp_path.glob("pages/*/*"):
            url = json.loads(gzip.decompress(path.read_bytes()))["url"]
            if url.endswith(f"/index{middle // 20 + 1}.html"):
                path.unlink()
        del board.posts[0:10]
        assert listed(client, tmp_path) == wanted


def test_list_rows_while_posts_are_purged_gives_no_row_twice(tmp_path: Path) -> None:
    board = thirty_years(20 * 120)
    respond, lock = without_gate(board), threading.Lock()

    def answer(path: str) -> Answer:
        with lock:
            del board.posts[0]
            return respond(path)

    with server(answer) as (base, _), fast_client() as client:
        rows = rows_of(client, base, "Test", YEAR, tmp_path)
    assert max(Counter(row.id for row in rows if row.id).values()) == 1


def test_list_rows_of_an_unknown_board_raises_site_error(tmp_path: Path) -> None:
    with (
        demo_client(thirty_years(30)) as client,
        pytest.raises(SiteError, match=r"no board Nowhere .*check board.name"),
    ):
        rows_of(client, BASE, "Nowhere", YEAR, tmp_path)


def test_list_rows_of_an_empty_board_raises_data_error(tmp_path: Path) -> None:
    with (
        demo_client(DemoBoard("Test")) as client,
        pytest.raises(DataError, match=r"Test .* is empty"),
    ):
        rows_of(client, BASE, "Test", YEAR, tmp_path)


def test_filter_rows_counts_rows_by_reason(tmp_path: Path) -> None:
    board = make_board(3, 30, "Test", 2024)
    with demo_client(board) as client:
        rows = rows_of(client, BASE, "Test", YEAR, tmp_path)
    listings = [Listing("Test", YEAR, rows)]
    articles, left_out = filter_rows(listings, BASE, None, DenyList())
    assert len(articles) == 30
    assert left_out["announcement"] == 4
    assert left_out["deleted"] == 4
    assert left_out["no_title"] == 2
    assert left_out["no_popularity"] == 6
    assert left_out["other_date"] + len(articles) + 16 == len(rows)
    assert [article.id for article in articles] == sorted(
        (article.id for article in articles), key=lambda name: int(name.split(".")[1])
    )

    with_blank, left_out = filter_rows(listings, BASE, 0, DenyList())
    negative = sum(article.nrec < 0 for article in articles)
    assert left_out["below_min_nrec"] == negative > 0
    assert len(with_blank) == 30 - negative + 6

    deny = DenyList(
        {"author": frozenset({articles[0].author}), "article": frozenset({articles[1].id})}
    )
    assert filter_rows(listings, BASE, None, deny)[1]["denied"] >= 2


def test_filter_rows_keeps_the_first_of_two_boards_articles_with_one_id() -> None:
    row = IndexRow("M.1704074641.A.001", "/bbs/A/M.1704074641.A.001.html", "[正妹]", "ann", 5)
    listings = [Listing(name, YEAR, [row]) for name in ("A", "B")]
    (article,), left_out = filter_rows(listings, BASE, None, DenyList())
    assert (article.board, left_out["repeated_id"]) == ("A", 1)


@pytest.mark.parametrize("first_year", [1999, 2018, 2021])
def test_list_rows_of_five_years_requests_few_pages_twice_and_none_again(
    first_year: int, tmp_path: Path
) -> None:
    """Each year finds its own edges on a board of 300 pages and 30 years of ids, whose times get a
    tenth digit in 2001, and whose newest page ends with pinned posts."""
    board, cache = thirty_years(20 * 300), IndexPageCache(tmp_path / "cache")
    spans = [Span.of_days(first_year + n, "0101", "1231") for n in range(5)]

    def read(base: str) -> list[list[str]]:
        with fast_client() as client:
            return [
                [
                    row.id
                    for row in list_rows(
                        client, base, "Test", span, tmp_path / str(span.start), cache, span.end
                    )
                    if row.id and posted_at(row.id) in span
                ]
                for span in spans
            ]

    with server(without_gate(board)) as (base, asked):
        first = read(base)
        requests_of_first = len(asked)
        again = read(base)
    assert first == again == [of_year(board, span) for span in spans]
    # Beside the years' own pages: robots.txt, and for each year the newest page at the beginning
    # and at the end, and the pages that find its edges.
    assert requests_of_first <= 1 + sum(map(len, first)) / 20 + 5 * (2 + 2 * 10 + 3)
    assert len(asked) == requests_of_first


def test_filter_rows_counts_unknown_ids() -> None:
    row = IndexRow(None, "/bbs/Test/X.1.html", "[正妹]", "someone", 5)
    articles, left_out = filter_rows([Listing("Test", YEAR, [row])], BASE, None, DenyList())
    assert (articles, left_out["unknown_id"], left_out["deleted"]) == ([], 1, 0)


def test_list_rows_of_the_present_year_requests_only_unsettled_pages(tmp_path: Path) -> None:
    board = thirty_years(20 * 300)
    wanted, settled = of_year(board), YEAR.start + 300 * 86400
    of_later = (settled + 40 * 86400, YEAR.end)
    later = [p for p in board.posts if of_later[0] <= (posted_at(p.id) or 0) < of_later[1]]
    del board.posts[board.posts.index(later[0]) :]  # not posted yet
    cache = IndexPageCache(tmp_path / "cache")

    def read(base: str, moment: int) -> list[IndexRow]:
        with fast_client() as client:
            work = tmp_path / f"work-{moment}"
            return list_rows(client, base, "Test", YEAR, work, cache, moment)

    with server(without_gate(board)) as (base, asked):
        before = read(base, settled)
        whole = len(asked)
        board.posts += later
        young = board.posts.index(later[0]) - 1
        board.posts[young] = replace(board.posts[young], nrec=77)
        asked.clear()
        rows = read(base, settled + 60 * 86400)
        assert [row.id for row in rows if row.id and posted_at(row.id) in YEAR] == wanted
        assert len(before) < len(rows)
        assert next(row.nrec for row in rows if row.id == board.posts[young].id) == 77
        assert len(asked) < whole  # fewer pages, though the year has grown
        ages = [posted_at(row.id) or 0 for row in rows if row.id]
        index_pages = {path for path, _, _ in asked if "/index" in path}
        assert len(index_pages) <= 1 + 9 + 1 + 2 + sum(settled <= age for age in ages) / 20
        # When the year is over and settled, it takes no request.
        read(base, YEAR.end + 1)
        asked.clear()
        assert read(base, YEAR.end + 1) == rows
        assert not asked


def test_list_rows_of_a_board_without_a_gate_sends_the_user_agent(tmp_path: Path) -> None:
    board = thirty_years(20 * 40)
    with server(without_gate(board)) as (base, asked), fast_client() as client:
        rows = rows_of(client, base, "Test", YEAR, tmp_path)
    assert [r.id for r in rows if r.id and posted_at(r.id) in YEAR] == of_year(board)
    assert all(agent.startswith("pttfaces/") for _, _, agent in asked)


def test_list_rows_after_an_error_resumes(tmp_path: Path) -> None:
    board = thirty_years(20 * 150)
    respond, answered = without_gate(board), iter(range(10**6))
    breaks_at = 10**6

    def answer(path: str) -> Answer:
        return respond(path) if next(answered) < breaks_at else (403, {}, "no more")

    with server(answer) as (base, asked):
        with fast_client() as client:
            undisturbed = rows_of(client, base, "Test", YEAR, tmp_path / "undisturbed")
        whole, breaks_at = len(asked), 2 * len(asked) - 6
        with fast_client() as client, pytest.raises(SiteError, match="status 403"):
            rows_of(client, base, "Test", YEAR, tmp_path / "stopped")
        breaks_at = 10**6
        asked.clear()
        with fast_client() as client:
            assert rows_of(client, base, "Test", YEAR, tmp_path / "stopped") == undisturbed
    # robots.txt once more, and the six pages that were refused or not yet requested
    assert len(asked) == 1 + 6 < whole


@pytest.mark.parametrize("failure", [(200, "<title>Please log in</title>"), (404, "not found")])
@pytest.mark.parametrize("path_end", ["/index.html", "/index20.html"])
def test_list_rows_requests_a_page_that_was_no_index_page_again(
    failure: tuple[int, str], path_end: str, tmp_path: Path
) -> None:
    board = thirty_years(20 * 40)
    respond, well = without_gate(board), False

    def answer(path: str) -> Answer:
        wrong = path.endswith(path_end) and not well
        return (failure[0], {}, failure[1]) if wrong else respond(path)

    everything = Span(Span.of_days(1996, "0101", "1231").start, YEAR.end)
    with server(answer) as (base, _):
        with fast_client() as client, pytest.raises(SiteError):
            rows_of(client, base, "Test", everything, tmp_path)
        well = True
        with fast_client() as client:
            rows = rows_of(client, base, "Test", everything, tmp_path)
    assert [r.id for r in rows if r.id and posted_at(r.id) in YEAR] == of_year(board)
