"""Albums: what their pages and imgur's API tell, and what is done where they tell nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_site import FAST, Answer, server

from pttfaces.board import albums
from pttfaces.board.albums import ClientId, open_albums, pictures_in_answer, pictures_on_page
from pttfaces.board.article_page import PostedLink
from pttfaces.board.articles import ArticleRead
from pttfaces.board.client import Client
from pttfaces.board.links import sort_links
from pttfaces.board.listing import Article
from pttfaces.board.page_cache import PageStore
from pttfaces.errors import ParamsError
from pttfaces.http import LoopbackHosts

IMGUR = ("imgur.com", "api.imgur.com")
ARTICLE = Article("M.1704040318.A.E87", "https://www.ptt.cc/bbs/B/x.html", "t", "w", "d", 1)
MEDIA = [f"https://i.imgur.com/abcdef{n}.{end}" for n, end in enumerate(("jpeg", "mp4", "png"))]


def page(addresses: list[str]) -> str:
    post = json.dumps({"title": "it's", "media": [{"url": address} for address in addresses]})
    text = json.dumps(post).replace("'", "\\'").replace("/", "\\/")
    return f"<html><script>window.postDataJSON={text}</script></html>"


def read(*hrefs: str) -> ArticleRead:
    posted = tuple(PostedLink(href, "body", "") for href in hrefs)
    return ArticleRead(ARTICLE, "ok", posted, sort_links(posted, ARTICLE.url))


def opened(
    answer: Callable[[str], Answer], how: str, folder: Path, *reads: ArticleRead
) -> tuple[list[ArticleRead], list[str]]:
    """Articles with their albums opened at a small imgur, and the paths that it was asked for."""
    with server(answer) as (base, asked):
        door = LoopbackHosts(dict.fromkeys(IMGUR, int(base.rpartition(":")[2])))
        auth = ClientId("an-id") if how == "api" else None
        with Client(door, FAST, auth) as client:
            source = albums.SOURCES[how]
            store = PageStore(folder)
            ended = open_albums(
                client, list(reads), source, lambda _: store, lambda link: link.place == "body"
            )
    return ended, [path for path, _, _ in asked if path != "/robots.txt"]


def test_an_albums_pictures_stand_where_its_link_stood(tmp_path: Path) -> None:
    article = read(
        "https://i.imgur.com/before1.jpg",
        "https://imgur.com/a/AbCdE",
        "https://imgur.com/abcdef2",
        "https://i.imgur.com/after12.jpg",
    )
    (ended,), asked = opened(lambda path: (200, {}, page(MEDIA)), "page", tmp_path, article)
    assert asked == ["/a/AbCdE"]
    assert [link.url for link in ended.links.pictures] == [
        "https://i.imgur.com/before1.jpg",
        "https://i.imgur.com/abcdef0.jpeg",
        "https://i.imgur.com/abcdef2.png",
        "https://i.imgur.com/after12.jpg",
    ]
    assert [link.posted for link in ended.links.pictures][1:3] == ["https://imgur.com/a/AbCdE"] * 2
    assert ended.links.repeated == 1  # the album's third picture, linked by itself


@pytest.mark.parametrize(
    ("kind", "path", "data"),
    [
        ("a", "/3/album/AbCdE/images", [{"link": link} for link in MEDIA]),
        ("gallery", "/3/gallery/album/AbCdE", {"images": [{"link": link} for link in MEDIA]}),
    ],
)
def test_the_api_opens_albums_and_galleries(
    kind: str, path: str, data: object, tmp_path: Path
) -> None:
    answer = json.dumps({"data": data, "success": True})
    album = read(f"https://imgur.com/{kind}/AbCdE")
    (ended,), asked = opened(lambda _: (200, {}, answer), "api", tmp_path, album)
    assert asked == [path]
    assert len(ended.links.pictures) == 2
    (again,), asked = opened(lambda _: (500, {}, ""), "api", tmp_path, album)
    assert (again, asked) == (ended, [])  # kept from before


def test_an_album_that_is_not_wanted_is_not_asked_for(tmp_path: Path) -> None:
    posted = (PostedLink("https://imgur.com/a/AbCdE", "push", "fan"),)
    pushed = ArticleRead(ARTICLE, "ok", posted, sort_links(posted, ARTICLE.url))
    ended, asked = opened(lambda path: (200, {}, page(MEDIA)), "page", tmp_path, pushed)
    assert (ended, asked) == ([pushed], [])


@pytest.mark.parametrize("status", [200, 404, 403])
def test_an_album_that_tells_nothing_stays_unresolved(status: int, tmp_path: Path) -> None:
    article = read("https://imgur.com/a/AbCdE", "https://imgur.com/gallery/FgHiJ")
    ended, _ = opened(lambda _: (status, {}, "<html></html>"), "page", tmp_path, article)
    assert ended == [article]
    assert [link.url for link in article.links.pictures] == [None, None]


def test_a_host_that_is_down_ends_the_opening_and_not_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reads = [read(f"https://imgur.com/a/AbCd{n}") for n in range(9)]
    ended, asked = opened(
        lambda path: (404 if "robots" in path else -1, {}, ""), "page", tmp_path, *reads
    )
    assert ended == reads
    assert set(asked) == {f"/a/AbCd{n}" for n in range(3)}
    assert "the other albums are left unresolved" in capsys.readouterr().err


def test_an_id_that_the_api_does_not_know_is_named(tmp_path: Path) -> None:
    refused = json.dumps({"data": {"error": "Invalid client_id"}, "status": 403})
    with pytest.raises(ParamsError, match="does not know the client id in IMGUR_CLIENT_ID") as told:
        opened(lambda _: (403, {}, refused), "api", tmp_path, read("https://imgur.com/a/AbCdE"))
    assert "an-id" not in str(told.value)


@pytest.mark.parametrize("value", ["", "two words", "line\n", "é"])
def test_what_can_be_no_client_id_is_named(value: str) -> None:
    with pytest.raises(ParamsError, match="IMGUR_CLIENT_ID holds no client id"):
        ClientId(value)


def test_the_id_goes_to_the_api_and_to_no_one_else() -> None:
    import requests

    auth = ClientId("an-id")
    for url, sent in (("https://api.imgur.com/3/", True), ("https://imgur.com/a/AbCdE", False)):
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
def test_no_answer_breaks_the_opening(value: object, text: str) -> None:
    for candidate in (text, json.dumps(value), f"window.postDataJSON={json.dumps(text)}"):
        pictures_in_answer(candidate)
        pictures_on_page(candidate)
    pictures_on_page(f"window.postDataJSON={json.dumps(json.dumps(value))}")
