"""Finds the images of imgur albums, from the album's page or from imgur's API.

An album that cannot be opened stays a link without an address and never ends a run.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from pttfaces.board.articles import ArticleRead
from pttfaces.board.client import PageClient
from pttfaces.board.hosts import HostedImage, HostRules
from pttfaces.board.links import ImageLink, sort_links
from pttfaces.board.page_cache import Page, PageCache
from pttfaces.errors import ParamsError, SiteError
from pttfaces.progress import progress
from pttfaces.tables import Article

CLIENT_ID = "IMGUR_CLIENT_ID"  # the environment variable; the id itself is in no file

_API_HOSTS = ("api.imgur.com", "api.imgur.test")  # .test: the demo's; no public name ends so
_MAX_FAILURES = 3  # in a row, each after all attempts; then the other albums are left for later
# An album's page holds its data for its own script: JSON in a string literal.
_POST_DATA = re.compile(r"window\.postDataJSON\s*=\s*(\"(?:[^\"\\]|\\.)*\")")


@dataclass(frozen=True)
class AlbumSource:
    """A place that lists the images of albums.

    address: the album's page → the address to request; images: the response's text → the images'
    addresses.
    """

    address: Callable[[str], str]
    images: Callable[[str], list[str]]


class ClientId(AuthBase):
    """Sends an imgur application's client id to imgur's API, and to no other host.

    ParamsError: no client id.
    """

    def __init__(self, client_id: str) -> None:
        if not re.fullmatch(r"[\x21-\x7e]+", client_id):
            raise ParamsError(
                f"links.albums is api, but the environment variable {CLIENT_ID} holds no client "
                "id; set it to your imgur application's client id, or set links.albums to page or "
                "leave."
            )
        self._client_id = client_id

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        parts = urlsplit(request.url or "")
        if parts.scheme == "https" and parts.hostname in _API_HOSTS:
            request.headers["Authorization"] = f"Client-ID {self._client_id}"
        return request


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


ALBUM_SOURCES = {
    "page": AlbumSource(lambda album: album, images_on_page),
    "api": AlbumSource(api_address, images_in_response),
}


def open_albums(
    client: PageClient,
    reads: Sequence[ArticleRead],
    source: AlbumSource,
    cache_for: Callable[[Article], PageCache],
    may_open: Callable[[ImageLink], bool],
    rules: HostRules,
) -> list[ArticleRead]:
    """Articles with links to albums replaced by the albums' images.

    may_open: whether a link's album may be opened; the other albums stay links.

    ParamsError: the API rejects the client id.
    """
    unopened = {
        link.key: (source.address(link.album), cache_for(read.article))
        for read in reads
        for link in read.links.images
        if link.album and may_open(link)
    }

    def parse(page: Page) -> tuple[list[HostedImage], bool]:
        if page.status in (401, 403) and "client_id" in page.text:
            raise ParamsError(
                f"imgur's API rejects the client id in {CLIENT_ID} (status {page.status}); correct "
                "it, or set links.albums to page or leave."
            )
        addresses = source.images(page.text) if page.status == 200 else []
        return list(_hosted_images(addresses, rules)), page.status in (200, 404, 410)

    opened: dict[str, list[HostedImage]] = {}
    failures = 0
    with progress("albums", len(unopened), " albums") as bar:
        for key, (address, cache) in unopened.items():
            try:
                images = client.get(address, parse, cache)
            except SiteError as error:
                failures += 1
                if failures == _MAX_FAILURES:
                    print(f"links: skipping the remaining albums: {error}", file=sys.stderr)
                    break
            else:
                failures = 0
                if images:
                    opened[key] = images
            bar.update()
    return [
        replace(read, links=sort_links(read.posted, read.article.url, rules, opened))
        if any(link.key in opened for link in read.links.images)
        else read
        for read in reads
    ]


def _hosted_images(addresses: Iterable[str], rules: HostRules) -> Iterator[HostedImage]:
    for address in addresses:
        try:
            images = rules.images_at(urlsplit(address))
        except ValueError:  # not a URL
            continue
        yield from (replace(image, kind="album") for image in images if image.addresses)


def _texts(rows: object, name: str) -> list[str]:
    """The texts under a name in a list of JSON objects, whatever else is in it."""
    if not isinstance(rows, list):
        return []
    values = (row.get(name) for row in rows if isinstance(row, dict))
    return [value for value in values if isinstance(value, str)]


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
