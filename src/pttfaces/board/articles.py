"""Reads articles, several ahead, and names the pictures that each links.

An article that cannot be read is an entry with its status; only a site that is down ends it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pttfaces.board.article_page import ArticlePage, PostedLink, parse_article
from pttfaces.board.client import Client
from pttfaces.board.hosts import HostRules
from pttfaces.board.html import title_of
from pttfaces.board.links import PictureLink, Sorted, sort_links
from pttfaces.board.listing import Article
from pttfaces.board.page_cache import Page, PageStore
from pttfaces.denylist import DenyList
from pttfaces.errors import SiteError
from pttfaces.progress import progress

STATUSES = ("ok", "empty", "truncated", "gone", "malformed", "refused", "failed")

_GONE = (404, 410)
# So many in a row are no bad articles any more: a site that is too busy, after all attempts for
# each, and one that serves something else, such as a login page.
_MOST_BUSY, _MOST_STRANGE = 5, 10


@dataclass(frozen=True)
class ArticleRead:
    """An article that was read: one of STATUSES, the links that stand in it, and those of pictures.

    status: ok, or empty (nothing in it), truncated (the site cut its middle out; what is left
    counts), gone (404), malformed (no article's page, or no page at all at its address), refused
    (403 and the like), failed (the site was too busy at every try).
    """

    article: Article
    status: str
    posted: tuple[PostedLink, ...]
    links: Sorted


def read_articles(
    client: Client,
    articles: Sequence[Article],
    store_of: Callable[[Article], PageStore],
    rules: HostRules,
) -> Iterator[ArticleRead]:
    """The articles' pictures, in order; albums are not opened. SiteError: the site is down, or
    serves something else."""
    busy = strange = 0
    wanted = ((article.url, store_of(article)) for article in articles)
    pages = client.get_all(wanted, _look, _no_page)
    with progress("articles", len(articles), " articles") as bar:
        for article, (answer, parsed) in zip(articles, pages, strict=True):
            busy = busy + 1 if parsed.status == "failed" else 0
            strange = strange + 1 if parsed.status in ("refused", "malformed", "failed") else 0
            if busy == _MOST_BUSY or strange == _MOST_STRANGE:
                raise SiteError(
                    f"{article.url} and the {max(busy, strange) - 1} articles before it are no "
                    f"articles (status {answer.status}, title: {title_of(answer.text)}); open it "
                    "in a browser, and try again later: pages already read are kept."
                )
            links = sort_links(parsed.links, article.url, rules)
            yield ArticleRead(article, parsed.status, parsed.links, links)
            bar.update()


def permitted(read: ArticleRead, pushes: bool, deny: DenyList) -> tuple[ArticleRead, int]:
    """An article with the links that may be used, and how many the deny list took away.

    Links in pushes count only with `pushes`.
    """
    wanted = [link for link in read.links.pictures if pushes or link.place == "body"]
    allowed = [link for link in wanted if not denied(link, deny)]
    links = replace(read.links, pictures=tuple(allowed))
    return replace(read, links=links), len(wanted) - len(allowed)


def denied(link: PictureLink, deny: DenyList) -> bool:
    """Whether the deny list names a link as posted, its picture's address, or who posted it below
    another's article."""
    by_post = deny.denies(author=link.author, url=link.posted)
    return by_post or deny.denies(url=link.url or "")


def links_rows(read: ArticleRead) -> list[dict[str, object]]:
    """An article's lines of data/links.jsonl; author: see PictureLink."""
    return [
        {"article": read.article.id, "position": position, "posted": link.posted}
        | {"url": link.url, "place": link.place, "author": link.author}
        for position, link in enumerate(read.links.pictures)
    ]


def count(reads: Iterable[ArticleRead], rules: HostRules) -> dict[str, object]:
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
        "hosts": _by_size(link.host if rules.has(link.host) else "other" for link in pictures),
    }


def sentence(reads: Sequence[ArticleRead]) -> str:
    """What was read, for a person."""
    links = [link for read in reads for link in read.links.pictures]
    unresolved = sum(link.url is None for link in links)
    unread = sum(read.status not in ("ok", "empty", "truncated") for read in reads)
    said = f"links: {len(links)} pictures are linked in {len(reads)} articles"
    said += f", {unresolved} of them behind albums or pages that tell no address" * bool(unresolved)
    said += f"; {unread} articles could not be read (data/articles_read.csv)" * bool(unread)
    return f"{said}."


def _by_size(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _look(page: Page) -> tuple[tuple[Page, ArticlePage], bool]:
    """What became of the article, and whether the page will say so again."""
    if page.status in _GONE:
        return (page, ArticlePage("gone")), True
    if page.status != 200:
        refused = 400 <= page.status < 500 and page.status != 429
        return (page, ArticlePage("refused" if refused else "failed")), False
    parsed = parse_article(page.text)
    return (page, parsed), parsed.status != "malformed"


def _no_page(url: str) -> tuple[Page, ArticlePage]:
    return Page(url, 200, ""), ArticlePage("malformed")
