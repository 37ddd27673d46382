"""Requests articles, several at once, and collects the image links of each.

An article that cannot be read is an entry with its status; only a site that is down ends the run.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from pttfaces.board.article_ids import SETTLED_AFTER_S, posted_at
from pttfaces.board.article_page import ArticlePage, PostedLink, parse_article
from pttfaces.board.client import PageClient
from pttfaces.board.hosts import HostRules, host_of
from pttfaces.board.html import title_of
from pttfaces.board.links import ArticleLinks, ImageLink, image_keys, sort_links
from pttfaces.board.page_cache import Page, PageCache
from pttfaces.board.processes import map_on_cores
from pttfaces.denylist import DenyList
from pttfaces.errors import SiteError, counted
from pttfaces.progress import progress
from pttfaces.tables import Article, Link

ARTICLE_STATUSES = ("ok", "empty", "truncated", "gone", "malformed", "refused", "failed")

_GONE = (404, 410)
# So many in a row mean that the site is at fault, not the articles: it is too busy after all
# attempts for each, or it serves something else, such as a login page.
_MAX_FAILED, _MAX_UNREADABLE = 5, 10
_SHOWN_HOSTS = 5


@dataclass(frozen=True)
class ArticleRead:
    """An article that was read, with its links.

    status: one of ARTICLE_STATUSES: ok, empty (no content), truncated (the site cut out its middle;
    the rest counts), gone (404), malformed (no article page, or no page at all at its address),
    refused (403 or another error), failed (the site was too busy at every attempt); posted: links
    as posted.
    """

    article: Article
    status: str
    posted: tuple[PostedLink, ...]
    links: ArticleLinks


def read_articles(
    client: PageClient,
    articles: Sequence[Article],
    cache_for: Callable[[Article], PageCache],
    rules: HostRules,
) -> Iterator[ArticleRead]:
    """Reads articles and yields them in order, before the pages that they link are opened.

    SiteError: the site is down, or serves something other than articles.
    """
    failed = unreadable = 0
    requests = [(article.url, cache_for(article)) for article in articles]
    with progress("articles", len(articles), " articles") as bar:
        cached = []
        for found in map_on_cores(_parse_cached, requests):
            cached.append(found)
            bar.update(found is not None)
        missing = (request for request, found in zip(requests, cached, strict=True) if not found)
        pages = client.get_all(missing, _parse, _no_page)
        for article, found in zip(articles, cached, strict=True):
            page, parsed = found or next(pages)
            failed = failed + 1 if parsed.status == "failed" else 0
            bad = parsed.status in ("refused", "malformed", "failed")
            unreadable = unreadable + 1 if bad else 0
            if failed == _MAX_FAILED or unreadable == _MAX_UNREADABLE:
                raise SiteError(
                    f"{article.url} and the {max(failed, unreadable) - 1} articles before it are "
                    f"not article pages (status {page.status}, title: {title_of(page.text)}); open "
                    "it in a browser, and run the same command later. Pages already read are kept."
                )
            links = sort_links(parsed.links, article.url, rules)
            yield ArticleRead(article, parsed.status, parsed.links, links)
            bar.update(found is None)


def choose_cache(article: Article, *, settled: PageCache, recent: PageCache) -> PageCache:
    """The cache for an article's page: `settled` if it no longer changes, else `recent`."""
    age_s = time.time() - (posted_at(article.id) or 0)
    return settled if age_s > SETTLED_AFTER_S else recent


def link_filter(deny: DenyList, rules: HostRules) -> Callable[[ImageLink], bool]:
    """Tells whether the deny list has a link, in any form, one of its addresses, or its push's
    author."""
    keys = {key for url in deny.entries.get("url", ()) for key in image_keys(url, rules)}

    def is_denied(link: ImageLink) -> bool:
        named = (link.posted, link.page, *link.addresses)
        by_address = link.key in keys or any(deny.denies(url=address) for address in named)
        return by_address or deny.denies(author=link.author)

    return is_denied


def filter_links(
    read: ArticleRead, pushes: bool, is_denied: Callable[[ImageLink], bool]
) -> tuple[ArticleRead, int]:
    """An article with the links that may be used, and how many are denied.

    pushes: also use the links in pushes.
    """
    considered = [link for link in read.links.images if pushes or link.place == "body"]
    allowed = [link for link in considered if not is_denied(link)]
    links = replace(read.links, images=tuple(allowed))
    return replace(read, links=links), len(considered) - len(allowed)


def link_rows(read: ArticleRead) -> list[Link]:
    """An article's rows of data/links.jsonl."""
    return [
        Link(read.article.id, position, link.posted, link.addresses, link.place, link.author)
        for position, link in enumerate(read.links.images)
    ]


def count_links(reads: Iterable[ArticleRead], rules: HostRules) -> dict[str, object]:
    """Counts articles by status, and image links by place, kind and host, for metrics/links.json.

    other: links to no image; repeated: links to an image that the same article links already.
    Hosts without a rule are counted together as "other", those of an entry such as .pixnet.net
    under its name: these numbers are in git, which must not reveal the personal sites that articles
    link.
    """
    reads = list(reads)
    images = [link for read in reads for link in read.links.images]
    statuses = Counter(read.status for read in reads)
    places = Counter(link.place for link in images)
    return {
        "articles": {status: statuses[status] for status in ARTICLE_STATUSES},
        "links": len(images),
        "unresolved": sum(not link.addresses for link in images),
        "repeated": sum(read.links.repeated for read in reads),
        "other": sum(len(read.links.other) for read in reads),
        "places": {place: places[place] for place in ("body", "push")},
        "kinds": _by_count(link.kind for link in images),
        "hosts": _by_count(rules.name_of(link.host) or "other" for link in images),
    }


def unknown_hosts(reads: Iterable[ArticleRead], rules: HostRules) -> dict[str, int]:
    """The hosts without a rule, apart from the board's own → how many links lead there, the
    largest first.

    For the screen only: personal sites are among them.
    """
    links: Counter[str] = Counter()
    for read in reads:
        links.update(link.host for link in read.links.images)
        links.update(read.links.other)
        own = host_of(urlsplit(read.article.url))
        links.pop(own, None)
    known = {host for host in links if not host or rules.name_of(host)}
    return _by_count(host for host in links.elements() if host not in known)


def describe_links(reads: Sequence[ArticleRead], rules: HostRules) -> str:
    """The stage's result in one line."""
    images = [link for read in reads for link in read.links.images]
    unresolved = sum(not link.addresses for link in images)
    unread = sum(read.status not in ("ok", "empty", "truncated") for read in reads)
    verb = "is" if len(images) == 1 else "are"
    text = f"links: {counted(len(images), 'image')} {verb} linked in "
    text += counted(len(reads), "article")
    if unresolved:
        text += f", {unresolved} of them through albums or pages that gave no image address"
    if unread:
        text += f"; {counted(unread, 'article')} could not be read (data/articles_read.csv)"
    largest = list(unknown_hosts(reads, rules).items())[:_SHOWN_HOSTS]
    hosts = ", ".join(f"{host} {count}" for host, count in largest)
    return f"{text}." + f" Hosts that no rule knows (docs/hosts.md): {hosts}." * bool(hosts)


def _by_count(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _parse_cached(request: tuple[str, PageCache]) -> tuple[Page, ArticlePage] | None:
    """The parsed article that is cached at a URL, without the page's text; None if there is none.

    Runs in other processes, to which nothing large should go.
    """
    url, cache = request
    page = cache.get(url)
    if page is None:
        return None
    (_, parsed), final = _parse(page)
    return (replace(page, text=""), parsed) if final else None


def _parse(page: Page) -> tuple[tuple[Page, ArticlePage], bool]:
    """The parsed article, and whether the page is final; see `client.Parser`."""
    if page.status in _GONE:
        return (page, ArticlePage("gone")), True
    if page.status != 200:
        refused = 400 <= page.status < 500 and page.status != 429
        return (page, ArticlePage("refused" if refused else "failed")), False
    parsed = parse_article(page.text)
    return (page, parsed), parsed.status != "malformed"


def _no_page(url: str) -> tuple[Page, ArticlePage]:
    return Page(url, 200, ""), ArticlePage("malformed")
