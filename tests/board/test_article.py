"""Articles as ptt.cc writes them: heads of 0, 2 and 3 lines, pushes, shields, embeds, odd pages."""

from hostile.pages import FORWARDED, HEAD, OLD_PUSH, ORIGIN, line, link, push
from hostile.pages import article_page as page
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.board.article_page import decode_email, parse_article


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


# What five saved pages of ptt.cc show, in short excerpts made by hand: what a person reads in them
# is what is read here.


def test_an_article_of_2006_quotes_pushes_in_its_body_and_ends_in_colours() -> None:
    quoted = OLD_PUSH.format(user="other", text="引文 " + link("https://a.test/1.jpg"))
    banner = '<span class="f3 b5 hl">█</span><span class="f2 b3 hl">█</span>\n'
    read = parse_article(
        page(HEAD + line("時間", "Sat Apr  1 18:09:31 2006") + quoted + "\n文\n--\n" + banner)
    )
    assert read.status == "ok"
    assert read.head["時間"] == "Sat Apr  1 18:09:31 2006"
    assert [(each.place, each.author) for each in read.links] == [("push", "other")]


def test_an_edit_between_pushes_and_a_shielded_address_in_one_change_nothing() -> None:
    shield = (
        '<a href="/cdn-cgi/l/email-protection" class="__cf_email__" data-cfemail="acf3f3f3ec">'
        "[email&#160;protected]</a>"
    )
    edited = '<span class="f2">※ 編輯: writer        來自: 192.0.2.7       (04/02 12:45)\n</span>'
    pushes = push("a", "看") + edited + push("b", "好@" + shield) + push("c", "")
    read = parse_article(page(HEAD + "\n文\n" + ORIGIN + pushes))
    assert (read.status, read.links) == ("ok", ())


def test_what_is_forwarded_elsewhere_is_no_word_of_the_author() -> None:
    assert parse_article(page(HEAD + ORIGIN + FORWARDED * 2)).status == "empty"


def test_a_short_greeting_with_two_metalines_is_an_article() -> None:
    glued = line("標題", "[閒聊] 一時間: Thu Jun 14 20:27:24 2007")
    text = page(line("作者", "w (W)") + line("看板", "B", "-right") + glued + "\n恭喜\n\n" + ORIGIN)
    assert parse_article(text).status == "ok"


def test_the_page_of_what_is_gone_has_a_class_where_others_have_an_id() -> None:
    gone = (
        '<title>404</title><div class="main-container">\n'
        '\t<div class="bbs-screen bbs-content">404 - Not Found.</div>\n</div>'
    )
    assert parse_article(gone).status == "malformed"


BITS = [HEAD, ORIGIN, push("u", "x"), link("https://a.test/1.jpg"), "</div>", "<a href='//["]
BITS += ['<div id="main-content">', "<span data-cfemail=zz>", "[email protected]", "<![", "&#x;"]
BITS += ["<div class=push>" * 50, "&#" + "9" * 5000 + ";", '<a href="&#' + "9" * 5000 + ';">']
PIECES = st.lists(st.sampled_from(BITS) | st.text(max_size=12), max_size=25).map("".join)


@given(PIECES)
def test_any_markup_can_be_read(text: str) -> None:
    for candidate in (text, page(text)):
        parse_article(candidate)


@given(st.binary(max_size=2000))
def test_any_bytes_can_be_read(content: bytes) -> None:
    for decoded in (content.decode(errors="replace"), content.decode("latin-1")):
        parse_article(decoded)
        parse_article(page(decoded))
