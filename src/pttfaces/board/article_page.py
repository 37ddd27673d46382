"""What stands on an article's page: its head and its links, in their order.

Knows the HTML of ptt.cc's articles (with 0, 2 or 3 metalines); which links are pictures is decided
elsewhere.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pttfaces.board.html import Node, has_class, text_at, tree_of

_TIME_IN_TITLE = re.compile(r"時間: (.{24})$")
_SITES_OWN = re.compile(  # lines below an article that its author did not write, beside span.f2
    r"^◆ From:.*$|^\s*\d\d/\d\d \d\d:\d\d$|^--$", re.MULTILINE
)
_EMAIL = re.compile(r"\[email[\s\xa0]protected\]")


@dataclass(frozen=True)
class PostedLink:
    """A link as it stands in an article: its address, in "body" or "push", and who posted it there.

    author: the user id beside a push; "" in the body, which is the article's author's.
    """

    href: str
    place: str
    author: str


@dataclass(frozen=True)
class ArticlePage:
    """An article's page.

    status: ok; empty (nothing stands in it); truncated (the site cut its middle out); malformed (no
    article's page). head: metaline → value, such as 作者; it can be empty.
    """

    status: str
    head: dict[str, str] = field(default_factory=dict)
    links: tuple[PostedLink, ...] = ()


def parse_article(text: str) -> ArticlePage:
    """Reads an article's page; any text can be read."""
    content = tree_of(text).css_first("div#main-content")
    if content is None:
        return ArticlePage("malformed")
    head = _take_head(content)
    links = tuple(_links(content))
    if content.css_first("div.warning-box"):
        return ArticlePage("truncated", head, links)
    if not links and not _says_something(content):
        return ArticlePage("empty", head)
    return ArticlePage("ok", head, links)


def decode_email(data: str) -> str:
    """The text behind Cloudflare's e-mail protection: hex, each byte XORed with the first."""
    try:
        key, *rest = bytes.fromhex(data)
    except ValueError:
        return ""
    return bytes(byte ^ key for byte in rest).decode("utf-8", errors="replace")


def _take_head(content: Node) -> dict[str, str]:
    head = {}
    # One after another, since one inside another would be gone with it.
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
            # Only the shield's own words are replaced: an address that is whole stays as it is.
            if shield := _EMAIL.search(href):
                address = decode_email(span.attributes["data-cfemail"] or "")
                href = href[: shield.start()] + address + href[shield.end() :]
        if anchor.mem_id in in_pushes:
            yield PostedLink(href.strip(), "push", _pusher_of(anchor))
        else:
            yield PostedLink(href.strip(), "body", "")


def _pusher_of(node: Node) -> str:
    around = node.parent
    while around is not None and not has_class(around, "push"):
        around = around.parent
    return text_at(around, ".push-userid") if around else ""


def _says_something(content: Node) -> bool:
    """Whether a word of the author's stands in it: the site's own lines and pushes are none."""
    while own := content.css_first("div.push, span.f2"):
        own.decompose()
    return bool(_SITES_OWN.sub("", content.text()).strip())
