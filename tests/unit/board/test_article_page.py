"""Article pages as ptt.cc writes them: headers, pushes, protected e-mails, embeds, odd pages."""

import warnings

import pytest
from hostile.pages import FORWARDED, HEAD, OLD_PUSH, ORIGIN, line, link, push
from hostile.pages import article_page as page
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.board.article_page import decode_email, parse_article


@pytest.mark.parametrize("lines", [0, 2, 3])
def test_parse_article_with_any_number_of_header_lines_reads_the_body(lines: int) -> None:
    head = [
        line("作者", "writer (nick)") + line("看板", "B", "-right"),
        line("標題", "[閒聊] 開版時間: Thu Jun 14 20:27:24 2007"),
        line("時間", "Mon Apr  2 07:24:47 2007"),
    ]
    above = "".join(head[:lines])
    assert parse_article(page(above + "\n文章\n" + ORIGIN)).status == "ok"
    assert parse_article(page(above + "\n\n" + ORIGIN)).status == "empty"
    assert len(parse_article(page(above + link("https://a.test/1.jpg"))).links) == 1


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


EMBEDS = {  # below a link, as the site showed it
    2016: '<img src="//i.imgur.com/{id}.jpg" alt="" />',
    2018: (
        '<blockquote class="imgur-embed-pub" lang="en" data-id="{id}"><a href="//imgur.com/{id}">'
        '</a></blockquote><script async src="//s.imgur.com/min/embed.js" charset="utf-8"></script>'
    ),
    2022: '<img src="https://cache.ptt.cc/c/https/i.imgur.com/{id}l.jpg" alt="" />',
}


def rich(year: int, *ids: str) -> str:
    return "".join(f'<div class="richcontent">{EMBEDS[year].format(id=each)}</div>' for each in ids)


@pytest.mark.parametrize("year", EMBEDS)
def test_parse_article_when_push_has_rich_content_gives_it_to_the_push(year: int) -> None:
    """It stands below the push, in the body; two links of a push are followed by both embeds."""
    text = (
        HEAD
        + f"\n{link('https://i.imgur.com/writer1.jpg')}\n{rich(year, 'writer1')}--\n"
        + push("one", link("https://i.imgur.com/reader1.png"))
        + rich(year, "reader1")
        + push("two", f"{link('//i.imgur.com/reader2.jpg')} {link('//imgur.com/reader3')}")
        + rich(year, "reader2", "reader3")
        + push("three", "好看")
        + f"※ 補圖 {link('https://i.imgur.com/writer2.jpg')}\n{rich(year, 'writer2')}"
        + f'<span class="f2">※ 綠字 {link("https://i.imgur.com/writer3.jpg")}\n</span>'
        + rich(year, "writer3")
    )
    found = {
        (each.href.rpartition("/")[2][:7], each.place, each.author)
        for each in parse_article(page(text)).links
    }
    assert found == {
        ("writer1", "body", ""),
        ("reader1", "push", "one"),
        ("reader2", "push", "two"),
        ("reader3", "push", "two"),
        ("writer2", "body", ""),
        ("writer3", "body", ""),
    }


def test_parse_article_of_2025_reads_links_with_a_text_of_their_own() -> None:
    """[text](address) is shown as the text."""
    text = '<a href="https://i.imgur.com/abcdefg.jpg" target="_blank" rel="nofollow">本人</a>'
    (found,) = parse_article(page(HEAD + text)).links
    assert found.href == "https://i.imgur.com/abcdefg.jpg"


def test_parse_article_leaves_out_the_articles_own_address() -> None:
    own = link("https://www.ptt.cc/bbs/Beauty/M.1704040318.A.E87.html")
    text = (
        f'{HEAD}\n文\n--\n<span class="f2">※ 發信站: 批踢踢實業坊(ptt.cc), 來自: 192.0.2.7\n</span>'
        f'<span class="f2">※ 文章網址: {own}\n</span>'
        f'<span class="f2">※ 照片 {link("https://i.imgur.com/abcdefg.jpg")}\n</span>'
    )
    assert [each.href for each in parse_article(page(text)).links] == [
        "https://i.imgur.com/abcdefg.jpg"
    ]


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


def test_parse_article_of_2006_with_quoted_pushes_and_colours_gives_their_authors() -> None:
    quoted = OLD_PUSH.format(user="other", text="引文 " + link("https://a.test/1.jpg"))
    banner = '<span class="f3 b5 hl">█</span><span class="f2 b3 hl">█</span>\n'
    read = parse_article(page(HEAD + quoted + "\n文\n--\n" + banner))
    assert read.status == "ok"
    assert [(each.place, each.author) for each in read.links] == [("push", "other")]


def test_parse_article_with_an_edit_and_an_email_between_pushes_finds_no_link() -> None:
    """The e-mail is protected, which makes it a link of the page."""
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


def test_parse_article_when_body_ends_in_the_middle_reads_on() -> None:
    """What follows `</body>` is in the body all the same, by the HTML standard."""
    read = parse_article(page("文</body></html>" + link("https://a.test/1.jpg")))
    assert [each.href for each in read.links] == ["https://a.test/1.jpg"]


def test_parse_article_when_header_line_is_not_closed_reads_pushes() -> None:
    read = parse_article(page('<div class="article-metaline">' + push("a", link("//a.test/1.jpg"))))
    assert [(each.place, each.author) for each in read.links] == [("push", "a")]


@pytest.mark.parametrize(
    ("opening", "count"),
    [("<div>", 100_000), ('<div class="push">', 20_000), ("<b><font>", 10_000)],
)
def test_parse_article_when_elements_are_nested_deeply_reads_links(
    opening: str, count: int
) -> None:
    """Elements in each other need no recursion, and no time that grows with their depth."""
    assert len(parse_article(page(opening * count + link("//a.test/1.jpg"))).links) == 1


def test_parse_article_with_a_million_tags_is_malformed() -> None:
    """They would take half a gigabyte; the site's longest pages have a twentieth of them."""
    assert parse_article(page("<b>" * 1_000_000)).status == "malformed"


@pytest.mark.parametrize(
    "text",
    [
        link("https://a.test/\0.jpg"),
        "<![CDATA[" + link("//a.test/0.jpg") + "]]>" + link("//a.test/1.jpg"),
        '<?xml version="1.0" encoding="big5"?>' + link("//a.test/圖.jpg"),
        '<meta charset="big5">' + link("//a.test/圖.jpg"),
    ],
)
def test_parse_article_with_foreign_markup_reads_each_link_once(text: str) -> None:
    (read,) = parse_article(page(text)).links
    assert read.href in ("https://a.test/\ufffd.jpg", "//a.test/1.jpg", "//a.test/圖.jpg")


@pytest.mark.parametrize("text", ["https://a.test/1.html", "/a/b.html", "<?xml version='1.0'?><a>"])
def test_parse_article_of_a_text_that_is_no_html_gives_no_warning(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_article(text).status == "malformed"


def test_parse_article_of_many_blank_lines_takes_linear_time() -> None:
    """A pattern that began with any white space took a minute for 64 KB of them."""
    assert parse_article(page(HEAD + "\n" * 300_000)).status == "empty"


def test_parse_article_cut_anywhere_keeps_the_links_before() -> None:
    text = page(HEAD + "".join(link(f"//a.test/{n}.jpg") for n in range(3)) + push("a", "x"))
    hrefs = [[each.href for each in parse_article(text[:end]).links] for end in range(len(text))]
    whole = [f"//a.test/{n}.jpg" for n in range(3)]
    assert all(found == whole[: len(found)] for found in hrefs)
    assert hrefs == sorted(hrefs)


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
