"""Opens the pages that articles link in place of images: imgur albums, pages of single images, and
short links, which lead elsewhere.

A page that cannot be opened stays a link without an address and never ends a run.
"""

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from bs4 import SoupStrainer

from pttfaces.board.articles import ArticleRead
from pttfaces.board.client import DisallowedError, PageClient
from pttfaces.board.hosts import HostedImage, HostRules, host_of, image_at
from pttfaces.board.html import parse_html
from pttfaces.board.links import ImageLink, images_at, sort_links, split_address
from pttfaces.board.page_cache import Page, PageCache
from pttfaces.errors import ParamsError, SiteError
from pttfaces.progress import progress
from pttfaces.tables import Article

CLIENT_ID = "IMGUR_CLIENT_ID"  # the environment variable; the id itself is in no file

_API_HOSTS = ("api.imgur.com", "api.imgur.test")  # .test: the demo's; no public name ends so
_MAX_FAILURES = 3  # of a host in a row, each after all attempts; then its other pages are left
_BUSY = (429, 503)  # concern the host, as no answer does; other errors concern their page only
_MAX_STEPS = 10  # from page to page
_FINAL = (200, 404, 410)
# An album's page holds its data for its own script: JSON in a string literal.
_POST_DATA = re.compile(r"window\.postDataJSON\s*=\s*(\"(?:[^\"\\]|\\.)*\")")
_REFRESH = re.compile(r"\s*[\d.]+\s*[;,]\s*url\s*=\s*['\"]?([^'\"]+)", re.IGNORECASE)
# The image that a page names for previews, the best first.
_PREVIEWS = ("og:image:secure_url", "og:image:url", "og:image", "twitter:image")


@dataclass(frozen=True)
class PageSource:
    """How a kind of page leads to images.

    images: the response → what it leads to, images or further pages; [] if that is no image, None
    if the page cannot be read; address: the page → the address to request.
    """

    images: Callable[[Page, HostRules], list[HostedImage] | None]
    address: Callable[[str], str] = str


def imgur_credentials(client_id: str) -> Callable[[str], dict[str, str]]:
    """Gives a URL's request an imgur application's client id, if it goes to imgur's API.

    ParamsError: no client id.
    """
    if not re.fullmatch(r"[\x21-\x7e]+", client_id):
        raise ParamsError(
            f"links.albums is api, but the environment variable {CLIENT_ID} holds no client id; "
            "set it to your imgur application's client id, or set links.albums to page or leave."
        )

    def headers(url: str) -> dict[str, str]:
        parts = urlsplit(url)
        is_api = parts.scheme == "https" and parts.hostname in _API_HOSTS
        return {"Authorization": f"Client-ID {client_id}"} if is_api else {}

    return headers


def api_address(album: str) -> str:
    """The address in imgur's API, version 3, that lists an album's images."""
    scheme, _, host, kind, name = album.split("/", 4)
    path = f"album/{name}/images" if kind == "a" else f"gallery/album/{name}"
    return f"{scheme}//api.{host}/3/{path}"


def images_on_page(text: str) -> list[str]:
    """The image addresses on an album's page; none if imgur does not embed them."""
    found = _POST_DATA.search(text)
    # A JavaScript string may escape an apostrophe, a JSON string must not.
    literal = _json(found[1].replace("\\'", "'")) if found else None
    post = _json(literal) if isinstance(literal, str) else None
    return _texts(post.get("media"), "url") if isinstance(post, dict) else []


def images_in_response(text: str) -> list[str]:
    """The image addresses in a response of imgur's API."""
    response = _json(text)
    data = response.get("data") if isinstance(response, dict) else None
    return _texts(data.get("images") if isinstance(data, dict) else data, "link")


def preview_image(page: Page) -> str | None:
    """The address of the image that a page names for previews, its `og:image`; None for none."""
    named: dict[str, str] = {}
    for tag in parse_html(page.text, SoupStrainer("meta")).find_all("meta"):
        name = str(tag.get("property") or tag.get("name")).lower()
        if content := str(tag.get("content") or "").strip():
            named.setdefault(name, content)
    best = next((named[name] for name in _PREVIEWS if name in named), "")
    parts = split_address(best, page.url)
    return parts.geturl() if parts and best else None


def _album_images(addresses: Iterable[str], rules: HostRules) -> list[HostedImage] | None:
    found = (image for address in addresses for image in images_at(address, rules))
    return [replace(image, kind="album") for image in found if image.addresses] or None


def _images_of_album(page: Page, rules: HostRules) -> list[HostedImage] | None:
    return _album_images(images_on_page(page.text), rules) if page.status == 200 else None


def _images_of_api(page: Page, rules: HostRules) -> list[HostedImage] | None:
    if page.status in (401, 403) and "client_id" in page.text:
        raise ParamsError(
            f"imgur's API rejects the client id in {CLIENT_ID} (status {page.status}); correct it, "
            "or set links.albums to page or leave."
        )
    if page.status == 404 and "/gallery/album/" in page.url:  # a gallery's page of a single image
        host, name = host_of(urlsplit(page.url)).removeprefix("api."), page.url.rpartition("/")[2]
        return images_at(f"https://{host}/{name}", rules)
    return _album_images(images_in_response(page.text), rules) if page.status == 200 else None


def _image_of_page(page: Page, rules: HostRules) -> list[HostedImage] | None:
    is_start_page = urlsplit(page.url).path in ("", "/")  # in place of a page that is gone
    address = preview_image(page) if page.status == 200 and not is_start_page else None
    if not address:
        return None
    images = images_at(address, rules)
    return images if any(image.addresses for image in images) else [image_at(address, "page")]


def _end_of_short_link(page: Page, rules: HostRules) -> list[HostedImage] | None:
    for tag in parse_html(page.text, SoupStrainer("meta")).find_all("meta"):
        target = _REFRESH.match(str(tag.get("content") or ""))
        if target and str(tag.get("http-equiv")).lower() == "refresh":
            return _next_page(target[1], "short", rules, page.url)
    is_short = any(image.kind == "short" for image in images_at(page.url, rules))
    return None if is_short or page.status != 200 else []


ALBUM_SOURCES = {
    "page": PageSource(_images_of_album),
    "api": PageSource(_images_of_api, api_address),
}
PAGE_SOURCES = {"page": PageSource(_image_of_page), "short": PageSource(_end_of_short_link)}


def open_pages(
    client: PageClient,
    reads: Sequence[ArticleRead],
    sources: Mapping[str, PageSource],
    cache_for: Callable[[Article], PageCache],
    may_open: Callable[[ImageLink], bool],
    rules: HostRules,
) -> list[ArticleRead]:
    """Articles with links to pages replaced by the images that the pages lead to.

    sources: kind of a link → how to open its page; may_open: whether a link's page may be opened;
    other pages stay links.

    ParamsError: the API rejects the client id.
    """
    unopened = {
        link.key: (link.kind, link.page, cache_for(read.article))
        for read in reversed(reads)  # so that the first article's cache counts: the oldest's
        for link in read.links.images
        if link.page and link.kind in sources and may_open(link)
    }
    opener = _Opener(client, sources, rules)
    opened: dict[str, list[HostedImage]] = {}
    with progress("albums and pages", len(unopened), " pages") as bar:
        # In any order, so that the same pages do not keep the others from being opened each time.
        for key in random.sample(list(unopened), len(unopened)):
            images = opener.open(*unopened[key])
            if images is not None:
                opened[key] = images
            bar.update()
    return [
        replace(read, links=sort_links(read.posted, read.article.url, rules, opened))
        if any(link.key in opened for link in read.links.images)
        else read
        for read in reads
    ]


class _Opener:
    def __init__(
        self, client: PageClient, sources: Mapping[str, PageSource], rules: HostRules
    ) -> None:
        self._client, self._sources, self._rules = client, sources, rules
        self._failures: Counter[str] = Counter()  # in a row, by host

    def open(
        self, kind: str, page: str, cache: PageCache, steps: int = _MAX_STEPS
    ) -> list[HostedImage] | None:
        """The images that a page leads to, through further pages; None if it cannot be opened."""
        source = self._sources.get(kind)
        response = self._get(source.address(page), kind, cache) if source and steps else None
        if not source or not response:
            return None
        if response.location:
            found = _next_page(response.location, kind, self._rules)
        elif response.status == 200 and response.content_type.startswith("image/"):
            found = [image_at(response.url, kind)]
        else:
            found = source.images(response, self._rules)
        if found is None:
            return None
        images: list[HostedImage] = []
        for image in found:
            inside = self.open(image.kind, image.page, cache, steps - 1) if image.page else [image]
            if inside is None and image.kind == kind:
                return None
            images += [image] if inside is None else inside
        return images

    def _get(self, address: str, kind: str, cache: PageCache) -> Page | None:
        """The cached page or the response, a redirect as it comes; None where there is none."""
        host, page, problem = host_of(urlsplit(address)), cache.get(address), ""
        if page or self._failures[host] >= _MAX_FAILURES:
            return page
        try:
            page = self._client.fetch(address, follow=False)
        except DisallowedError:
            return None
        except SiteError as error:
            problem = str(error).partition(";")[0].rstrip(".")  # without advice for the board
        else:
            if page.status in _BUSY:
                problem = f"{address} answers with status {page.status}"
            leads_on = page.location and _next_page(page.location, kind, self._rules)
            if leads_on or page.status in _FINAL:
                cache.put(page)
        self._failures[host] = self._failures[host] + 1 if problem else 0
        if self._failures[host] == _MAX_FAILURES:
            print(
                f"links: skipping the remaining pages of {host}: {problem}; `make update` tries "
                "them again.",
                file=sys.stderr,
            )
        return page


def _next_page(
    address: str, kind: str, rules: HostRules, page_url: str = ""
) -> list[HostedImage] | None:
    """What a page's redirect leads to: images, or the next page; None if it is no address."""
    parts = split_address(address, page_url)
    if parts is None:
        return None
    images = rules.images_at(parts)
    if not images and kind == "album":  # imgur's start page, in place of an album that is gone
        return None
    return images or [HostedImage((), parts.geturl(), kind, page=parts.geturl())]


def _json(text: str) -> object:
    """Parsed JSON; None for anything else, of which there is no bound on the web."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _texts(rows: object, name: str) -> list[str]:
    """The texts under a name in a list of JSON objects, whatever else is in it."""
    if not isinstance(rows, list):
        return []
    values = (row.get(name) for row in rows if isinstance(row, dict))
    return [value for value in values if isinstance(value, str)]
