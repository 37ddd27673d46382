"""From posted links to the images behind them: every form that the board has shown."""

from collections.abc import Iterable
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.board.article_page import PostedLink
from pttfaces.board.hosts import RULES, HostRules
from pttfaces.board.links import ArticleLinks, ImageLink, cut_punctuation, sort_links, split_glued
from pttfaces.demo.site import HOST_ALIASES

PAGE = "https://www.ptt.cc/bbs/Beauty/M.1704040318.A.E87.html"
HOST_RULES = HostRules(HOST_ALIASES)


def sort(*hrefs: str, place: str = "body") -> ArticleLinks:
    return sort_links([PostedLink(href, place, "") for href in hrefs], PAGE, HOST_RULES)


def urls_of(links: Iterable[ImageLink]) -> list[str | None]:
    """The first address of each, None where a link has none."""
    return [link.addresses[0] if link.addresses else None for link in links]


IMGUR = "https://i.imgur.com/abcdefg"
FORMS = [
    # imgur: files
    ("https://i.imgur.com/abcdefg.jpg", f"{IMGUR}.jpg"),
    ("https://i.imgur.com/abcdefg.jpeg", f"{IMGUR}.jpeg"),
    ("http://i.imgur.com/abcdefg.jpg", f"{IMGUR}.jpg"),
    ("HTTPS://I.IMGUR.COM/abcdefg.JPG", f"{IMGUR}.jpg"),
    ("https://i.imgur.com/abcdefg.png?1", f"{IMGUR}.png"),
    ("https://i.imgur.com/abcdefg.gifv", f"{IMGUR}.gif"),
    ("https://i.imgur.com/abcdefg.webp", f"{IMGUR}.webp"),
    ("https://i.imgur.com/abcdefgh.jpg", f"{IMGUR}.jpg"),  # a smaller copy's address
    ("https://i.imgur.com/abcdefg_d.webp?maxwidth=760&fidelity=grand", f"{IMGUR}.jpg"),
    ("https://i.imgur.com/abcdefg", f"{IMGUR}.jpg"),
    ("https://i.imgur.com/aBc12.jpg", "https://i.imgur.com/aBc12.jpg"),
    # imgur: pages
    ("https://imgur.com/abcdefg", f"{IMGUR}.jpg"),
    ("https://imgur.com/abcdefg.jpg", f"{IMGUR}.jpg"),
    ("http://m.imgur.com/abcdefg", f"{IMGUR}.jpg"),
    ("https://imgur.com/some-title-abcdefg", f"{IMGUR}.jpg"),
    ("//imgur.com/abcdefg", f"{IMGUR}.jpg"),
    # other hosts
    (
        "https://pbs.twimg.com/media/GABc_d-1?format=jpg&name=small",
        "https://pbs.twimg.com/media/GABc_d-1?format=jpg&name=orig",
    ),
    (
        "https://pbs.twimg.com/media/GABc_d-1?format=png&name=4096x4096",
        "https://pbs.twimg.com/media/GABc_d-1?format=png&name=orig",
    ),
    (
        "https://pbs.twimg.com/media/GABc_d-1.jpg:large",
        "https://pbs.twimg.com/media/GABc_d-1?format=jpg&name=orig",
    ),
    ("https://meee.com.tw/AbCdEf1", "https://i.meee.com.tw/AbCdEf1.jpg"),
    ("https://meee.com.tw/AbCdEf1.png", "https://i.meee.com.tw/AbCdEf1.png"),
    ("https://i.meee.com.tw/AbCdEf1.jpg", "https://i.meee.com.tw/AbCdEf1.jpg"),
    ("https://d.img.vision/user/one.jpeg", "https://d.img.vision/user/one.jpeg"),
    ("https://i.ibb.co/AbC123/one.jpg", "https://i.ibb.co/AbC123/one.jpg"),
    # any other host, by extension
    ("https://host.test/a/b.webp", "https://host.test/a/b.webp"),
    ("https://host.test/b.AVIF?sig=1&x=2#top", "https://host.test/b.AVIF?sig=1&x=2"),
    ("http://host.test:8080/b.png", "http://host.test:8080/b.png"),
    # what the site swallowed
    ("https://i.imgur.com/abcdefg.jpg)", f"{IMGUR}.jpg"),
    ("https://i.imgur.com/abcdefg.jpg,", f"{IMGUR}.jpg"),
    ("https://i.imgur.com/abcdefg.jpg...", f"{IMGUR}.jpg"),
    ("https://host.test/a_(1).jpg", "https://host.test/a_(1).jpg"),
]


@pytest.mark.parametrize(("posted", "url"), FORMS)
def test_sort_links_of_each_form_gives_the_original(posted: str, url: str) -> None:
    (link,) = sort(posted).images
    assert link.addresses == (url,)
    assert link.posted == posted


@pytest.mark.parametrize("alias", HOST_ALIASES)
def test_sort_links_of_an_alias_follows_the_rules_of_its_host(alias: str) -> None:
    for posted, url in FORMS:
        if urlsplit(posted).hostname == HOST_ALIASES[alias]:
            (link,) = sort(posted.lower().replace(HOST_ALIASES[alias], alias)).images
            (address,) = link.addresses
            assert urlsplit(address).hostname in HOST_ALIASES
            assert urlsplit(address).path.lower() == urlsplit(url).path.lower()


@pytest.mark.parametrize(
    "posted",
    [
        "https://www.youtube.com/watch?v=1",
        "https://i.imgur.com/abcdefg.mp4",
        "https://imgur.com/upload",
        "https://imgur.com/",
        "https://host.test/page.html",
        "https://host.test/",
        "mailto:me@host.test",
        "javascript:void(0)",
        "https://[/a.jpg",
        "https://host.test:99999/a.jpg",
        "/bbs/Beauty/index.html",
    ],
)
def test_sort_links_counts_links_to_no_image(posted: str) -> None:
    assert sort(posted) == ArticleLinks((), 1, 0)


@pytest.mark.parametrize("path", ["a/abcde", "gallery/abcdefg", "gallery/a-title-abcdefg"])
def test_sort_links_of_an_album_gives_no_address(path: str) -> None:
    (link,) = sort(f"https://imgur.com/{path}").images
    assert (link.addresses, link.kind) == ((), "album")


def test_sort_links_of_an_address_with_several_ids_gives_several_images() -> None:
    links = sort("https://imgur.com/abcdefg,hijklmn").images
    assert urls_of(links) == [f"{IMGUR}.jpg", "https://i.imgur.com/hijklmn.jpg"]


def test_sort_links_splits_links_typed_without_a_space() -> None:
    posted = "https://i.imgur.com/abcdefg.jpeghttps://i.imgur.com/hijklmn.jpeg"
    assert urls_of(sort(posted).images) == [
        f"{IMGUR}.jpeg",
        "https://i.imgur.com/hijklmn.jpeg",
    ]


def test_sort_links_of_one_image_in_many_forms_keeps_the_first_in_the_body() -> None:
    forms = [posted for posted, url in FORMS if url.startswith(f"{IMGUR}.")]
    links = [PostedLink("https://imgur.com/abcdefg", "push", "fan")]
    links += [PostedLink(form, "body", "") for form in forms]
    result = sort_links(links, PAGE, HOST_RULES)
    assert [(link.posted, link.place) for link in result.images] == [(forms[0], "body")]
    assert result.repeated == len(forms)


def test_sort_links_keeps_the_pages_order_though_the_body_comes_first() -> None:
    links = [
        PostedLink("https://i.imgur.com/aaaaaaa.jpg", "body", ""),
        PostedLink("https://i.imgur.com/bbbbbbb.jpg", "push", "fan"),
        PostedLink("https://imgur.com/ccccccc", "push", "fan"),
        PostedLink("https://i.imgur.com/ccccccc.png", "body", ""),  # added below the pushes
    ]
    result = sort_links(links, PAGE, HOST_RULES)
    assert [(link.addresses[0], link.place) for link in result.images] == [
        ("https://i.imgur.com/aaaaaaa.jpg", "body"),
        ("https://i.imgur.com/bbbbbbb.jpg", "push"),
        ("https://i.imgur.com/ccccccc.png", "body"),
    ]
    assert result.repeated == 1


@pytest.mark.parametrize(
    ("posted", "album"),
    [
        ("https://imgur.com/a/AbCdE", "https://imgur.com/a/AbCdE"),
        ("http://m.imgur.com/a/AbCdE/", "https://imgur.com/a/AbCdE"),
        ("https://imgur.com/a/a-title-AbCdEfG#3", "https://imgur.com/a/AbCdEfG"),
        ("https://imgur.com/a/AbCdE/all", "https://imgur.com/a/AbCdE"),
        ("https://imgur.com/gallery/AbCdE", "https://imgur.com/gallery/AbCdE"),
        ("https://imgur.com/t/cats/AbCdE", "https://imgur.com/gallery/AbCdE"),
        ("https://imgur.test/a/AbCdE", "https://imgur.test/a/AbCdE"),
    ],
)
def test_sort_links_of_an_album_names_its_page(posted: str, album: str) -> None:
    (link,) = sort(posted).images
    assert (link.addresses, link.album) == ((), album)


def test_host_rules_of_every_host_find_an_image() -> None:
    paths = ["abcdefg.jpg", "media/abcdefg?format=jpg", "abcdefg"]
    for host in RULES:
        assert any(HostRules().images_at(urlsplit(f"https://{host}/{path}")) for path in paths), (
            host
        )


# Letters and digits at the end: punctuation there is cut, as it is the sentence's.
URLS = st.from_regex(r"https?://[a-z]{1,8}\.test/[!-~]{0,20}[a-z0-9]", fullmatch=True).filter(
    lambda url: "http://" not in url[4:].lower() and "https://" not in url[4:].lower()
)


@given(st.lists(URLS, min_size=1, max_size=6))
def test_split_glued_is_the_inverse_of_joining(urls: list[str]) -> None:
    assert split_glued("".join(urls)) == urls


@given(URLS, st.text(".,;:!?'\"*~|", max_size=5))
def test_cut_punctuation_removes_nothing_else(url: str, end: str) -> None:
    assert cut_punctuation(url + end) == url


@given(st.text(max_size=60))
def test_sort_links_accepts_any_text(text: str) -> None:
    sort(
        text,
        f"https://{text}",
        f"https://i.imgur.com/{text}",
        f"https://pbs.twimg.com/media/{text}",
    )
