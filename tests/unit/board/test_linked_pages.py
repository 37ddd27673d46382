"""Albums, pages of single images and short links, and those that cannot be opened."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_site import RETRIES, Answer, fast_client, server

from pttfaces.board.article_page import PostedLink
from pttfaces.board.articles import ArticleRead
from pttfaces.board.client import PageClient
from pttfaces.board.hosts import HostRules
from pttfaces.board.linked_pages import (
    ALBUM_SOURCES,
    PAGE_SOURCES,
    images_in_response,
    images_on_page,
    imgur_credentials,
    open_pages,
    preview_image,
)
from pttfaces.board.links import sort_links
from pttfaces.board.page_cache import Page, PageCache
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
        credentials = imgur_credentials("an-id") if how == "api" else None
        with fast_client(hosts, credentials) as client:
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


@pytest.mark.parametrize("status", [-1, 429, 503])
def test_open_pages_when_host_is_down_or_busy_leaves_the_rest(
    status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reads = [read(f"https://imgur.com/a/AbCd{n}") for n in range(9)]
    ended, asked = opened(
        lambda path: (404 if "robots" in path else status, {}, ""), "page", tmp_path, *reads
    )
    assert ended == reads
    assert len(set(asked)) == 3
    error = capsys.readouterr().err
    assert f"skipping the remaining pages of imgur.com: https://imgur.com{asked[-1]} " in error
    assert "`make update` tries them again" in error
    assert "base_url" not in error


def test_open_pages_asks_for_every_page_of_a_host_with_broken_ones(tmp_path: Path) -> None:
    reads = [read(f"https://imgur.com/a/AbCd{n}") for n in range(6)]
    _, asked = opened(
        lambda path: (404 if "robots" in path else 500, {}, ""), "page", tmp_path, *reads
    )
    assert len(set(asked)) == 6


def test_open_pages_when_api_rejects_the_client_id_raises_params_error(tmp_path: Path) -> None:
    refused = json.dumps({"data": {"error": "Invalid client_id"}, "status": 403})
    with pytest.raises(ParamsError, match="rejects the client id in IMGUR_CLIENT_ID") as raised:
        opened(lambda _: (403, {}, refused), "api", tmp_path, read("https://imgur.com/a/AbCdE"))
    assert "an-id" not in str(raised.value)


@pytest.mark.parametrize("status", [404, 500])
def test_open_pages_by_api_of_a_gallery_that_is_no_album_gives_its_image(
    status: int, tmp_path: Path
) -> None:
    article = read("https://imgur.com/gallery/a-title-AbCdEfG", "https://imgur.com/a/HiJkL")
    (ended,), asked = opened(
        lambda path: (404 if "robots" in path else status, {}, ""), "api", tmp_path, article
    )
    gallery, album = ended.links.images
    assert gallery.addresses == (("https://i.imgur.com/AbCdEfG.jpg",) if status == 404 else ())
    assert album.addresses == ()
    assert set(asked) == {"/3/gallery/album/AbCdEfG", "/3/album/HiJkL/images"}


HOSTS = (
    *("ibb.co", "postimg.cc", "ppt.cc", "reurl.cc", "shop.test", "www.flickr.com", "flic.kr"),
    *("imgur.com", "host.test"),
)


def preview(address: str) -> Answer:
    return 200, {"Content-Type": "text/html"}, f'<meta property="og:image" content="{address}">'


def moved(address: str) -> Answer:
    return 302, {"Location": address}, ""


WEB: dict[str, Answer] = {
    "ibb.co/AbCdEfG": preview("https://i.ibb.co/x1/one.jpg"),
    "postimg.cc/AbCdEfG": preview("/files/two?token=1&amp;x=2"),
    "postimg.cc/removed": moved("https://postimg.cc/"),
    "postimg.cc/": preview("https://postimg.cc/logo.png"),
    "postimg.cc/noimage": (200, {}, "<meta property='og:title' content='x'>"),
    "postimg.cc/deleted": (404, {}, "<meta property='og:image' content='https://a.test/404.png'>"),
    "ppt.cc/image1": moved("https://i.imgur.com/abcdefg.jpg"),
    "ppt.cc/chain1": moved("http://reurl.cc/chain2"),
    "reurl.cc/chain2": moved("/chain3"),
    "reurl.cc/chain3": (200, {}, '<meta http-equiv="Refresh" content="0; URL=\'//host.test/x\'">'),
    "host.test/x": (200, {"Content-Type": "image/jpeg"}, "\ufffd" * 9),
    "ppt.cc/topage": moved("https://ibb.co/AbCdEfG"),
    "ppt.cc/toalbum": moved("https://imgur.com/a/AbCdE"),
    "imgur.com/a/AbCdE": (200, {}, page(MEDIA)),
    "ppt.cc/toshop": moved("https://shop.test/thing?id=1"),
    "shop.test/thing?id=1": preview("https://shop.test/thing.jpg"),
    "ppt.cc/around": moved("https://ppt.cc/around"),
    "ppt.cc/expired": (404, {}, ""),
    "ppt.cc/interstitial": (200, {}, "<p>you leave us"),
    "ppt.cc/tofile": moved("file:///etc/passwd"),
    "ppt.cc/toscript": moved("javascript:alert(1)"),
    "ppt.cc/inside": moved("http://127.0.0.1:9/latest/meta-data"),
    "ppt.cc/metadata": moved("http://169.254.169.254/latest/meta-data"),
    "flic.kr/p/2abcDEF": moved("https://www.flickr.com/photos/someone/345/"),
    "www.flickr.com/photos/someone/345/": preview(
        "https://live.staticflickr.com/65535/345_0a1b2c_z.jpg"
    ),
}
PREVIEWED = {
    "https://ibb.co/AbCdEfG": ["https://i.ibb.co/x1/one.jpg"],
    "https://postimg.cc/AbCdEfG": ["https://postimg.cc/files/two?token=1&x=2"],
    "https://postimg.cc/removed": None,
    "https://postimg.cc/noimage": None,
    "https://postimg.cc/deleted": None,
    "https://ppt.cc/image1": ["https://i.imgur.com/abcdefg.jpg"],
    "https://ppt.cc/chain1": ["https://host.test/x"],
    "https://ppt.cc/topage": ["https://i.ibb.co/x1/one.jpg"],
    "https://ppt.cc/toalbum": [address for address in MEDIA if "mp4" not in address],
    "https://ppt.cc/toshop": [],  # it leads to no image
    "https://ppt.cc/around": None,
    "https://ppt.cc/expired": None,
    "https://ppt.cc/interstitial": None,
    "https://ppt.cc/tofile": None,
    "https://ppt.cc/toscript": None,
    "https://ppt.cc/inside": None,
    "https://ppt.cc/metadata": None,
    "https://flic.kr/p/2abcDEF": [
        "https://live.staticflickr.com/65535/345_0a1b2c_b.jpg",
    ],
}


@contextmanager
def web(answers: dict[str, Answer], robots: str = "") -> Iterator[tuple[PageClient, list[str]]]:
    """A client of many hosts on one server; the list has what it requested, without robots.txt."""

    def answer(address: str) -> Answer:
        if address.endswith("/robots.txt"):
            return 200, {}, robots if address.startswith("ibb.co/") else ""
        return answers.get(address, (404, {}, ""))

    requested: list[str] = []
    with server(answer, by_host=True) as (base, asked):
        hosts = LoopbackHosts(dict.fromkeys(HOSTS, int(base.rpartition(":")[2])))
        with PageClient(hosts, 1000, RETRIES, allow_networks=()) as client:
            yield client, requested
        requested += [path for path, _, _ in asked if not path.endswith("robots.txt")]


def pages_opened(client: PageClient, folder: Path, *reads: ArticleRead) -> list[ArticleRead]:
    sources = {**PAGE_SOURCES, "album": ALBUM_SOURCES["page"]}
    cache = PageCache(folder)
    return open_pages(client, reads, sources, lambda _: cache, lambda _: True, RULES)


def test_open_pages_asks_pages_for_their_image_and_follows_short_links(tmp_path: Path) -> None:
    reads = [read(posted) for posted in PREVIEWED]
    with web(WEB) as (client, requested):
        ended = pages_opened(client, tmp_path, *reads)
    found = {
        posted: [link.addresses[0] for link in each.links.images if link.addresses]
        if each.links.images != before.links.images
        else None
        for posted, each, before in zip(PREVIEWED, ended, reads, strict=True)
    }
    assert found == PREVIEWED
    left = {posted: each.links.other for posted, each in zip(PREVIEWED, ended, strict=True)}
    assert left["https://ppt.cc/toshop"] == ("ppt.cc",)
    assert all(
        len(each.links.images) == 1
        for each, posted in zip(ended, PREVIEWED, strict=True)
        if PREVIEWED[posted] is None
    )
    # No image is requested, and no page of shops for its picture.
    assert not [each for each in requested if each.endswith((".jpg", ".png"))]
    assert requested.count("ppt.cc/around") == 1  # a round trip is made in the cache


def test_open_pages_requests_no_page_twice(tmp_path: Path) -> None:
    nowhere = ("https://ppt.cc/tofile", "https://ppt.cc/toscript")  # perhaps for a moment
    posted = [each for each in PREVIEWED if each not in nowhere]
    with web(WEB) as (client, _):
        first = pages_opened(client, tmp_path, *map(read, posted))
    with web({}) as (client, requested):
        assert pages_opened(client, tmp_path, *map(read, posted)) == first
    assert requested == []


def test_open_pages_of_two_articles_uses_the_cache_of_the_first(tmp_path: Path) -> None:
    """The pages of a young article are requested again, those of the old one are not."""
    old = read("https://ibb.co/AbCdEfG")
    young = replace(old, article=replace(ARTICLE, id="M.1735659922.A.157"))
    requested = []
    for reads in ([old], [old, young]):
        with web(WEB) as (client, asked):
            open_pages(
                client,
                reads,
                PAGE_SOURCES,
                lambda article: PageCache(tmp_path / article.id),
                lambda _: True,
                RULES,
            )
        requested.append(asked)
    assert requested == [["ibb.co/AbCdEfG"], []]


def test_open_pages_obeys_the_robots_txt_of_each_host(tmp_path: Path) -> None:
    """A short link may be followed to a host whose page must not be requested."""
    reads = [
        read("https://ppt.cc/topage"),
        read("https://ibb.co/AbCdEfG"),
        read("https://ppt.cc/image1"),
    ]
    with web(WEB, robots="User-agent: *\nDisallow: /") as (client, requested):
        to_page, page_link, to_image = pages_opened(client, tmp_path, *reads)
    assert sorted(requested) == ["ppt.cc/image1", "ppt.cc/topage"]
    (link,) = to_page.links.images
    assert (link.addresses, link.page) == ((), "https://ibb.co/AbCdEfG")
    assert not page_link.links.images[0].addresses
    assert to_image.links.images[0].addresses


def test_open_pages_when_a_host_is_down_opens_those_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    down: dict[str, Answer] = {f"postimg.cc/AbCdEf{n}": (-1, {}, "") for n in range(9)}
    reads = [read(f"https://{address}") for address in down]
    reads.insert(6, read("https://ibb.co/AbCdEfG"))
    with web(WEB | down) as (client, requested):
        ended = pages_opened(client, tmp_path, *reads)
    assert [bool(each.links.images[0].addresses) for each in ended] == [n == 6 for n in range(10)]
    assert len({each for each in requested if "postimg" in each}) == 3
    assert "skipping the remaining pages of postimg.cc" in capsys.readouterr().err


def test_open_pages_when_a_host_is_down_uses_its_cached_pages(tmp_path: Path) -> None:
    known = read("https://imgur.com/a/AbCdE")
    (before,), _ = opened(lambda _: (200, {}, page(MEDIA)), "page", tmp_path, known)
    unknown = [read(f"https://imgur.com/a/AbCd{n}") for n in range(9)]
    for reads in ([*unknown, known], [known, *unknown]):
        ended, asked = opened(
            lambda path: (404 if "robots" in path else -1, {}, ""), "page", tmp_path, *reads
        )
        assert ended[reads.index(known)] == before
        assert len(set(asked)) == 3


def test_open_pages_when_the_first_pages_fail_each_time_opens_the_others(tmp_path: Path) -> None:
    reads = [read(f"https://imgur.com/a/AbCd{n}") for n in range(9)]

    def answer(path: str) -> Answer:
        if "robots" in path:
            return 404, {}, ""
        return (-1, {}, "") if path[-1] in "012" else (200, {}, page(MEDIA))

    for _ in range(10):
        ended, _ = opened(answer, "page", tmp_path, *reads)
    assert [len(each.links.images) for each in ended] == [1] * 3 + [2] * 6


@pytest.mark.parametrize("value", ["", "two words", "line\n", "é"])
def test_imgur_credentials_of_another_form_raise_params_error(value: str) -> None:
    with pytest.raises(ParamsError, match="IMGUR_CLIENT_ID holds no client id"):
        imgur_credentials(value)


def test_imgur_credentials_go_to_the_api_only() -> None:
    credentials = imgur_credentials("an-id")
    assert credentials("https://api.imgur.com/3/") == {"Authorization": "Client-ID an-id"}
    others = ("https://imgur.com/a/AbCdE", "https://api.imgur.evil.test/", "http://api.imgur.com/")
    for url in others:
        assert not credentials(url)


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


@given(st.text(max_size=80))
def test_preview_image_of_any_markup_raises_nothing(text: str) -> None:
    for markup in (text, f'<meta property="og:image" content="{text}">'):
        preview_image(Page("https://host.test/x", 200, markup))
