"""HTML as a tree, whatever bytes a site sends; the one place where the parser is chosen."""

from bs4 import BeautifulSoup
from bs4.exceptions import ParserRejectedMarkup

from pttfaces.errors import SiteError


def soup_of(text: str) -> BeautifulSoup:
    """The tree of a page. SiteError: the parser gives up on it."""
    try:
        return BeautifulSoup(text, "html.parser")
    # The standard library's parser also lets a few absurd numbers and nestings through.
    except (ParserRejectedMarkup, ValueError, AssertionError, RecursionError):
        raise SiteError("a page's text is not HTML that can be read.") from None
