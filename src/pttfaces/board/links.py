"""Finds the images behind the links of an article: splits, cleans and deduplicates the links."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from pttfaces.board.article_page import PostedLink
from pttfaces.board.hosts import HostedImage, HostRules

_GLUE = re.compile(r"(?=https?://)", re.IGNORECASE)
_OPENING = {")": "(", "]": "[", "}": "{"}
_ENDINGS = ".,;:!?'\"*~|<>\\^`_"


@dataclass(frozen=True)
class ImageLink:
    """An image that an article links.

    posted: the link as posted (one of several if they were glued); place: body or push; host: of
    the link as posted; author: see `PostedLink`; addresses, kind, key, album: see `HostedImage`.
    """

    posted: str
    addresses: tuple[str, ...]
    place: str
    host: str
    kind: str
    author: str
    key: str
    album: str


@dataclass(frozen=True)
class ArticleLinks:
    """An article's links.

    images: in the page's order, each once; other: how many links lead to no image; repeated: how
    many lead to an image that is linked already.
    """

    images: tuple[ImageLink, ...]
    other: int
    repeated: int


def split_glued(text: str) -> list[str]:
    """Splits `http…http…` before every http:// and https://; other text stays whole."""
    return [piece for piece in _GLUE.split(text) if piece]


def cut_punctuation(url: str) -> str:
    """Removes a sentence's punctuation from a link's end, and brackets that do not open in it."""
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
    albums: Mapping[str, Sequence[HostedImage]] | None = None,
) -> ArticleLinks:
    """Sorts an article's links into images, repeated images and others.

    Of several links to one image the first in the body counts, else the first in the pushes.
    page_url: completes relative addresses such as `//imgur.com/…`; albums: key of an album's link →
    the album's images; the other albums stay links without an address.
    """
    found: list[tuple[int, ImageLink]] = []
    seen: set[str] = set()
    other = repeated = 0
    # The body first, so that an image that a push repeats counts for the body.
    for index, link in sorted(enumerate(posted), key=lambda pair: pair[1].place):
        for piece in split_glued(link.href):
            parts = _split(cut_punctuation(piece), page_url)
            images = rules.images_at(parts) if parts else []
            other += not images
            host = (parts.hostname or "") if parts else ""
            for image in _with_albums(images, albums or {}):
                if image.key in seen:
                    repeated += 1
                    continue
                seen.add(image.key)
                image_link = ImageLink(
                    posted=piece,
                    addresses=image.addresses,
                    place=link.place,
                    host=host,
                    kind=image.kind,
                    author=link.author,
                    key=image.key,
                    album=image.album,
                )
                found.append((index, image_link))
    found.sort(key=lambda pair: pair[0])
    return ArticleLinks(tuple(image_link for _, image_link in found), other, repeated)


def _with_albums(
    images: Iterable[HostedImage], albums: Mapping[str, Sequence[HostedImage]]
) -> list[HostedImage]:
    """Images, with those of known albums in place of the albums."""
    return [inside for image in images for inside in albums.get(image.key, [image])]


def _split(url: str, page_url: str) -> SplitResult | None:
    """The parts of an absolute HTTP address; None for any other text."""
    try:
        parts = urlsplit(urljoin(page_url, url))
        port = parts.port  # raises ValueError if it is not a number
    except ValueError:
        return None
    usable = parts.scheme in ("http", "https") and parts.hostname and port != 0
    return parts if usable else None
