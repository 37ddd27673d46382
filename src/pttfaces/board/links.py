"""Finds the images behind the links of an article: splits, cleans and deduplicates the links."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from pttfaces.board.article_page import PostedLink
from pttfaces.board.hosts import HostedImage, HostRules, host_of, image_at

_START = re.compile(r"(?=https?://)", re.IGNORECASE)
_OPENING = {")": "(", "]": "[", "}": "{"}
# Of Chinese texts: full-width commas, stops, closing brackets and the like.
_CHINESE = "\uff0c\u3002\u3001\uff1b\uff1a\uff01\uff1f\uff09\u3011\u300d\u300f\u300b\uff5e\u2026"
_ENDINGS = frozenset(".,;:!?'\"*~|<>\\^`_&([{" + _CHINESE)


@dataclass(frozen=True, kw_only=True)
class ImageLink(HostedImage):
    """An image that an article links.

    posted: the link as posted (one of several if they were glued); host: of the link as posted;
    place, author: see `PostedLink`.
    """

    posted: str
    host: str
    place: str
    author: str


@dataclass(frozen=True)
class ArticleLinks:
    """An article's links.

    images: in the page's order, each once; other: the hosts of links to no image, "" for a text
    that is no address; repeated: how many links lead to an image that is linked already.
    """

    images: tuple[ImageLink, ...]
    other: tuple[str, ...]
    repeated: int


def split_glued(text: str, rules: HostRules) -> list[str]:
    """Splits `http…http…` before every http:// and https:// that begins another link.

    After `/` or `=` it is part of the address before, such as an archive's, unless that leads to an
    image by itself. Other text stays whole.
    """
    pieces: list[list[str]] = []
    for part in filter(None, _START.split(text)):
        before = pieces[-1][-1] if pieces else ""
        if before.endswith(("/", "=")) and not images_at(cut_punctuation(before), rules):
            pieces[-1].append(part)
        else:
            pieces.append([part])
    return ["".join(parts) for parts in pieces]


def cut_punctuation(url: str) -> str:
    """Removes a sentence's punctuation from a link's end, and brackets that do not open in it."""
    counts = Counter(url) if url and not url[-1].isalnum() else Counter()
    end = len(url)
    while end:
        last = url[end - 1]
        unbalanced = last in _OPENING and counts[last] > counts[_OPENING[last]]
        if last not in _ENDINGS and not unbalanced:
            break
        counts[last] -= 1
        end -= 1
    return url[:end]


def sort_links(
    posted: Iterable[PostedLink],
    page_url: str,
    rules: HostRules,
    opened: Mapping[str, Sequence[HostedImage]] | None = None,
) -> ArticleLinks:
    """Sorts an article's links into images, repeated images and others.

    Of several links to one image the first in the body counts, else the first in the pushes.
    page_url: completes relative addresses such as `//imgur.com/…`; opened: key of a link to a page
    → the images that were found there; links to other pages stay links without an address.
    """
    found: list[tuple[int, ImageLink]] = []
    seen: set[str] = set()
    other: list[str] = []
    repeated = 0
    # The body first, so that an image that a push repeats counts for the body.
    for index, link in sorted(enumerate(posted), key=lambda pair: pair[1].place):
        for piece in split_glued(link.href, rules):
            parts = split_address(cut_punctuation(piece), page_url)
            host = host_of(parts) if parts else ""
            linked = rules.images_at(parts) if parts else []
            images = [each for image in linked for each in (opened or {}).get(image.key, [image])]
            if not images:
                other.append(host)
            for image in images:
                if image.key in seen:
                    repeated += 1
                    continue
                seen.add(image.key)
                where = {"posted": piece, "host": host, "place": link.place, "author": link.author}
                found.append((index, ImageLink(**(vars(image) | where))))
    found.sort(key=lambda pair: pair[0])
    return ArticleLinks(tuple(image_link for _, image_link in found), tuple(other), repeated)


def split_address(address: str, page_url: str = "") -> SplitResult | None:
    """The parts of an HTTP address, relative to a page's; None for any other text."""
    try:
        parts = urlsplit(address)
        if not parts.scheme:  # else `urljoin` would put the page's host into https:///a.jpg
            parts = urlsplit(urljoin(page_url, address))
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # also of a port that is not a number
        return None
    return parts if usable else None


def images_at(address: str, rules: HostRules) -> list[HostedImage]:
    """The images behind an address; [] if it leads to something else."""
    parts = split_address(address)
    return rules.images_at(parts) if parts else []


def image_keys(link: str, rules: HostRules) -> set[str]:
    """What all forms of a link to the same images have in common: see `HostedImage.key`."""
    address = cut_punctuation(link)
    keys = {image.key for image in images_at(address, rules)}
    return keys or {image_at(address, "").key}
