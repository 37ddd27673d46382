"""HTML as a tree, whatever bytes a site sends; the one place where the parser is chosen.

selectolax parses as browsers do (HTML5), raises on no text, and takes a twentieth of the time that
BeautifulSoup takes, or less, with lxml behind it or not (benchmarks/crawl.py).
"""

from selectolax.lexbor import LexborHTMLParser, LexborNode

Node = LexborNode


def tree_of(text: str) -> LexborHTMLParser:
    """The tree of a page."""
    return LexborHTMLParser(text)


def text_at(node: Node, selector: str) -> str:
    """The text of the first element that `selector` finds in `node`, trimmed; "" for none."""
    found = node.css_first(selector)
    return found.text().strip() if found else ""


def has_class(node: Node, name: str) -> bool:
    """Whether `name` is among the classes of an element."""
    return name in (node.attributes.get("class") or "").split()


def title_of(text: str) -> str:
    """What a page calls itself, to tell a person what was served; "none" if it does not say."""
    title = tree_of(text).css_first("title")
    return " ".join(title.text().split())[:60] if title else "none"
