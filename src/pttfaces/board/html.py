"""Parses HTML with selectolax and reads text from its elements.

selectolax parses as browsers do (HTML5), raises on no text, and takes a twentieth of the time of
BeautifulSoup or less, with or without lxml behind that (benchmarks/crawl.py).
"""

from selectolax.lexbor import LexborHTMLParser, LexborNode

Node = LexborNode


def parse_html(text: str) -> LexborHTMLParser:
    """The tree of a page."""
    return LexborHTMLParser(text)


def text_at(node: Node, selector: str) -> str:
    """The trimmed text of the first element in `node` that matches `selector`; "" for none."""
    found = node.css_first(selector)
    return found.text().strip() if found else ""


def has_class(node: Node, name: str) -> bool:
    """Whether `name` is among the classes of an element."""
    return name in (node.attributes.get("class") or "").split()


def title_of(text: str) -> str:
    """A page's title for messages, at most 60 characters; "none" if it has none."""
    title = parse_html(text).css_first("title")
    return " ".join(title.text().split())[:60] if title else "none"
