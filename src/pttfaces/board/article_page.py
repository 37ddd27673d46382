"""Parses article pages of ptt.cc: the header lines, and the links of the body and the pushes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pttfaces.board.html import Node, has_class, parse_html, text_at

_TIME_IN_TITLE = re.compile(r"時間: (.{24})$")
_SITE_LINES = re.compile(  # below an article, outside span.f2, and not written by its author
    r"^◆ From:.*$|^\s*\d\d/\d\d \d\d:\d\d$|^--$", re.MULTILINE
)
_EMAIL = re.compile(r"\[email[\s\xa0]protected\]")


@dataclass(frozen=True)
class PostedLink:
    """A link as posted in an article.

    place: "body" or "push"; author: the user id beside a push, "" in the body, which the article's
    author wrote.
    """

    href: str
    place: str
    author: str


@dataclass(frozen=True)
class ArticlePage:
    """A parsed article page.

    status: ok, empty (no text and no link), truncated (the site cut out its middle) or malformed
    (no article page); head: header tag → value, such as 作者; may be empty.
    """

    status: str
    head: dict[str, str] = field(default_factory=dict)
    links: tuple[PostedLink, ...] = ()


def parse_article(text: str) -> ArticlePage:
    """Parses an article page with 0, 2 or 3 header lines; any text can be parsed."""
    content = parse_html(text).css_first("div#main-content")
    if content is None:
        return ArticlePage("malformed")
    head = _remove_head(content)
    links = tuple(_links(content))
    if content.css_first("div.warning-box"):
        return ArticlePage("truncated", head, links)
    if not links and not _has_text(content):
        return ArticlePage("empty", head)
    return ArticlePage("ok", head, links)


def decode_email(data: str) -> str:
    """The text behind Cloudflare's e-mail protection: hex, each byte XORed with the first."""
    try:
        key, *rest = bytes.fromhex(data)
    except ValueError:
        return ""
    return bytes(byte ^ key for byte in rest).decode("utf-8", errors="replace")


def _remove_head(content: Node) -> dict[str, str]:
    """Removes the header lines from an article and returns them."""
    head = {}
    # One at a time: a line inside another one is removed with it.
    while line := content.css_first("div.article-metaline, div.article-metaline-right"):
        if tag := text_at(line, "span.article-meta-tag"):
            head[tag] = text_at(line, "span.article-meta-value")
        line.decompose()
    glued = _TIME_IN_TITLE.search(head.get("標題", ""))
    if glued and "時間" not in head:
        head["時間"] = glued[1]
        head["標題"] = head["標題"][: glued.start()]
    return head


def _links(content: Node) -> Iterator[PostedLink]:
    in_pushes = {anchor.mem_id for anchor in content.css("div.push a[href]")}
    for anchor in content.css("a[href]"):
        href = anchor.attributes["href"] or ""
        if "/cdn-cgi/l/email-protection" in href and not _EMAIL.search(href):
            continue
        for span in anchor.css("[data-cfemail]"):
            # Cloudflare replaced the part that looked like an e-mail address, and only that part.
            if placeholder := _EMAIL.search(href):
                address = decode_email(span.attributes["data-cfemail"] or "")
                href = href[: placeholder.start()] + address + href[placeholder.end() :]
        if anchor.mem_id in in_pushes:
            yield PostedLink(href.strip(), "push", _push_author(anchor))
        else:
            yield PostedLink(href.strip(), "body", "")


def _push_author(node: Node) -> str:
    parent = node.parent
    while parent is not None and not has_class(parent, "push"):
        parent = parent.parent
    return text_at(parent, ".push-userid") if parent else ""


def _has_text(content: Node) -> bool:
    """Whether the author wrote anything: pushes and the site's own lines do not count."""
    while own := content.css_first("div.push, span.f2"):
        own.decompose()
    return bool(_SITE_LINES.sub("", content.text()).strip())
