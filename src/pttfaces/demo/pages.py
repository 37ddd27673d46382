"""Renders the pages of the demo board in ptt.cc's HTML: index, article, age question, 404."""

import html
import json
import re
from collections.abc import Sequence
from urllib.parse import quote

from pttfaces.demo.board import BOARD_HOST, DemoBoard, Post, Push

ROWS = 20

_URL = re.compile(r"https?://[\x21-\x7e]+", re.IGNORECASE)  # what ptt.cc takes for a link
_EMAIL = re.compile(r"[A-Za-z0-9._]+@[A-Za-z0-9.]+\.[A-Za-z]+")
_SHIELD_KEY = 0x5A


def page_count(board: DemoBoard) -> int:
    """The number of the board's index pages; an empty board has one."""
    return max(1, -(-len(board.posts) // ROWS))


def index_page(board: DemoBoard, number: int) -> str:
    """Index page `number`, from 1, the oldest; the newest one has the pinned posts, too."""
    last = page_count(board)
    rows = [_row(board.name, post) for post in board.posts[(number - 1) * ROWS : number * ROWS]]
    if number == last and board.pinned:
        rows.append('<div class="r-list-sep"></div>')
        rows += [_row(board.name, post) for post in board.pinned]
    base = f"/bbs/{board.name}"
    paging = "".join(
        _button(text, f"{base}/index{target}.html" if target else "")
        for text, target in (
            ("最舊", "1"),
            ("‹ 上頁", str(number - 1) if number > 1 else ""),
            ("下頁 ›", str(number + 1) if number < last else ""),
        )
    )
    paging += _button("最新", f"{base}/index.html")
    body = f"""
<div id="main-container">
<div id="action-bar-container"><div class="action-bar">
<div class="btn-group btn-group-dir"><a class="btn selected" href="{base}/index.html">看板</a>\
<a class="btn" href="/man/{board.name}/index.html">精華區</a></div>
<div class="btn-group btn-group-paging">{paging}</div>
</div></div>
<div class="r-list-container action-bar-margin bbs-screen">
{"".join(rows)}
</div>
</div>"""
    return _document(f"看板 {board.name} 文章列表", board.name, body)


def article_page(board: DemoBoard, post: Post) -> str:
    """An article's page, broken as its `page` says."""
    if post.page == "malformed":
        return "<html><body><p>500 - Internal Server Error / Server Too Busy."
    cut = ""
    if post.page == "truncated":
        cut = '<div class="push center warning-box">檔案過大!部分文章無法顯示</div>\n'
    lines = "".join(_line(text, post.old_layout) for text in post.lines)
    origin = "" if post.page == "empty" else _origin(board, post)
    pushes = "".join(_push(push, post.old_layout) for push in post.pushes)
    body = f"""
<div id="main-container">
    <div id="main-content" class="bbs-screen bbs-content">{_head(board, post)}
{lines}{origin}{cut}{pushes}</div>
    <div id="article-polling" data-pollurl="/poll/{board.name}/{post.id}.html"></div>
</div>"""
    return _document(f"{html.escape(post.title)} - 看板 {board.name}", board.name, body)


def age_page(target: str) -> str:
    """The page that asks for the reader's age; the answer yes leads to `target`."""
    body = f"""
<div class="bbs-screen bbs-content center clear">
<div class="over18-notice"><p>本網站已依網站內容分級規定處理</p>
<p>警告︰您即將進入之看板內容需滿十八歲方可瀏覽。</p></div>
<form action="/ask/over18" method="post">
<input type="hidden" name="from" value="{html.escape(target)}">
<div class="over18-button-container">
<button class="btn-big" type="submit" name="yes" value="yes">我同意,我已年滿十八歲<br>進入</button>
</div><div class="over18-button-container">
<button class="btn-big" type="submit" name="no" value="no">未滿十八歲或不同意本條款<br>離開</button>
</div></form></div>"""
    return _document("批踢踢實業坊", "", body)


def not_found_page() -> str:
    """The 404 page, whose container has a class instead of an id, as ptt.cc's has."""
    text = '<div class="bbs-screen bbs-content">404 - Not Found.</div>'
    body = f'<div class="main-container">{text}</div>'
    return _document("404", "", body)


def album_page(name: str, addresses: Sequence[str] | None) -> str:
    """An album's page, with its images' addresses in a script, or without a script for None."""
    post = json.dumps({"id": name, "media": [{"url": address} for address in addresses or ()]})
    script = f"<script>window.postDataJSON={json.dumps(post)}</script>"
    return (
        f"<!DOCTYPE html><html><head><title>{name}</title></head>"
        f"<body>album{'' if addresses is None else script}</body></html>"
    )


def _document(title: str, board: str, body: str) -> str:
    label = f'<a class="board" href="/bbs/{board}/index.html">看板 {board}</a>' if board else ""
    return f"""<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - 批踢踢實業坊 (示範)</title>
<style>{_STYLE}</style>
</head>
<body>
<div id="topbar-container"><div id="topbar" class="bbs-content">\
<a id="logo" href="/bbs/">批踢踢實業坊 (示範)</a> <span>&rsaquo;</span> {label}</div></div>
{body}
</body>
</html>
"""


def _button(text: str, href: str) -> str:
    if href:
        return f'<a class="btn wide" href="{href}">{text}</a>'
    return f'<a class="btn wide disabled">{text}</a>'


def _row(board: str, post: Post) -> str:
    cell = popularity_cell(post.nrec)
    title = html.escape(post.title)
    if post.page == "deleted":
        link, menu = title, ""
    else:
        link = f'<a href="/bbs/{board}/{post.id}.html">{title}</a>'
        same = f"/bbs/{board}/search?q=thread%3A{quote(post.title)}"
        own = f"/bbs/{board}/search?q=author%3A{post.author}"
        menu = (
            '<div class="trigger">&#x22ef;</div><div class="dropdown">'
            f'<div class="item"><a href="{same}">搜尋同標題文章</a></div>'
            f'<div class="item"><a href="{own}">搜尋看板內 {post.author} 的文章</a></div></div>'
        )
    date = f"{post.time.month:2d}/{post.time.day:02d}"
    return f"""<div class="r-ent">
<div class="nrec">{f'<span class="hl f3">{cell}</span>' if cell else ""}</div>
<div class="title">
{link}
</div>
<div class="meta">
<div class="author">{post.author}</div>
<div class="article-menu">{menu}</div>
<div class="date">{date}</div>
<div class="mark">{post.mark}</div>
</div>
</div>
"""


def popularity_cell(nrec: int | None) -> str:
    """A row's text for a popularity: 爆, 1 to 99, blank, X1 to X9 or XX."""
    if nrec is None or -10 < nrec <= 0:
        return ""
    if nrec >= 100:
        return "爆"
    return str(nrec) if nrec > 0 else f"X{-nrec // 10}" if nrec > -100 else "XX"


def _head(board: DemoBoard, post: Post) -> str:
    time = post.time.ctime()  # English on every system, as on the board
    title = post.title if post.metalines == 3 else f"{post.title}時間: {time}"
    lines = [("作者", f"{post.author} (...)", ""), ("看板", board.name, "-right")]
    lines += [("標題", title, ""), ("時間", time, "")][: post.metalines - 1]
    if not post.metalines:
        return ""
    return "".join(
        f'<div class="article-metaline{side}"><span class="article-meta-tag">{tag}</span>'
        f'<span class="article-meta-value">{html.escape(value)}</span></div>'
        for tag, value, side in lines
    )


def _origin(board: DemoBoard, post: Post) -> str:
    address = f"https://{BOARD_HOST}/bbs/{board.name}/{post.id}.html"
    edited = f"{post.time:%m/%d/%Y %H:%M:%S}"
    return (
        '--\n<span class="f2">※ 發信站: 批踢踢實業坊(ptt.test), 來自: 192.0.2.18 (臺灣)\n</span>'
        f'<span class="f2">※ 文章網址: {_linked(address)}\n</span>'
        f'<span class="f2">※ 編輯: {post.author} (192.0.2.18 臺灣), {edited}\n</span>'
    )


def _push(push: Push, old_layout: bool) -> str:
    colour = "hl" if push.tag == "推" else "f1 hl"
    return (
        f'<div class="push"><span class="{colour} push-tag">{push.tag} </span>'
        f'<span class="f3 hl push-userid">{push.user}</span>'
        f'<span class="f3 push-content">: {_linked(push.text)}</span>'
        f'<span class="push-ipdatetime"> {push.time}\n</span></div>{_embeds(push.text, old_layout)}'
    )


def _line(text: str, old_layout: bool) -> str:
    return f"{_linked(text)}\n{_embeds(text, old_layout)}"


def _linked(text: str) -> str:
    """Text as HTML, with ptt.cc's links and e-mail addresses hidden by Cloudflare."""
    pieces = []
    at = 0
    for match in _URL.finditer(text):
        href, shown = html.escape(match[0]), _shielded(match[0], "span")
        pieces.append(_shielded(text[at : match.start()], "a"))
        pieces.append(f'<a href="{href}" target="_blank" rel="nofollow">{shown}</a>')
        at = match.end()
    return "".join([*pieces, _shielded(text[at:], "a")])


def _shielded(text: str, tag: str) -> str:
    """Text as HTML, with e-mail addresses hidden in elements named `tag`."""
    pieces = _EMAIL.split(text)
    shields = [_shield(match[0], tag) for match in _EMAIL.finditer(text)]
    return "".join(html.escape(p) + s for p, s in zip(pieces, [*shields, ""], strict=True))


def _shield(address: str, tag: str) -> str:
    """An e-mail address as Cloudflare encodes it: a key, and the bytes XORed with it."""
    code = bytes([_SHIELD_KEY, *(byte ^ _SHIELD_KEY for byte in address.encode())]).hex()
    href = ' href="/cdn-cgi/l/email-protection"' if tag == "a" else ""
    return f'<{tag}{href} class="__cf_email__" data-cfemail="{code}">[email&#160;protected]</{tag}>'


def _embeds(text: str, old_layout: bool) -> str:
    """The previews below a line with links to images: resized copies, never the original."""
    return "".join(_embed(url, old_layout) for url in _URL.findall(text))


def _embed(url: str, old_layout: bool) -> str:
    page = re.fullmatch(r"https?://(?:m\.)?imgur\.test/(\w+)", url)
    if page and old_layout:
        return (
            f'<div class="richcontent"><blockquote class="imgur-embed-pub" lang="en" '
            f'data-id="{page[1]}"><a href="//imgur.test/{page[1]}"></a></blockquote></div>'
        )
    if re.fullmatch(r"https?://i\.imgur\.test/\w+\.\w+", url):
        copy = f"https://cache.ptt.test/c/https/{url.partition('://')[2]}/300x300.jpg"
        return f'<div class="richcontent"><img src="{copy}" alt="" loading="lazy"></div>'
    return ""


def board_list_page(boards: Sequence[str]) -> str:
    """The page that lists the boards."""
    items = "".join(f'<p><a href="/bbs/{b}/index.html">{b}</a></p>' for b in boards)
    return _document("看板列表", "", f'<div id="main-container">{items}</div>')


_STYLE = (
    "body{background:#000;color:#bbb;font:16px/1.5 monospace;margin:0 auto;max-width:60em}"
    "a{color:#9cf;text-decoration:none}#main-content{white-space:pre-wrap}"
    ".r-ent{display:flex;gap:1em;border-bottom:1px solid #222;padding:.3em}.nrec{width:2em}"
    ".title{flex:1}.meta{display:flex;gap:1em}.dropdown,.trigger{display:none}.nrec{color:#ff6}"
    ".btn{padding:0 .6em}.r-list-sep{height:.5em;background:#333}img{max-width:100%}"
)
