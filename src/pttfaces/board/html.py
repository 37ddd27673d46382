"""Parses HTML with BeautifulSoup and lxml, and reads text from its elements."""

import re

from bs4 import BeautifulSoup, SoupStrainer, Tag

# Start and end tags. So many take 0.2 GB and 8 seconds; an article with 1,500 pushes has 17,000.
_MAX_TAGS = 400_000
# What follows is still in the body (HTML Standard, 13.2.6.4.19); libxml2 would end all elements.
_BODY_END = re.compile(r"</(?:body|html)\s*>", re.IGNORECASE)


def parse_html(text: str, only: SoupStrainer) -> BeautifulSoup:
    """The elements of a page that match `only`, with all that is in them.

    Any text can be parsed. One with so many tags that it is no page of a board counts as empty.
    """
    if text.count("<") > _MAX_TAGS:
        text = ""
    # The line feed stops BeautifulSoup's warnings that a text looks like a file's name or XML.
    return BeautifulSoup("\n" + _BODY_END.sub("", text), "lxml", parse_only=only)


def text_of(tag: Tag | None) -> str:
    """The trimmed text of an element; "" for none."""
    return tag.get_text().strip() if tag else ""


def title_of(text: str) -> str:
    """A page's title for messages, at most 60 characters; "none" if it has none."""
    title = parse_html(text, SoupStrainer("title")).title
    return " ".join(title.get_text().split())[:60] if title else "none"
