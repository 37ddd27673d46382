"""Articles as ptt.cc writes them: heads of 0, 2 and 3 lines, pushes, shields, embeds, odd pages."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from pttfaces.board.article import decode_email, parse_article
from pttfaces.errors import SiteError


def line(tag: str, value: str, side: str = "") -> str:
    return (
        f'<div class="article-metaline{side}"><span class="article-meta-tag">{tag}</span>'
        f'<span class="article-meta-value">{value}</span></div>'
    )


def link(href: str) -> str:
    return f'<a href="{href}" target="_blank" rel="nofollow">{href}</a>'


def push(user: str, text: str) -> str:
    return (
        '<div class="push"><span class="hl push-tag">推 </span>'
        f'<span class="f3 hl push-userid">{user}</span>'
        f'<span class="f3 push-content">: {text}</span>'
        '<span class="push-ipdatetime"> 01/01 08:00\n</span></div>'
    )


HEAD = line("作者", "writer (nick)") + line("看板", "Beauty", "-right") + line("標題", "[正妹] 一")
ORIGIN = '--\n<span class="f2">※ 發信站: 批踢踢實業坊(ptt.cc) \n</span>◆ From: 192.0.2.7\n'


def page(content: str) -> str:
    return (
        '<html><body><div id="main-container"><div id="main-content" class="bbs-screen">'
        f"{content}</div></div></body></html>"
    )


def test_three_metalines() -> None:
    read = parse_article(page(HEAD + line("時間", "Mon Apr  2 07:24:47 2007") + "\n文\n" + ORIGIN))
    assert read.status == "ok"
    assert read.head["作者"] == "writer (nick)"
    assert read.head["標題"] == "[正妹] 一"
    assert read.head["時間"] == "Mon Apr  2 07:24:47 2007"


def test_two_metalines_with_the_time_glued_to_the_title() -> None:
    glued = line("標題", "[閒聊] 開版妙戊時間: Thu Jun 14 20:27:24 2007")
    read = parse_article(page(line("作者", "w") + line("看板", "B", "-right") + glued + "\n恭喜\n"))
    assert read.head["標題"] == "[閒聊] 開版妙戊"
    assert read.head["時間"] == "Thu Jun 14 20:27:24 2007"


def test_no_metalines_at_all() -> None:
    read = parse_article(page("\n文章\n" + link("https://i.imgur.com/abcdefg.jpg")))
    assert (read.status, read.head, len(read.links)) == ("ok", {}, 1)


def test_links_keep_their_order_and_know_whose_they_are() -> None:
    text = (
        HEAD
        + f"\n{link('https://a.test/1.jpg')}\n"
        + push("fan", "看 " + link("https://a.test/2.jpg"))
        + '<span class="f2">※ 編輯: writer (192.0.2.7), 01/01/2024\n</span>'
        + link("https://a.test/3.jpg")
    )
    assert [
        (each.href[-5:], each.place, each.author) for each in parse_article(page(text)).links
    ] == [
        ("1.jpg", "body", ""),
        ("2.jpg", "push", "fan"),
        ("3.jpg", "body", ""),
    ]


def test_the_embedded_copy_is_no_link_and_the_old_embed_is_one() -> None:
    text = (
        '<div class="richcontent"><img src="https://cache.ptt.cc/c/https/i.imgur.com/a.jpg"></div>'
        '<div class="richcontent"><blockquote class="imgur-embed-pub" data-id="abcdefg">'
        '<a href="//imgur.com/abcdefg"></a></blockquote></div>'
    )
    assert [each.href for each in parse_article(page(text)).links] == ["//imgur.com/abcdefg"]


def test_a_shielded_address_is_no_link_but_one_inside_a_link_is_read() -> None:
    shield = (
        '<a href="/cdn-cgi/l/email-protection" class="__cf_email__" data-cfemail="acf3f3f3ec">x</a>'
    )
    code = bytes([7, *(byte ^ 7 for byte in b"me@host.test")]).hex()
    inside = (
        '<a href="https://blog.test/[email&#160;protected]/a.jpg">https://blog.test/'
        f'<span class="__cf_email__" data-cfemail="{code}">[email&#160;protected]</span>/a.jpg</a>'
    )
    links = parse_article(page("你好" + shield + inside)).links
    assert [each.href for each in links] == ["https://blog.test/me@host.test/a.jpg"]


def test_an_address_behind_the_shield() -> None:
    assert decode_email("acf3f3f3ec") == "___@"  # from a real page
    assert decode_email("no hex") == ""
    assert decode_email("") == ""


def test_an_article_without_a_word_of_its_author_is_empty() -> None:
    assert parse_article(page(HEAD + "\n\n" + ORIGIN + push("fan", "推"))).status == "empty"


def test_a_page_without_its_middle_is_truncated_and_keeps_its_links() -> None:
    box = '<div class="push center warning-box">檔案過大!部分文章無法顯示</div>'
    read = parse_article(page(HEAD + link("https://i.imgur.com/abcdefg.jpg") + box))
    assert (read.status, len(read.links)) == ("truncated", 1)


def test_what_is_no_article_is_malformed() -> None:
    assert (
        parse_article("<h1>500 - Internal Server Error / Server Too Busy.</h1>").status
        == "malformed"
    )
    assert parse_article('<div class="main-container">404 - Not Found.</div>').status == "malformed"


BITS = [HEAD, ORIGIN, push("u", "x"), link("https://a.test/1.jpg"), "</div>", "<a href='//["]
BITS += ['<div id="main-content">', "<span data-cfemail=zz>", "[email protected]", "<![", "&#x;"]
BITS += ["<div class=push>" * 50, "&#" + "9" * 5000 + ";", '<a href="&#' + "9" * 5000 + ';">']
PIECES = st.lists(st.sampled_from(BITS) | st.text(max_size=12), max_size=25).map("".join)


@given(PIECES)
def test_any_markup_raises_nothing_but_the_rooms_error(text: str) -> None:
    for candidate in (text, page(text)):
        with suppress(SiteError):
            parse_article(candidate)


@given(st.binary(max_size=2000))
def test_any_bytes_raise_nothing_but_the_rooms_error(content: bytes) -> None:
    with suppress(SiteError):
        parse_article(content.decode(errors="replace"))
