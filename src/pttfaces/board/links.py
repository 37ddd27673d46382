"""From the links that stand in an article to the pictures behind them.

Splits links that were typed without a space, cuts the punctuation that the site swallowed, asks
the table of hosts, and takes every picture once. Knows no page and no network.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from pttfaces.board.article_page import PostedLink
from pttfaces.board.hosts import Found, HostRules

_GLUE = re.compile(r"(?=https?://)", re.IGNORECASE)
_OPENING = {")": "(", "]": "[", "}": "{"}
_ENDINGS = ".,;:!?'\"*~|<>\\^`_"


@dataclass(frozen=True)
class PictureLink:
    """A picture that an article links.

    posted: the link as posted (one of several if they were glued); url: the address of the
    original, None where only the page behind the link could tell it; place: body or push;
    host: of the link as posted; kind: file, page, gifv, media or album; author: see PostedLink;
    key and album: see Found.
    """

    posted: str
    url: str | None
    place: str
    host: str
    kind: str
    author: str
    key: str
    album: str


@dataclass(frozen=True)
class Sorted:
    """An article's links: its pictures in order, and how many links were none or came again."""

    pictures: tuple[PictureLink, ...]
    other: int
    repeated: int


def split_glued(text: str) -> list[str]:
    """Splits `http…http…` before every http:// and https://; what has none stays whole."""
    return [piece for piece in _GLUE.split(text) if piece]


def cut_punctuation(url: str) -> str:
    """Cuts the sentence's punctuation from a link's end; a bracket only if it opens outside."""
    while url:
        last = url[-1]
        unbalanced = last in _OPENING and url.count(last) > url.count(_OPENING[last])
        if last not in _ENDINGS and not unbalanced and last not in _OPENING.values():
            break
        url = url[:-1]
    return url


def sort_links(
    posted: Iterable[PostedLink],
    page_url: str,
    rules: HostRules,
    albums: Mapping[str, Sequence[Found]] | None = None,
) -> Sorted:
    """The pictures behind an article's links, in the page's order, each once: the first of its
    forms, in the body if it is there.

    page_url completes relative addresses such as `//imgur.com/…`; albums: what stands in those
    albums that were opened, by their links' keys; the others remain as links without an address.
    """
    found: list[tuple[int, PictureLink]] = []
    seen: set[str] = set()
    other = repeated = 0
    # The body's first, so that a push that repeats a picture is never the one that counts.
    for place, link in sorted(enumerate(posted), key=lambda pair: pair[1].place):
        for piece in split_glued(link.href):
            parts = _split(cut_punctuation(piece), page_url)
            pictures = rules.images_at(parts) if parts else []
            other += not pictures
            host = (parts.hostname or "") if parts else ""
            for one in _opened(pictures, albums or {}):
                if one.key in seen:
                    repeated += 1
                    continue
                seen.add(one.key)
                picture = PictureLink(
                    piece, one.url, link.place, host, one.kind, link.author, one.key, one.album
                )
                found.append((place, picture))
    found.sort(key=lambda pair: pair[0])
    return Sorted(tuple(picture for _, picture in found), other, repeated)


def _opened(pictures: Iterable[Found], albums: Mapping[str, Sequence[Found]]) -> list[Found]:
    return [inside for one in pictures for inside in albums.get(one.key, [one])]


def _split(url: str, page_url: str) -> SplitResult | None:
    try:
        parts = urlsplit(urljoin(page_url, url))
        port = parts.port  # reading it is what checks it
    except ValueError:
        return None
    readable = parts.scheme in ("http", "https") and parts.hostname and port != 0
    return parts if readable else None
