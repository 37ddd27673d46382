"""Index and article pages as ptt.cc writes them, in excerpts made by hand."""


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


def article_page(content: str) -> str:
    return (
        '<html><body><div id="main-container"><div id="main-content" class="bbs-screen">'
        f"{content}</div></div></body></html>"
    )


OLD_PUSH = (
    '<div class="push"><span class="f1 hl push-tag">→ </span>'
    '<span class="f3 hl push-userid">{user}</span><span class="f3 push-content">:{text}</span>'
    '<span class="push-ipdatetime"> 61.229.157.190 03/32 16:52\n</span></div>'
)
FORWARDED = (
    '<span class="f2">※ </span><span class="f2 hl">someone</span>'
    '<span class="f2">:轉錄至看板 FITNESS</span>                    04/02 12:23\n'
)


ROW_2020 = """
<div class="r-ent"><div class="nrec"><span class="hl f3">38</span></div>
<div class="title">
<a href="/bbs/Beauty/M.1704040318.A.E87.html">[正妹] 一</a>
</div>
<div class="meta"><div class="author">someone</div>
<div class="article-menu"><div class="trigger">&#x22ef;</div><div class="dropdown">
<div class="item"><a href="/bbs/Beauty/search?q=thread%3A1">搜尋同標題文章</a></div></div></div>
<div class="date"> 1/01</div><div class="mark">M</div></div></div>"""
ROW_2016 = """
<div class="r-ent"><div class="nrec"><span class="hl f1">爆</span></div><div class="mark"></div>
<div class="title"><a href="/bbs/Beauty/G.1451577600.A.0F1.html">[神人] 二</a></div>
<div class="meta"><div class="date"> 1/01</div><div class="author">other</div></div></div>"""
DELETED = """
<div class="r-ent"><div class="nrec"></div><div class="title">
(本文已被刪除) [somebody]
</div><div class="meta"><div class="author">-</div><div class="article-menu"></div>
<div class="date"> 1/02</div><div class="mark"></div></div></div>"""
PINNED = ROW_2020.replace("M.1704040318.A.E87", "M.1400000000.A.001").replace("一", "板規")


def index_page(rows: str, before: str = "/bbs/Beauty/index1.html") -> str:
    href = f'href="{before}"' if before else ""
    return f"""<html><head><title>看板 Beauty</title></head><body>
    <div class="btn-group btn-group-paging"><a class="btn wide" href="/bbs/B/index1.html">最舊</a>
    <a class="btn wide" {href}>&lsaquo; 上頁</a><a class="btn wide disabled">下頁 &rsaquo;</a>
    <a class="btn wide" href="/bbs/Beauty/index.html">最新</a></div>
    <div class="r-list-container action-bar-margin bbs-screen">{rows}</div></body></html>"""
