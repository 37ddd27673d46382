"""Albums, opened by their pages or by imgur's API, and albums that cannot be opened."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_site import Answer, fast_client, server

from pttfaces.board.article_page import PostedLink
from pttfaces.board.articles import ArticleRead
from pttfaces.board.hosts import HostRules
from pttfaces.board.linked_pages import (
    ALBUM_SOURCES,
    ClientId,
    images_in_response,
    images_on_page,
    open_pages,
)
from pttfaces.board.links import sort_links
from pttfaces.board.page_cache import PageCache
from pttfaces.errors import ParamsError
from pttfaces.http import LoopbackHosts
from pttfaces.tables import Article

IMGUR = ("imgur.com", "api.imgur.com")
RULES = HostRules()
ARTICLE = Article("M.1704040318.A.E87", "https://www.ptt.cc/bbs/B/x.html", "t", "w", "d", 1)
MEDIA = [f"https://i.imgur.com/abcdef{n}.{end}" for n, end in enumerate(("jpeg", "mp4", "png"))]


def page(addresses: list[str]) -> str:
    post = json.dumps({"title": "it's", "media": [{"url": address} for address in addresses]})
    text = json.dumps(post).replace("'", "\\'").replace("/", "\\/")
    return f"<html><script>window.postDataJSON={text}</script></html>"


def read(*hrefs: str) -> ArticleRead:
    posted = tuple(PostedLink(href, "body", "") for href in hrefs)
    return ArticleRead(ARTICLE, "ok", posted, sort_links(posted, ARTICLE.url, RULES))


def opened(
    answer: Callable[[str], Answer], how: str, folder: Path, *reads: ArticleRead
) -> tuple[list[ArticleRead], list[str]]:
    """Articles with their albums opened at a small imgur, and the paths that were requested."""
    with server(answer) as (base, asked):
        hosts = LoopbackHosts(dict.fromkeys(IMGUR, int(base.rpartition(":")[2])))
        auth = ClientId("an-id") if how == "api" else None
        with fast_client(hosts, auth) as client:
            cache = PageCache(folder)
            ended = open_pages(
                client,
                list(reads),
                {"album": ALBUM_SOURCES[how]},
                lambda _: cache,
                lambda link: link.place == "body",
                RULES,
            )
    return ended, [path for path, _, _ in asked if path != "/robots.txt"]


def test_open_pages_puts_images_in_place_of_the_link(tmp_path: Path) -> None:
    article = read(
        "https://i.imgur.com/before1.jpg",
        "https://imgur.com/a/AbCdE",
        "https://imgur.com/abcdef2",
        "https://i.imgur.com/after12.jpg",
    )
    (ended,), asked = opened(lambda path: (200, {}, page(MEDIA)), "page", tmp_path, article)
    assert asked == ["/a/AbCdE"]
    assert [link.addresses[0] for link in ended.links.images] == [
        "https://i.imgur.com/before1.jpg",
        "https://i.imgur.com/abcdef0.jpeg",
        "https://i.imgur.com/abcdef2.png",
        "https://i.imgur.com/after12.jpg",
    ]
    assert [link.posted for link in ended.links.images][1:3] == ["https://imgur.com/a/AbCdE"] * 2
    assert ended.links.repeated == 1  # the album's third image, linked by itself


@pytest.mark.parametrize(
    ("kind", "path", "data"),
    [
        ("a", "/3/album/AbCdE/images", [{"link": link} for link in MEDIA]),
        ("gallery", "/3/gallery/album/AbCdE", {"images": [{"link": link} for link in MEDIA]}),
    ],
)
def test_open_pages_by_api_opens_albums_and_galleries(
    kind: str, path: str, data: object, tmp_path: Path
) -> None:
    answer = json.dumps({"data": data, "success": True})
    album = read(f"https://imgur.com/{kind}/AbCdE")
    (ended,), asked = opened(lambda _: (200, {}, answer), "api", tmp_path, album)
    assert asked == [path]
    assert len(ended.links.images) == 2
    (again,), asked = opened(lambda _: (500, {}, ""), "api", tmp_path, album)
    assert (again, asked) == (ended, [])  # from the cache


def test_open_pages_requests_only_wanted_albums(tmp_path: Path) -> None:
    posted = (PostedLink("https://imgur.com/a/AbCdE", "push", "fan"),)
    pushed = ArticleRead(ARTICLE, "ok", posted, sort_links(posted, ARTICLE.url, RULES))
    ended, asked = opened(lambda path: (200, {}, page(MEDIA)), "page", tmp_path, pushed)
    assert (ended, asked) == ([pushed], [])


@pytest.mark.parametrize("status", [200, 404, 403])
def test_open_pages_when_page_has_no_images_keeps_the_link(status: int, tmp_path: Path) -> None:
    article = read("https://imgur.com/a/AbCdE", "https://imgur.com/gallery/FgHiJ")
    ended, _ = opened(lambda _: (status, {}, "<html></html>"), "page", tmp_path, article)
    assert ended == [article]
    assert [link.addresses for link in article.links.images] == [(), ()]


def test_open_pages_when_host_is_down_leaves_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reads = [read(f"https://imgur.com/a/AbCd{n}") for n in range(9)]
    ended, asked = opened(
        lambda path: (404 if "robots" in path else -1, {}, ""), "page", tmp_path, *reads
    )
    assert ended == reads
    assert set(asked) == {f"/a/AbCd{n}" for n in range(3)}
    assert "skipping the remaining pages of imgur.com" in capsys.readouterr().err


def test_open_pages_when_api_rejects_the_client_id_raises_params_error(tmp_path: Path) -> None:
    refused = json.dumps({"data": {"error": "Invalid client_id"}, "status": 403})
    with pytest.raises(ParamsError, match="rejects the client id in IMGUR_CLIENT_ID") as raised:
        opened(lambda _: (403, {}, refused), "api", tmp_path, read("https://imgur.com/a/AbCdE"))
    assert "an-id" not in str(raised.value)


@pytest.mark.parametrize("value", ["", "two words", "line\n", "é"])
def test_client_id_of_another_form_raises_params_error(value: str) -> None:
    with pytest.raises(ParamsError, match="IMGUR_CLIENT_ID holds no client id"):
        ClientId(value)


def test_client_id_is_sent_to_the_api_only() -> None:
    import requests

    auth = ClientId("an-id")
    others = ("https://imgur.com/a/AbCdE", "https://api.imgur.evil.test/", "http://api.imgur.com/")
    for url, sent in (("https://api.imgur.com/3/", True), *((other, False) for other in others)):
        request = auth(requests.Request("GET", url).prepare())
        assert ("Authorization" in request.headers) == sent


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "images", "link", "media", "url"]), inner)
    ),
)


@given(JSON, st.text(max_size=60))
def test_images_of_any_response_raise_nothing(value: object, text: str) -> None:
    for candidate in (text, json.dumps(value), f"window.postDataJSON={json.dumps(text)}"):
        images_in_response(candidate)
        images_on_page(candidate)
    images_on_page(f"window.postDataJSON={json.dumps(json.dumps(value))}")
