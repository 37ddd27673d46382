"""Albums: the pictures behind links that name none, from imgur's pages or from its API.

An album that cannot be opened stays a link without an address; that never ends a run.
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
from pttfaces.board.client import Client
from pttfaces.board.hosts import Found, HostRules
from pttfaces.board.links import PictureLink, sort_links
from pttfaces.board.listing import Article
from pttfaces.board.page_cache import Page, PageStore
from pttfaces.errors import ParamsError, SiteError
from pttfaces.progress import progress

CLIENT_ID = "IMGUR_CLIENT_ID"  # the environment variable; the id itself stands in no file

_MOST_FAILURES = 3  # in a row, each after all its tries: the rest is left for another day
# What an album's page tells its own script: JSON in a string literal.
_POST = re.compile(r"window\.postDataJSON\s*=\s*(\"(?:[^\"\\]|\\.)*\")")


@dataclass(frozen=True)
class Source:
    """Where albums are looked up: the address for an album's page, and what an answer tells."""

    address: Callable[[str], str]
    pictures: Callable[[str], list[str]]


class ClientId(AuthBase):
    """Names an application of imgur's to its API, and to no other host."""

    def __init__(self, client_id: str) -> None:
        if not re.fullmatch(r"[\x21-\x7e]+", client_id):
            raise ParamsError(
                f"links.albums is api, and the environment variable {CLIENT_ID} holds no "
                "client id; set it to your imgur application's, or links.albums to page or leave."
            )
        self._client_id = client_id

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if (urlsplit(request.url or "").hostname or "").startswith("api.imgur."):
            request.headers["Authorization"] = f"Client-ID {self._client_id}"
        return request


def api_address(album: str) -> str:
    """imgur's API, version 3: where it tells what stands in an album."""
    scheme, _, host, kind, name = album.split("/", 4)
    path = f"album/{name}/images" if kind == "a" else f"gallery/album/{name}"
    return f"{scheme}//api.{host}/3/{path}"


def pictures_on_page(text: str) -> list[str]:
    """The addresses that an album's page tells; none where it tells them only to a browser."""
    found = _POST.search(text)
    # A JavaScript string may escape an apostrophe, a JSON string must not.
    inner = _json(found[1].replace("\\'", "'")) if found else None
    post = _json(inner) if isinstance(inner, str) else None
    return _texts(post.get("media"), "url") if isinstance(post, dict) else []


def pictures_in_answer(text: str) -> list[str]:
    """The addresses that an answer of imgur's API tells."""
    answer = _json(text)
    data = answer.get("data") if isinstance(answer, dict) else None
    return _texts(data.get("images") if isinstance(data, dict) else data, "link")


SOURCES = {
    "page": Source(lambda album: album, pictures_on_page),
    "api": Source(api_address, pictures_in_answer),
}


def open_albums(
    client: Client,
    reads: Sequence[ArticleRead],
    source: Source,
    store_of: Callable[[Article], PageStore],
    wanted: Callable[[PictureLink], bool],
    rules: HostRules,
) -> list[ArticleRead]:
    """Articles with the pictures of the albums that are wanted in the place of the links to them.

    ParamsError: the API does not know the client id.
    """
    closed = {
        link.key: (source.address(link.album), store_of(read.article))
        for read in reads
        for link in read.links.pictures
        if link.album and wanted(link)
    }

    def look(page: Page) -> tuple[list[Found], bool]:
        if page.status in (401, 403) and "client_id" in page.text:
            raise ParamsError(
                f"imgur's API does not know the client id in {CLIENT_ID} (status {page.status}); "
                "mend it, or set links.albums to page or leave."
            )
        found = source.pictures(page.text) if page.status == 200 else []
        return _pictures(found, rules), page.status in (200, 404, 410)

    opened: dict[str, list[Found]] = {}
    failures = 0
    with progress("albums", len(closed), " albums") as bar:
        for key, (address, store) in closed.items():
            try:
                pictures = client.get(address, look, store)
            except SiteError as error:
                failures += 1
                if failures == _MOST_FAILURES:
                    print(f"links: the other albums are left unresolved: {error}", file=sys.stderr)
                    break
            else:
                failures = 0
                if pictures:
                    opened[key] = pictures
            bar.update()
    return [
        replace(read, links=sort_links(read.posted, read.article.url, rules, opened))
        if any(link.key in opened for link in read.links.pictures)
        else read
        for read in reads
    ]


def _pictures(addresses: Iterable[str], rules: HostRules) -> list[Found]:
    return [replace(one, kind="album") for one in _at(addresses, rules) if one.url]


def _at(addresses: Iterable[str], rules: HostRules) -> Iterator[Found]:
    for address in addresses:
        try:
            yield from rules.images_at(urlsplit(address))
        except ValueError:
            continue


def _texts(rows: object, name: str) -> list[str]:
    values = (
        [row.get(name) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    )
    return [value for value in values if isinstance(value, str)]


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
