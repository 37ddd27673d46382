"""What stands on an article's page: its head and its links, in their order.

Knows the HTML of ptt.cc's articles (with 0, 2 or 3 metalines); which links are pictures is decided
elsewhere.
"""

import re
from dataclasses import dataclass, field

from bs4 import Tag

from pttfaces.board.markup import soup_of

_TIME_IN_TITLE = re.compile(r"時間: (.{24})$")
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
    """Reads an article's page. SiteError: the text is no HTML that can be read."""
    content = soup_of(text).select_one("div#main-content")
    if content is None:
        return ArticlePage("malformed")
    head = _take_head(content)
    links = tuple(_links(content))
    if content.select_one("div.warning-box"):
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


def _take_head(content: Tag) -> dict[str, str]:
    head = {}
    for line in content.select("div.article-metaline, div.article-metaline-right"):
        tag = line.select_one("span.article-meta-tag")
        value = line.select_one("span.article-meta-value")
        if tag and value:
            head[tag.get_text().strip()] = value.get_text().strip()
        line.extract()
    glued = _TIME_IN_TITLE.search(head.get("標題", ""))
    if glued and "時間" not in head:
        head["時間"] = glued[1]
        head["標題"] = head["標題"][: glued.start()]
    return head


def _links(content: Tag) -> list[PostedLink]:
    links = []
    for anchor in content.select("a[href]"):
        href = str(anchor["href"])
        if "/cdn-cgi/l/email-protection" in href and not _EMAIL.search(href):
            continue
        for span in anchor.select("[data-cfemail]"):
            # Only the shield's own words are replaced: an address that is whole stays as it is.
            if shield := _EMAIL.search(href):
                address = decode_email(str(span["data-cfemail"]))
                href = href[: shield.start()] + address + href[shield.end() :]
        push = anchor.find_parent("div", class_="push")
        user = push.select_one(".push-userid") if push else None
        place = "push" if push else "body"
        links.append(PostedLink(href.strip(), place, user.get_text().strip() if user else ""))
    return links


def _says_something(content: Tag) -> bool:
    """Whether a word of the author's stands in it: the site's own lines and pushes are none."""
    for own in content.select("div.push, span.f2"):
        own.extract()
    text = re.sub(r"^◆ From:.*$", "", content.get_text(), flags=re.MULTILINE)
    return bool(text.replace("--", "").strip())
