"""Reads articles one after another and names the pictures that each links.

An article that cannot be read is an entry with its status; only a site that is down ends it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pttfaces.board.article import parse_article
from pttfaces.board.client import Client
from pttfaces.board.hosts import NAMES
from pttfaces.board.links import Sorted, sort_links
from pttfaces.board.listing import Article
from pttfaces.board.store import Page, PageStore
from pttfaces.denylist import DenyList
from pttfaces.errors import SiteError
from pttfaces.progress import progress

STATUSES = ("ok", "empty", "truncated", "gone", "malformed", "refused", "failed")

_GONE = (404, 410)
_MOST_FAILURES = 5  # in a row, each after all its attempts: that is no bad article any more


@dataclass(frozen=True)
class ArticleRead:
    """An article that was read: one of STATUSES, and its links. A row of data/articles_read.csv.

    status: ok, or empty (nothing in it), truncated (the site cut its middle out; what is left
    counts), gone (404), malformed (no article's page), refused (403 and the like), failed (the site
    was too busy at every try).
    """

    article: Article
    status: str
    links: Sorted


def read_articles(
    client: Client, articles: Sequence[Article], store_of: Callable[[Article], PageStore]
) -> Iterator[ArticleRead]:
    """The articles' pictures, in order. SiteError: the site is down."""
    failures = 0
    pages = client.get_all(((article.url, store_of(article)) for article in articles), _is_known)
    with progress("articles", len(articles), " articles") as bar:
        for article, page in zip(articles, pages, strict=True):
            read = _read(article, page)
            failures = failures + 1 if read.status == "failed" else 0
            if failures == _MOST_FAILURES:
                raise SiteError(
                    f"{article.url} and the {failures - 1} articles before it answer with status "
                    f"{page.status}; try again later: pages already read are kept."
                )
            yield read
            bar.update()


def permitted(read: ArticleRead, pushes: bool, deny: DenyList) -> tuple[ArticleRead, int]:
    """An article with the links that may be used, and how many the deny list took away.

    Links in pushes count only with `pushes`. Denied are a link as posted, its picture's address,
    and whatever a denied author posted below another's article.
    """
    wanted = [link for link in read.links.pictures if pushes or link.place == "body"]
    allowed = [
        link
        for link in wanted
        if not deny.denies(author=link.author, url=link.posted)
        and not deny.denies(url=link.url or "")
    ]
    links = replace(read.links, pictures=tuple(allowed))
    return replace(read, links=links), len(wanted) - len(allowed)


def links_rows(read: ArticleRead) -> list[dict[str, object]]:
    """An article's lines of data/links.jsonl."""
    return [
        {"article": read.article.id, "position": position, "posted": link.posted}
        | {"url": link.url, "place": link.place}
        for position, link in enumerate(read.links.pictures)
    ]


def count(reads: Iterable[ArticleRead]) -> dict[str, object]:
    """How many articles of each status and links of each place, host and kind were read.

    A link that is none of a picture is under "other"; one whose picture the same article links
    already is under "repeated". Hosts without a rule of their own are counted together as
    "other": these numbers are committed, and whose own site an article linked is not for there.
    """
    reads = list(reads)
    pictures = [link for read in reads for link in read.links.pictures]
    statuses = Counter(read.status for read in reads)
    places = Counter(link.place for link in pictures)
    return {
        "articles": {status: statuses[status] for status in STATUSES},
        "links": len(pictures),
        "unresolved": sum(link.url is None for link in pictures),
        "repeated": sum(read.links.repeated for read in reads),
        "other": sum(read.links.other for read in reads),
        "places": {place: places[place] for place in ("body", "push")},
        "kinds": _by_size(link.kind for link in pictures),
        "hosts": _by_size(link.host if link.host in NAMES else "other" for link in pictures),
    }


def _by_size(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _is_known(page: Page) -> bool:
    """Whether the page says what became of the article, and will say so again."""
    if page.status != 200:
        return page.status in _GONE
    try:
        return parse_article(page.text).status != "malformed"
    except SiteError:
        return False


def _read(article: Article, page: Page) -> ArticleRead:
    nothing = Sorted((), 0, 0)
    if page.status in _GONE:
        return ArticleRead(article, "gone", nothing)
    if page.status != 200:
        refused = 400 <= page.status < 500 and page.status != 429
        return ArticleRead(article, "refused" if refused else "failed", nothing)
    try:
        parsed = parse_article(page.text)
    except SiteError:
        return ArticleRead(article, "malformed", nothing)
    return ArticleRead(article, parsed.status, sort_links(parsed.links, article.url))
