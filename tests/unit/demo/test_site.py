"""The demo board over real HTTP behaves like the real one, and has one of everything."""

import io
import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import loopback
import numpy as np
import pytest
import requests
from PIL import Image, ImageOps, UnidentifiedImageError

from pttfaces.demo import encode, pages
from pttfaces.demo.board import DemoBoard, DemoImage, board_seed, image_key, make_board
from pttfaces.demo.site import BOARD_HOST, HOSTS, serve
from pttfaces.errors import SiteError
from pttfaces.http import LoopbackHosts

BOARD = make_board(1, 72, "Beauty", 2024)
BASE = f"https://{BOARD_HOST}"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve([BOARD]) as port:
        yield port


@pytest.fixture
def session(port: int) -> requests.Session:
    return loopback.session(LoopbackHosts(dict.fromkeys(HOSTS, port)))


@pytest.fixture
def adult(session: requests.Session) -> requests.Session:
    session.cookies.set("over18", "1")
    return session


def key_of(**properties: object) -> str:
    """The key of the first image with these properties."""
    for key, image in BOARD.images.items():
        if all(getattr(image, name) == value for name, value in properties.items()):
            return key
    raise AssertionError(f"the demo shows none with {properties}")


def get(session: requests.Session, key: str, tail: str = ".jpg") -> requests.Response:
    return session.get(f"https://{key}{tail}")


def test_gate_when_answered_yes_sets_a_cookie_and_leads_back(session: requests.Session) -> None:
    asked = session.get(f"{BASE}/bbs/Beauty/index2.html")
    assert urlsplit(asked.url).path == "/ask/over18"
    assert urlsplit(asked.url).query == "from=%2Fbbs%2FBeauty%2Findex2.html"
    assert '<form action="/ask/over18" method="post">' in asked.text
    form = {"from": "/bbs/Beauty/index2.html", "yes": "yes"}
    answer = session.post(f"{BASE}/ask/over18", data=form)
    assert answer.url.endswith("/bbs/Beauty/index2.html")
    assert answer.history[0].headers["Set-Cookie"] == "over18=1; Path=/"
    assert "r-list-container" in session.get(f"{BASE}/bbs/Beauty/index1.html").text


def test_gate_when_answered_no_or_for_another_site_sets_no_cookie(
    session: requests.Session,
) -> None:
    for form in ({"from": "/bbs/x", "no": "no"}, {"from": "//evil.test/", "yes": "yes"}):
        answer = session.post(f"{BASE}/ask/over18", data=form, allow_redirects=False)
        assert answer.headers["Location"] == "/"
        assert "Set-Cookie" not in answer.headers


def test_index_pages_have_twenty_rows_and_count_from_the_oldest(adult: requests.Session) -> None:
    newest = adult.get(f"{BASE}/bbs/Beauty/index.html").text
    last = pages.page_count(BOARD)
    assert adult.get(f"{BASE}/bbs/Beauty/index{last}.html").text == newest
    assert f"index{last - 1}.html" in newest
    oldest = adult.get(f"{BASE}/bbs/Beauty/index1.html").text
    assert oldest.count('class="r-ent"') == 20
    assert BOARD.posts[0].id in oldest
    assert 'class="r-list-sep"' in newest
    assert 'class="r-list-sep"' not in oldest
    for number in (0, last + 1):
        assert adult.get(f"{BASE}/bbs/Beauty/index{number}.html").status_code == 404


def test_site_of_an_unknown_page_answers_404(adult: requests.Session) -> None:
    for path in ("/bbs/Nowhere/index.html", "/bbs/Beauty/M.1.A.000.html", "/else"):
        answer = adult.get(f"{BASE}{path}")
        assert answer.status_code == 404
        assert '<div class="main-container">' in answer.text


def test_make_board_posts_a_row_of_every_kind() -> None:
    text = "".join(pages.index_page(BOARD, n + 1) for n in range(pages.page_count(BOARD)))
    cells = Counter(re.findall(r'"nrec">(?:<span[^>]*>)?([^<]*)', text))
    assert cells["爆"]
    assert cells["X1"]
    assert cells["XX"]
    assert cells[""]
    assert any(re.fullmatch(r"[1-9]\d?", cell) for cell in cells)
    assert text.count("本文已被刪除") == 4
    assert text.count("[公告]") >= 6
    assert set(re.findall(r'"mark">([^<]*)<', text)) == {"", "M", "S", "!"}
    assert {post.time.year for post in BOARD.posts} == {2023, 2024, 2025}
    assert BOARD.posts[70].time.isoformat() == "2024-01-01T00:00:00+08:00"
    assert BOARD.posts[-31].time.isoformat() == "2024-12-31T23:59:59+08:00"
    seconds = Counter(post.id.split(".")[1] for post in BOARD.posts)
    assert max(seconds.values()) == 2


def test_make_board_posts_an_article_of_every_kind() -> None:
    kinds = Counter(post.page for post in BOARD.posts)
    odd = {"deleted": 4, "gone": 1, "empty": 1, "truncated": 1, "malformed": 1}
    assert kinds == {"ok": len(BOARD.posts) - 8, **odd}
    kept = [post for post in BOARD.posts if post.lines and post.nrec is not None]
    assert {post.metalines for post in kept} == {0, 2, 3}
    texts = "".join(pages.article_page(BOARD, post) for post in kept)
    for sign in ("__cf_email__", "imgur-embed-pub", "<img src=", "warning-box", "推 ", "噓 ", "→ "):
        assert sign in texts, sign


def test_make_board_posts_every_form_of_an_image_link() -> None:
    text = "\n".join(
        line for p in BOARD.posts for line in (*p.lines, *(push.text for push in p.pushes))
    )
    for form in (
        r"https://i\.imgur\.test/\w{7}\.jpg$",
        r"https://i\.imgur\.test/\w{7}\.jpeg$",
        r"http://i\.imgur\.test/\w{7}\.jpg",
        r"https://I\.Imgur\.test/\w{7}\.JPG",
        r"https://i\.imgur\.test/\w{7}\.gifv",
        r"https://i\.imgur\.test/\w{7}\.png",
        r"https://i\.imgur\.test/\w{7}\.jpg\?1",
        r"https://imgur\.test/\w{7}$",
        r"https://imgur\.test/\w{7}\.jpg",
        r"https://m\.imgur\.test/\w{7}$",
        r"https://imgur\.test/a/\w{7}",
        r"https://imgur\.test/gallery/\w{7}",
        r"https://pbs\.twimg\.test/media/\w+\?format=jpg&name=small",
        r"https://pbs\.twimg\.test/media/\w+\.jpg:large",
        r"https://i\.meee\.test/\w+\.jpg",
        r"https://meee\.test/\w+$",
        r"https://d\.img\.test/u/\w+\.jpeg",
        r"https://i\.ibb\.test/\w+/\w+\.jpg",
        r"https://pictures\.test/2024/\w+\.webp",
        r"https://pictures\.test/2024/\w+\.PNG\?w=640&from=ptt",
        r"\.jpeghttps://",
        r"\(https://\S+\)",
        r"https://\S+,$",
        r"補一張 https://",
        r"https://video\.test/",
    ):
        assert re.search(form, text, re.MULTILINE), form


def test_make_board_of_72_articles_has_enough_images_to_train_on() -> None:
    shown = Counter(p.shows for p in BOARD.images.values() if p.answer == "ok")
    assert shown["portrait"] >= 390
    assert shown["blurred"] >= 10
    assert shown["scene"] >= 10
    assert shown["group"] >= 5
    assert 440 <= len(BOARD.images) <= 490
    formats = Counter(image.format for image in BOARD.images.values())
    assert all(formats[name] >= 2 for name in ("JPEG", "PNG", "GIF", "WEBP"))
    assert len(set(BOARD.images.values())) < len(BOARD.images)  # one image, two addresses


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP"])
def test_site_serves_images_in_their_format_with_the_same_bytes_each_time(
    name: str, session: requests.Session
) -> None:
    key = key_of(format=name, answer="ok", shows="portrait", rotated=False)
    first = get(session, key)
    assert first.headers["Content-Type"] == f"image/{name.lower()}"
    with Image.open(io.BytesIO(first.content)) as image:
        assert image.format == name
    assert get(session, key).content == first.content


def test_site_serves_rotated_images_that_their_exif_turns_upright(
    session: requests.Session,
) -> None:
    key = key_of(rotated=True)
    with Image.open(io.BytesIO(get(session, key).content)) as stored:
        upright = ImageOps.exif_transpose(stored)
        assert upright.size == stored.size[::-1]
    plain = encode.draw(BOARD.images[key], BOARD.seed)
    assert np.abs(np.asarray(upright, int) - np.asarray(plain, int)).mean() < 4


def test_site_of_images_that_fail_breaks_each_in_its_own_way(session: requests.Session) -> None:
    truncated = get(session, key_of(answer="truncated"))
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(truncated.content)).load()
    page = get(session, key_of(answer="html"))
    assert page.headers["Content-Type"] == "image/jpeg"
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(page.content))
    assert get(session, key_of(answer="missing")).status_code == 404
    removed = get(session, key_of(answer="removed"))
    assert (removed.status_code, removed.url) == (200, "https://i.imgur.test/removed.png")
    assert removed.history[0].status_code == 302


def test_album_lists_its_images_on_its_page_and_by_the_api(
    session: requests.Session,
) -> None:
    assert len(BOARD.albums) == 3
    for name, addresses in BOARD.albums.items():
        assert {image_key(address) for address in addresses} <= set(BOARD.images)
        text = session.get(f"https://imgur.test/a/{name}").text
        assert all(address in text for address in addresses)
    asked = f"https://api.imgur.test/3/album/{name}/images"
    assert session.get(asked).status_code == 403
    session.headers["Authorization"] = "Client-ID someone"
    assert [image["link"] for image in session.get(asked).json()["data"]] == list(addresses)
    assert session.get(asked.replace(name, "nothing")).status_code == 404
    assert "window" not in session.get("https://imgur.test/gallery/nothing").text


@pytest.mark.parametrize("status", [429, 503])
def test_site_of_a_busy_image_serves_it_at_the_second_request(status: int) -> None:
    board = DemoBoard("Beauty", images={"i.imgur.test/abcdefg": DemoImage(1, "scene", ())})
    board.images["i.imgur.test/abcdefg"] = DemoImage(1, "scene", (), answer=f"busy {status}")
    with serve([board]) as port:
        session = loopback.session(LoopbackHosts(dict.fromkeys(HOSTS, port)))
        first = get(session, "i.imgur.test/abcdefg")
        assert (first.status_code, first.headers["Retry-After"]) == (status, "1")
        assert get(session, "i.imgur.test/abcdefg").status_code == 200


def test_imgur_refuses_hotlinks_and_twimg_serves_small_copies(session: requests.Session) -> None:
    key = key_of(answer="ok", shows="portrait", format="JPEG", rotated=False)
    assert session.get(f"https://{key}.jpg", headers={"Referer": BASE}).status_code == 403
    twimg = next(key for key in BOARD.images if key.startswith("pbs.twimg.test/media/"))
    sizes = []
    for name in ("small", "orig"):
        with Image.open(
            io.BytesIO(get(session, twimg, f"?format=jpg&name={name}").content)
        ) as image:
            sizes.append(image.width)
    assert sizes[0] * 2 == sizes[1]


def test_make_board_of_the_same_seed_gives_the_same_board() -> None:
    assert make_board(1, 72, "Beauty", 2024) == BOARD
    other = make_board(2, 72, "Beauty", 2024)
    assert other.posts[80] != BOARD.posts[80]
    assert not set(other.images) & set(BOARD.images)


def test_make_board_of_a_year_is_the_same_beside_other_years() -> None:
    several = make_board(1, 72, "Beauty", 2022, 2023, 2024)
    of_2024 = [[post for post in b.posts if post.time.year == 2024] for b in (BOARD, several)]
    assert of_2024[0] == of_2024[1]
    assert BOARD.images.items() < several.images.items()
    assert len({image.number for image in several.images.values()}) > 2.9 * len(
        {image.number for image in BOARD.images.values()}
    )


def test_board_seed_of_a_name_is_its_own_and_that_of_the_demo_for_the_recorded_board() -> None:
    names = ("Beauty", "Handsome", "WomenTalk")
    seeds = [board_seed(seed, name) for seed in (0, 2**31 - 1) for name in names]
    assert seeds[::3] == [0, 2**31 - 1]
    assert len(set(seeds)) == 6
    assert min(seeds) >= 0


@pytest.mark.parametrize("articles", [3, 5, 24, 200])
def test_make_board_has_as_many_articles_as_requested(articles: int) -> None:
    board = make_board(7, articles, "Beauty", 2023)
    kept = [
        post
        for post in board.posts
        if post.time.year == 2023 and post.nrec is not None and post.page != "deleted"
        if post.title and "[公告]" not in post.title
    ]
    assert len(kept) == articles
    assert [post.time for post in board.posts] == sorted(post.time for post in board.posts)


def test_site_for_a_browser_rewrites_every_link_to_itself(port: int) -> None:
    with requests.Session() as browser:
        start = f"http://127.0.0.1:{port}/bbs/Beauty/index.html"
        assert "/ask/over18" in browser.get(start).url
        browser.post(f"http://127.0.0.1:{port}/ask/over18", data={"from": "/", "yes": "yes"})
        post = BOARD.posts[80]
        text = browser.get(f"http://127.0.0.1:{port}/bbs/Beauty/{post.id}.html").text
        hrefs = re.findall(r'(?:href|src)="([^"]+)"', text)
        assert any(href.startswith("/@i.imgur.test/") for href in hrefs)
        assert not [href for href in hrefs if urlsplit(href).hostname in HOSTS]
        removed = key_of(answer="removed")
        answer = browser.get(f"http://127.0.0.1:{port}/@{removed}.jpg", headers={"Referer": start})
        assert answer.url == f"http://127.0.0.1:{port}/@i.imgur.test/removed.png"
        assert answer.headers["Content-Type"] == "image/png"


def test_serve_on_a_port_in_use_raises_site_error(port: int) -> None:
    sentence = rf"port {port} of 127\.0\.0\.1 cannot be used \(.+\); choose another"
    with pytest.raises(SiteError, match=sentence), serve([BOARD], port):
        pass


def test_image_key_of_an_address_in_any_form_is_the_same() -> None:
    forms = ["https://i.imgur.test/abcdefg.jpg?1", "http://I.imgur.test/abcdefg.gifv"]
    forms += ["https://m.imgur.test/abcdefg", "https://imgur.test/abcdefg.jpg"]
    assert {image_key(form) for form in forms} == {"i.imgur.test/abcdefg"}
