"""Parses article pages of ptt.cc: the links of the body and of the pushes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bs4 import SoupStrainer, Tag

from pttfaces.board.html import parse_html, text_of

_CONTENT = SoupStrainer("div", id="main-content")
_OF_SITE = {"article-metaline", "article-metaline-right", "f2"}
_OWN_ADDRESS = "※ 文章網址"  # before the article's own address
_SITE_LINES = re.compile(  # below an article, outside span.f2, and not written by its author
    r"^◆ From:.*$|^[^\S\n]*\d\d/\d\d \d\d:\d\d$|^--$", re.MULTILINE
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
    (no article page).
    """

    status: str
    links: tuple[PostedLink, ...] = ()


def parse_article(text: str) -> ArticlePage:
    """Parses an article page with 0, 2 or 3 header lines; any text can be parsed."""
    content = parse_html(text, _CONTENT).find("div")
    if content is None:
        return ArticlePage("malformed")
    places = _places(content)
    links = tuple(_links(content, places))
    if content.find("div", class_="warning-box"):
        return ArticlePage("truncated", links)
    own = "".join(text for text in content.strings if places[id(text.parent)][0] == "body")
    has_content = links or _SITE_LINES.sub("", own).strip()
    return ArticlePage("ok" if has_content else "empty", links)


def decode_email(data: str) -> str:
    """The text behind Cloudflare's e-mail protection: hex, each byte XORed with the first."""
    try:
        key, *rest = bytes.fromhex(data)
    except ValueError:
        return ""
    return bytes(byte ^ key for byte in rest).decode("utf-8", errors="replace")


def _places(content: Tag) -> dict[int, tuple[str, str]]:
    """id() of each element of an article → (place, user id beside the push that it is in).

    place: body, push, or site: the header lines, and lines that the site colours as its own, in
    span.f2. Rich content, such as an image that the site embeds, belongs to the line above it.
    """
    places = {id(content): ("body", "")}
    above = dict(places)  # id() of an element → place of its last child that is no rich content
    for tag in content.find_all(True):  # an element comes after the one that it is in
        place = places[id(tag.parent)]
        classes = tag.get_attribute_list("class")
        if "richcontent" in classes:  # shows what the line above it links
            place = above.get(id(tag.parent), place)
        elif tag.name == "div" and "push" in classes:
            user = tag.find(class_="push-userid", recursive=False)
            place = ("push", text_of(user))
        elif place[0] == "body" and not _OF_SITE.isdisjoint(classes):
            place = ("site", "")
        places[id(tag)] = above[id(tag.parent)] = place
    return places


def _links(content: Tag, places: Mapping[int, tuple[str, str]]) -> Iterator[PostedLink]:
    for anchor in content.find_all("a", href=True):
        place, author = places[id(anchor)]
        before = anchor.previous_sibling
        if place == "site" and isinstance(before, str) and _OWN_ADDRESS in before:
            continue
        href = str(anchor["href"])
        if _EMAIL.search(href):
            href = _restore_emails(href, anchor)
        elif "/cdn-cgi/l/email-protection" in href:
            continue
        yield PostedLink(href.strip(), "push" if place == "push" else "body", author)


def _restore_emails(href: str, anchor: Tag) -> str:
    """A link with the parts that looked like e-mail addresses, which Cloudflare took out of it."""
    spans = anchor.select("[data-cfemail]")
    addresses = iter([decode_email(str(span["data-cfemail"])) for span in spans])
    return _EMAIL.sub(lambda placeholder: next(addresses, placeholder[0]), href)
