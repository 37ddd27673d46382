"""A link's addresses are tried in order, and what may change is asked for again, in a real run."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hostile.site import Handler, Request, Site, image_bytes, options

from pttfaces import files, tables
from pttfaces.denylist import DenyList
from pttfaces.download import DownloadSummary, download, result_cache
from pttfaces.errors import DataError
from pttfaces.tables import Link

JPEG = image_bytes("JPEG", 1)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("pttfaces.download.scheduler._BACK_OFF_S", 0.02)


def link(*paths: str, article: str = "M.1", host: str = "a.test") -> Link:
    urls = tuple(f"http://{host}/{path}" for path in paths)
    return Link(article, 0, urls[0], urls, "body")


def get(site: Site, *links: Link, deny: tuple[str, ...] = (), **changes: Any) -> DownloadSummary:
    return download(list(links), site.hosts(), "web", options(**changes), DenyList.of(deny))


def rows() -> list[dict[str, str]]:
    return tables.read_csv("data/ledger.csv").to_dict("records")


def hosts() -> list[dict[str, str]]:
    return tables.read_csv("data/hosts.csv").to_dict("records")


def asked(site: Site) -> dict[str, int]:
    return {name.removeprefix("a.test/"): count for name, count in site.asked.items()}


async def answers(request: Request) -> None:
    """`/ok-1` is the image of seed 1, `/404-x` is gone, `/page` is HTML, `/500` is broken."""
    kind, _, rest = request.path[1:].partition("-")
    kind = "404" if kind == "x" else kind
    if kind == "ok":
        await request.answer(200, image_bytes("JPEG", int(rest), (16, 16)))
    elif kind == "page":
        await request.answer(200, b"<html>")
    elif kind == "garbage":
        await request.answer(200, b"garbage")
    elif kind == "removed":
        await request.answer(302, Location="/removed.png")
    else:
        await request.answer(int(kind))


@pytest.mark.parametrize(
    ("paths", "status", "url", "requests"),
    [
        (["ok-1", "ok-2"], "ok", "ok-1", {"ok-1": 1}),
        (["404-a", "410-b", "ok-1"], "ok", "ok-1", {"404-a": 1, "410-b": 1, "ok-1": 1}),
        (["removed", "garbage", "ok-1"], "ok", "ok-1", {"removed": 1, "garbage": 1, "ok-1": 1}),
        (["page", "ok-1"], "ok", "ok-1", {"page": 2, "ok-1": 1}),
        (["404-a", "404-b"], "gone", "404-a", {"404-a": 1, "404-b": 1}),
        (["404-a", "garbage"], "not_an_image", "404-a", {"404-a": 1, "garbage": 1}),
        (["500", "ok-1"], "failed", "500", {"500": 2}),
        (["404-a", "500", "ok-1"], "failed", "404-a", {"404-a": 1, "500": 2}),
        (["403", "404-a"], "blocked", "403", {"403": 2}),
    ],
)
def test_download_tries_the_next_address_only_when_one_has_no_image(
    paths: list[str], status: str, url: str, requests: dict[str, int]
) -> None:
    links = [link(*paths), link("ok-9", host="b.test")]
    with Site({"a.test": answers, "b.test": answers}) as site:
        get(site, *links)
        row, _ = rows()
        assert (row["status"], row["url"]) == (status, f"http://a.test/{url}")
        assert {name: count for name, count in asked(site).items() if "b.test" not in name} == (
            requests
        )
        if status == "ok":
            assert get(site, *links).requested == 0


def test_download_of_links_that_share_an_address_requests_it_once() -> None:
    links = [link("404-a", "ok-1"), link("404-a", "ok-2"), link("ok-1"), link("404-b", "ok-1")]
    with Site({"a.test": answers}) as site:
        summary = get(site, *links)
        assert asked(site) == {"404-a": 1, "404-b": 1, "ok-1": 1, "ok-2": 1}
    assert summary.requested == 4
    assert [row["url"] for row in rows()] == [
        f"http://a.test/ok-{number}" for number in (1, 2, 1, 1)
    ]
    assert [row["status"] for row in rows()] == ["ok", "ok", "duplicate", "duplicate"]


@pytest.mark.parametrize("denied", ["404-a", "ok-1", "ok-2"])
def test_download_of_a_link_that_is_denied_by_any_address_requests_none(denied: str) -> None:
    links = [link("404-a", "ok-1", "ok-2"), link("ok-1"), link("ok-9")]
    with Site({"a.test": answers}) as site:
        get(site, *links)
        before = dict(site.asked)
        get(site, *links, deny=(f"url:http://a.test/{denied}",))
        assert dict(site.asked) == before
        assert next(row["status"] for row in rows()) == "denied"
        assert rows()[1]["status"] == "denied"  # it leads to the same image
    left = [path for path in Path(".cache/originals").rglob("*") if path.is_file()]
    assert not left
    assert hosts()[0]["example"] == "http://a.test/ok-9"


def test_download_of_a_page_in_an_image_s_place_tries_again_in_the_run_and_in_the_next() -> None:
    """What imgur sends over capacity; also as a redirect to its page, or an empty body."""

    async def later(request: Request, moment: Handler) -> None:
        await (moment(request) if request.number <= 2 else request.answer(200, JPEG))

    async def page(request: Request) -> None:
        await later(request, answers) if request.path == "/page" else await request.answer(404)

    async def redirect(request: Request) -> None:
        async def to_page(request: Request) -> None:
            await request.answer(302, Location="http://b.test/page-of-it")

        await later(request, to_page)

    async def empty(request: Request) -> None:
        async def nothing(request: Request) -> None:
            await request.answer(200)

        await later(request, nothing)

    routes = {"a.test": page, "b.test": answers, "c.test": redirect, "d.test": empty}
    links = [link("page"), link("x", host="c.test"), link("x", host="d.test")]
    ok = link("ok-7", host="b.test")
    with Site(routes) as site:
        get(site, *links, ok, attempts=2)
        assert [row["status"] for row in rows()] == ["not_an_image"] * 3 + ["ok"]
        assert rows()[1]["final_url"] == "http://b.test/page-of-it"
        assert get(site, *links, ok, attempts=2).requested == 3
        assert [row["status"] for row in rows()] == ["ok", "duplicate", "duplicate", "ok"]
    with Site(routes) as site:
        for path in (Path(".cache"), Path("data")):
            path.rename(f"{path}-before")
        get(site, *links, ok, attempts=3)
        assert [row["attempts"] for row in rows()] == ["3", "3", "3", "1"]


def test_download_asks_for_a_404_once_more_a_day_later(monkeypatch: pytest.MonkeyPatch) -> None:
    links = [link("404-a"), link("410-b"), link("ok-1")]
    with Site({"a.test": answers}) as site:
        get(site, *links)
        written = Path("data/ledger.csv").read_bytes()
        assert get(site, *links).requested == 0
        day_later = time.time() + 25 * 3600
        monkeypatch.setattr("pttfaces.download.downloader.time.time", lambda: day_later)
        assert get(site, *links).requested == 1
        day_later += 1000 * 3600
        assert get(site, *links).requested == 0
        assert asked(site) == {"404-a": 2, "410-b": 1, "ok-1": 1}
    assert Path("data/ledger.csv").read_bytes() == written


def test_download_after_an_upgrade_asks_again_where_the_request_is_another_now() -> None:
    """Version 0.2 decoded some percent signs before it sent a URL."""
    urls = ["http://a.test/404%2Da", "http://a.test/404-b", "http://a.test/ok%2D1"]
    links = [Link("M.1", at, url, (url,), "body") for at, url in enumerate(urls)]

    async def decoded(request: Request) -> None:
        request.path = request.path.replace("%2D", "-")
        await answers(request)

    with Site({"a.test": decoded}) as site:
        get(site, *links)
        (cache,) = Path(".cache/download").iterdir()
        cache.rename(cache.with_name(cache.name.replace(f".v{result_cache.CACHE_VERSION}", ".v2")))
        assert get(site, *links).requested == 1
        assert site.asked == Counter({"a.test/404%2Da": 2, "a.test/404-b": 1, "a.test/ok%2D1": 1})


def test_hosts_csv_counts_what_became_of_each_host_s_links() -> None:
    links = [
        link("ok-1"),
        link("ok-1", article="M.2"),
        link("404-a"),
        link("500"),
        link("removed", host="b.test"),
        Link("M.3", 0, "https://Pages.test/x", (), "push", "somebody"),
    ]
    with Site({"a.test": answers, "b.test": answers}) as site:
        summary = get(site, *links)
    assert hosts() == [
        dict(zip(("host", "links", "fetched", "gone", "unresolved", "example"), row, strict=True))
        for row in (
            ("a.test", "4", "2", "1", "0", "http://a.test/ok-1"),
            ("b.test", "1", "0", "1", "0", "http://b.test/removed"),
            ("pages.test", "1", "0", "0", "1", "https://Pages.test/x"),
        )
    ]
    assert summary.metrics["hosts"] == 3
    assert summary.metrics["hosts_without_images"] == 2


def test_download_of_one_image_for_many_links_warns_of_a_placeholder() -> None:
    async def same(request: Request) -> None:
        await request.answer(200, JPEG)

    links = [link(f"ok-{at}", host="b.test") for at in range(20)]
    links += [link(f"x-{at}", article=f"M.{at}") for at in range(12)] * 2
    digest = files.digest_bytes(JPEG)
    with Site({"a.test": same, "b.test": answers}) as site:
        (warning,) = get(site, *links).warnings
        assert "a.test gave one image for 12 addresses" in warning
        assert digest in warning
        summary = get(site, *links, placeholders=[digest])
    assert (summary.requested, summary.warnings) == (0, [])
    assert [row["status"] for row in rows()] == ["ok"] * 20 + ["removed"] * 24
    assert not list(Path("data/raw").rglob(f"{digest}*"))


def test_download_of_a_placeholder_tries_the_next_address() -> None:
    async def placeholder(request: Request) -> None:
        await (request.answer(200, JPEG) if request.path == "/x" else answers(request))

    with Site({"a.test": placeholder}) as site:
        get(site, link("x", "ok-2"), placeholders=[files.digest_bytes(JPEG)])
    assert [(row["status"], row["url"]) for row in rows()] == [("ok", "http://a.test/ok-2")]


def test_download_without_any_image_says_what_the_hosts_answered() -> None:
    links = [link("403-x"), link("403-y"), link("404-a"), link("500", host="b.test")]
    with Site({"a.test": answers, "b.test": answers}) as site:
        expected = r"a\.test: 2 HTTP 403, 1 gone; b\.test: 1 HTTP 500\); run `make update` later"
        with pytest.raises(DataError, match=expected):
            get(site, *links)
    lines = next(Path(".cache/download").iterdir()).read_text().split("\n")
    assert len([json.loads(line) for line in lines if line]) == 4
