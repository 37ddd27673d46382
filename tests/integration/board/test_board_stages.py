"""The stages crawl and links as they are run, on the demo board."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from small_site import Answer, server, without_gate

import crawl
import links
from pttfaces import files, source, tables, workdir
from pttfaces.config import load
from pttfaces.demo.board import DemoBoard, Post, board_seed, make_board
from pttfaces.demo.site import serve
from pttfaces.errors import DataError, ParamsError
from pttfaces.tables import ArticleStatus

PRESET = Path(__file__).parents[3] / "presets" / "demo.yaml"

Configure = Callable[..., None]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """In an empty folder, writes a params.yaml for a small demo with changes made to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def write(**changes: Any) -> None:
        values = YAML(typ="safe").load(PRESET.read_text(encoding="utf-8"))
        values["demo"]["articles"] = 8
        for key, value in changes.items():
            group, _, name = key.partition("__")
            if name:
                values[group][name] = value
            else:
                values[group] = value
        YAML().dump(values, Path("params.yaml"))

    write()
    return write


OUTPUTS = ("data/articles.jsonl", "data/links.jsonl", "data/articles_read.csv")


def outputs() -> list[bytes]:
    return [Path(name).read_bytes() for name in OUTPUTS]


def metrics(stage: str) -> dict[str, Any]:
    return dict(json.loads(Path(f"metrics/{stage}.json").read_text(encoding="utf-8")))


def test_stages_write_the_same_bytes_each_time_and_no_port(configure: Configure) -> None:
    crawl.main()
    links.main()
    first = outputs()
    crawl.main()
    links.main()
    assert outputs() == first
    assert b"127.0.0.1" not in b"".join(first)
    assert not list(Path(".resume").iterdir())


def test_stages_write_tables_that_match_their_metrics(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    crawl.main()
    links.main()
    articles, found = files.read_json_lines(OUTPUTS[0]), files.read_json_lines(OUTPUTS[1])
    assert len(articles) == metrics("crawl")["kept"] == 8
    assert list(articles[0]) == ["id", "url", "title", "author", "date", "nrec", "board"]
    assert {article["date"][:4] for article in articles} == {"2024"}
    assert len(found) == metrics("links")["links"]
    assert list(found[0]) == ["article", "position", "posted", "addresses", "place", "author"]
    statuses = tables.read(OUTPUTS[2], ArticleStatus)
    assert [status.article for status in statuses] == [article["id"] for article in articles]
    assert sum(status.links for status in statuses) == len(found)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["crawl", "links"]


def test_stages_when_source_is_inbox_read_no_board(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(source="inbox")
    crawl.main()
    links.main()
    assert outputs() == [b"", b"", b"article,status,links\n"]
    assert capsys.readouterr().out.count("source is inbox") == 2


def test_links_without_pushes_are_of_the_body(configure: Configure) -> None:
    configure(links__pushes=False)
    crawl.main()
    links.main()
    assert {row["place"] for row in files.read_json_lines(OUTPUTS[1])} == {"body"}


def test_stages_leave_out_denied_authors(configure: Configure) -> None:
    crawl.main()
    denied = files.read_json_lines(OUTPUTS[0])[0]
    Path("data/denylist.txt").write_text(f"author:{denied['author']}\n")
    links.main()
    assert metrics("links")["denied"] == 1
    crawl.main()
    assert metrics("crawl")["left_out"]["denied"] == 1
    assert denied["id"].encode() not in b"".join(outputs())


def test_crawl_of_a_day_that_does_not_exist_raises_params_error(configure: Configure) -> None:
    configure(board__year=2024, board__dates=["0229", "0301"])
    load()
    configure(board__year=2023, board__dates=["0229", "0301"])
    with pytest.raises(ParamsError, match=r"board.dates is '0229'; expected a day of 2023"):
        crawl.main()


def test_crawl_of_a_future_year_raises_data_error(configure: Configure) -> None:
    configure(board__year=2099)
    with pytest.raises(DataError, match=r"board.year 2099: .* is in the future"):
        crawl.main()


def test_crawl_of_days_without_a_post_raises_data_error(configure: Configure) -> None:
    crawl.main()
    days = {row["date"][5:].replace("-", "") for row in files.read_json_lines(OUTPUTS[0])}
    day = next(f"03{n:02}" for n in range(1, 32) if f"03{n:02}" not in days)
    configure(board__dates=[day, day])
    with pytest.raises(DataError, match=r"no article of Beauty from .* passes the filters"):
        crawl.main()


def test_crawl_of_several_boards_and_years_lists_them_one_after_the_other(
    configure: Configure,
) -> None:
    configure(board__name=["Beauty", "Handsome"], board__year=[2022, 2024])
    crawl.main()
    links.main()
    rows = files.read_json_lines(OUTPUTS[0])
    years = [(row["board"], row["date"][:4]) for row in rows]
    boards = [(name, str(year)) for name in ("Beauty", "Handsome") for year in range(2022, 2025)]
    assert years == [board for board in boards for _ in range(8)]
    assert metrics("crawl")["kept_by_year"] == {
        name: {"2022": 8, "2023": 8, "2024": 8} for name in ("Beauty", "Handsome")
    }
    assert all(f"/bbs/{row['board']}/" in row["url"] for row in rows)
    links_of_each = Counter(row["article"] for row in files.read_json_lines(OUTPUTS[1]))
    assert links_of_each.keys() == {row["id"] for row in rows}


def test_crawl_of_one_more_year_requests_no_page_of_a_settled_year(configure: Configure) -> None:
    board = make_board(5, 8, "Beauty", 2023, 2024)
    with server(without_gate(board)) as (address, asked):

        def crawled(year: int | list[int]) -> list[dict[str, Any]]:
            asked.clear()
            configure(source="ptt", board__base_url=address, board__year=year)
            crawl.main()
            return files.read_json_lines(OUTPUTS[0])

        alone = crawled(2024)
        both = crawled([2023, 2024])
        of_2023 = len(asked)
        assert crawled([2023, 2023]) + alone == both
        assert not asked
        shutil.rmtree(".cache/listings")
        crawled([2023, 2024])
        assert len(asked) > of_2023


def test_links_of_more_years_and_boards_requests_no_article_again(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the demo, where more years and boards change nothing of a year; in any order."""
    answers = {
        name: without_gate(make_board(board_seed(1, name), 8, name, 2022, 2023, 2024))
        for name in ("Beauty", "Handsome")
    }

    def answer(path: str) -> Answer:
        return answers["Handsome" if "/Handsome/" in path else "Beauty"](path)

    def linked(name: str | list[str], year: int | list[int]) -> tuple[list[bytes], set[str]]:
        asked.clear()
        configure(board__name=name, board__year=year)
        crawl.main()
        links.main()
        articles = {path for path, _, _ in asked if "/bbs/" in path and "/index" not in path}
        return outputs(), articles

    with server(answer) as (base, asked):
        port = base.rpartition(":")[2]
        monkeypatch.setenv("PTTFACES_LOOPBACK_HOSTS", f"www.ptt.test={port},imgur.test={port}")
        alone, articles = linked("Beauty", 2024)
        assert len(articles) == 8
        more, articles = linked("Beauty", [2022, 2024])
        assert len(articles) == 16
        assert more[0].endswith(alone[0])
        assert linked("Beauty", 2024) == (alone, set())
        both, articles = linked(["Handsome", "Beauty"], [2022, 2024])
        assert len(articles) == 24
        assert both[0].endswith(more[0])
        assert linked("Beauty", [2022, 2024]) == (more, set())
        assert linked(["Handsome", "Beauty"], [2022, 2024]) == (both, set())


def test_stages_read_a_settled_year_once(configure: Configure) -> None:
    with serve([make_board(5, 8, "Beauty", 2024)]) as port:
        address = f"http://127.0.0.1:{port}"
        configure(source="ptt", board__base_url=address)
        crawl.main()
        links.main()
    first = outputs()
    # The site is down; its cached pages serve other filters, too.
    configure(source="ptt", board__base_url=address, board__min_nrec=-100)
    crawl.main()
    assert len(files.read_json_lines(OUTPUTS[0])) == 8 + 6
    configure(source="ptt", board__base_url=address)
    crawl.main()
    links.main()
    assert outputs() == first


def test_crawl_when_cached_index_pages_are_damaged_reads_them_again(configure: Configure) -> None:
    with serve([make_board(5, 8, "Beauty", 2024)]) as port:
        configure(source="ptt", board__base_url=f"http://127.0.0.1:{port}")
        crawl.main()
        first = Path(OUTPUTS[0]).read_bytes()
        (cached,) = Path(".cache/listings").glob("*/*")
        cached.write_bytes(cached.read_bytes()[:-20])
        crawl.main()
    assert Path(OUTPUTS[0]).read_bytes() == first


def test_links_opens_pages_and_short_links_if_told(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted = ("https://ibb.co/AbCdEfG", "https://ppt.cc/fAbCdx", "https://i.imgur.com/abcdefg.jpg")
    post = Post("M.1704067300.A.001", "[正妹] 一", "someone", 9, lines=posted)
    board = without_gate(DemoBoard("Beauty", posts=[post]))
    preview = '<meta property="og:image" content="https://i.ibb.co/x1/one.jpg">'

    def answer(address: str) -> Answer:
        host, _, path = address.partition("/")
        match host:
            case "ibb.co":
                return (200, {}, preview) if path == "AbCdEfG" else (404, {}, "")
            case "ppt.cc":
                return 302, {"Location": "https://ibb.co/AbCdEfG"}, ""
        return board(f"/{path}")

    with server(answer, by_host=True) as (base, asked):
        port = base.rpartition(":")[2]
        hosts = ("board.test", "ibb.co", "ppt.cc")
        monkeypatch.setenv("PTTFACES_LOOPBACK_HOSTS", ",".join(f"{host}={port}" for host in hosts))
        site = {"source": "ptt", "board__base_url": "https://board.test"}
        configure(**site, links__pages=False)
        crawl.main()
        links.main()
        left = files.read_json_lines(OUTPUTS[1])
        assert {address.split("/")[0] for address, _, _ in asked} == {"board.test"}
        configure(**site, links__pages=True)
        links.main()
    found = files.read_json_lines(OUTPUTS[1])
    assert [row["addresses"] for row in left] == [[], [], [posted[2]]]
    image = ["https://i.ibb.co/x1/one.jpg"]
    assert [(row["posted"], row["addresses"]) for row in found] == [
        (posted[0], image),  # the short link leads to the same
        (posted[2], [posted[2]]),
    ]
    assert metrics("links")["repeated"] == 1
    assert metrics("links")["unresolved"] == 0


def test_links_opens_albums_by_page_or_by_api_or_leaves_them(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGUR_CLIENT_ID", "not-to-be-written")
    crawl.main()
    found = {}
    for how in ("leave", "page", "api"):
        configure(links__albums=how)
        links.main()
        found[how] = files.read_json_lines(OUTPUTS[1])
        assert metrics("links")["unresolved"] == (1 if how == "leave" else 0)
    assert found["page"] == found["api"]
    (left,) = [row for row in found["leave"] if not row["addresses"]]
    opened = [row for row in found["page"] if row["posted"] == left["posted"]]
    assert len(opened) == 3
    # Its first image is also linked by itself, further down.
    assert len(found["page"]) == len(found["leave"]) - 1 + 3 - 1
    assert all(row["addresses"][0].startswith("https://i.imgur.test/") for row in opened)
    written = [path.read_bytes() for path in Path().rglob("*") if path.is_file()]
    assert not any(b"not-to-be-written" in content for content in written)


def test_links_by_api_without_a_client_id_raises_params_error(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMGUR_CLIENT_ID", raising=False)
    configure(links__albums="api")
    crawl.main()
    with pytest.raises(ParamsError, match=r"links\.albums is api, but .* IMGUR_CLIENT_ID holds no"):
        links.main()


def test_stages_wait_for_another_run_that_reads_the_board(configure: Configure) -> None:
    """They share the board's rate, whatever their days."""
    crawl.main()
    started: list[subprocess.Popen[str]] = []
    try:
        with workdir.exclusive("test", source.board_lock_key(load())):
            configure(board__dates=["0101", "0630"])
            for stage in (crawl, links):
                process = subprocess.Popen(
                    [sys.executable, str(stage.__file__)],
                    env=os.environ | {"PYTHONPATH": str(PRESET.parents[1] / "src")},
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
                started.append(process)
                assert process.stderr is not None
                assert "waiting for" in process.stderr.readline().lower()
        for process in started:
            assert process.wait(60) == 0
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_stages_that_read_no_board_do_not_wait(configure: Configure) -> None:
    configure(source="inbox")
    params = load()
    with workdir.exclusive("test", source.board_lock_key(params)):
        crawl.main()
        links.main()
    assert files.read_json_lines(OUTPUTS[1]) == []
