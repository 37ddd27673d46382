"""Article pages as ptt.cc writes them: headers, pushes, protected e-mails, embeds, odd pages."""

from hostile.pages import FORWARDED, HEAD, OLD_PUSH, ORIGIN, line, link, push
from hostile.pages import article_page as page
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.board.article_page import decode_email, parse_article


def test_parse_article_with_three_header_lines() -> None:
    read = parse_article(page(HEAD + line("時間", "Mon Apr  2 07:24:47 2007") + "\n文\n" + ORIGIN))
    assert read.status == "ok"
    assert read.head["作者"] == "writer (nick)"
    assert read.head["標題"] == "[正妹] 一"
    assert read.head["時間"] == "Mon Apr  2 07:24:47 2007"


def test_parse_article_with_two_header_lines_splits_time_from_title() -> None:
    glued = line("標題", "[閒聊] 開版妙戊時間: Thu Jun 14 20:27:24 2007")
    read = parse_article(page(line("作者", "w") + line("看板", "B", "-right") + glued + "\n恭喜\n"))
    assert read.head["標題"] == "[閒聊] 開版妙戊"
    assert read.head["時間"] == "Thu Jun 14 20:27:24 2007"


def test_parse_article_without_header_lines() -> None:
    read = parse_article(page("\n文章\n" + link("https://i.imgur.com/abcdefg.jpg")))
    assert (read.status, read.head, len(read.links)) == ("ok", {}, 1)


def test_parse_article_gives_links_in_order_with_their_authors() -> None:
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


def test_parse_article_ignores_embedded_copies_but_reads_old_embeds() -> None:
    text = (
        '<div class="richcontent"><img src="https://cache.ptt.cc/c/https/i.imgur.com/a.jpg"></div>'
        '<div class="richcontent"><blockquote class="imgur-embed-pub" data-id="abcdefg">'
        '<a href="//imgur.com/abcdefg"></a></blockquote></div>'
    )
    assert [each.href for each in parse_article(page(text)).links] == ["//imgur.com/abcdefg"]


def test_parse_article_ignores_protected_emails_but_decodes_them_inside_links() -> None:
    protected = (
        '<a href="/cdn-cgi/l/email-protection" class="__cf_email__" data-cfemail="acf3f3f3ec">x</a>'
    )
    code = bytes([7, *(byte ^ 7 for byte in b"me@host.test")]).hex()
    inside = (
        '<a href="https://blog.test/[email&#160;protected]/a.jpg">https://blog.test/'
        f'<span class="__cf_email__" data-cfemail="{code}">[email&#160;protected]</span>/a.jpg</a>'
    )
    links = parse_article(page("你好" + protected + inside)).links
    assert [each.href for each in links] == ["https://blog.test/me@host.test/a.jpg"]


def test_decode_email_gives_the_protected_text() -> None:
    assert decode_email("acf3f3f3ec") == "___@"  # from a real page
    assert decode_email("no hex") == ""
    assert decode_email("") == ""


def test_parse_article_without_text_of_its_author_is_empty() -> None:
    assert parse_article(page(HEAD + "\n\n" + ORIGIN + push("fan", "推"))).status == "empty"


def test_parse_article_without_its_middle_is_truncated_and_keeps_links() -> None:
    box = '<div class="push center warning-box">檔案過大!部分文章無法顯示</div>'
    read = parse_article(page(HEAD + link("https://i.imgur.com/abcdefg.jpg") + box))
    assert (read.status, len(read.links)) == ("truncated", 1)


def test_parse_article_of_another_page_is_malformed() -> None:
    assert (
        parse_article("<h1>500 - Internal Server Error / Server Too Busy.</h1>").status
        == "malformed"
    )
    assert parse_article('<div class="main-container">404 - Not Found.</div>').status == "malformed"


# Short excerpts, made by hand, of five saved pages of ptt.cc.


def test_parse_article_of_2006_with_quoted_pushes_and_colours() -> None:
    quoted = OLD_PUSH.format(user="other", text="引文 " + link("https://a.test/1.jpg"))
    banner = '<span class="f3 b5 hl">█</span><span class="f2 b3 hl">█</span>\n'
    read = parse_article(
        page(HEAD + line("時間", "Sat Apr  1 18:09:31 2006") + quoted + "\n文\n--\n" + banner)
    )
    assert read.status == "ok"
    assert read.head["時間"] == "Sat Apr  1 18:09:31 2006"
    assert [(each.place, each.author) for each in read.links] == [("push", "other")]


def test_parse_article_with_an_edit_and_a_protected_email_between_pushes() -> None:
    protected = (
        '<a href="/cdn-cgi/l/email-protection" class="__cf_email__" data-cfemail="acf3f3f3ec">'
        "[email&#160;protected]</a>"
    )
    edited = '<span class="f2">※ 編輯: writer        來自: 192.0.2.7       (04/02 12:45)\n</span>'
    pushes = push("a", "看") + edited + push("b", "好@" + protected) + push("c", "")
    read = parse_article(page(HEAD + "\n文\n" + ORIGIN + pushes))
    assert (read.status, read.links) == ("ok", ())


def test_parse_article_with_only_forwarding_lines_is_empty() -> None:
    assert parse_article(page(HEAD + ORIGIN + FORWARDED * 2)).status == "empty"


def test_parse_article_of_a_short_greeting_is_ok() -> None:
    glued = line("標題", "[閒聊] 一時間: Thu Jun 14 20:27:24 2007")
    text = page(line("作者", "w (W)") + line("看板", "B", "-right") + glued + "\n恭喜\n\n" + ORIGIN)
    assert parse_article(text).status == "ok"


def test_parse_article_of_the_404_page_is_malformed() -> None:
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
def test_parse_article_accepts_any_markup(text: str) -> None:
    for candidate in (text, page(text)):
        parse_article(candidate)


@given(st.binary(max_size=2000))
def test_parse_article_accepts_any_bytes(content: bytes) -> None:
    for decoded in (content.decode(errors="replace"), content.decode("latin-1")):
        parse_article(decoded)
        parse_article(page(decoded))
