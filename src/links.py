"""Stage links: finds the images that articles link; writes data/links.jsonl."""

import os
from collections.abc import Callable
from functools import partial

from pttfaces.stage import run_stage
from pttfaces import denylist, files, source, tables, workdir
from pttfaces.board import articles, linked_pages
from pttfaces.board.article_ids import RECENT_MAX_AGE_S
from pttfaces.board.client import PageClient, RetryPolicy
from pttfaces.board.hosts import HostRules
from pttfaces.board.links import ImageLink
from pttfaces.board.page_cache import PageCache
from pttfaces.config import Params, load
from pttfaces.tables import Article, ArticleStatus


def main() -> None:
    params = load()
    deny = denylist.load_for_stage()
    rules = HostRules(source.host_aliases(params))
    listed = tables.read_jsonl("data/articles.jsonl", Article)
    allowed = [a for a in listed if not deny.denies(article=a.id, author=a.author)]
    is_denied = articles.link_filter(deny, rules)
    # Without an article there is no reason to wait for another run that reads the board.
    read = read_all(params, allowed, is_denied, rules) if allowed else []
    filtered = [articles.filter_links(each, params.links.pushes, is_denied) for each in read]
    reads = [each for each, _ in filtered]
    denied = len(listed) - len(allowed) + sum(count for _, count in filtered)
    tables.write_jsonl("data/links.jsonl", (row for r in reads for row in articles.link_rows(r)))
    statuses = [ArticleStatus(r.article.id, r.status, len(r.links.images)) for r in reads]
    tables.write("data/articles_read.csv", statuses, ArticleStatus)
    files.write_metrics("links", {**articles.count_links(reads, rules), "denied": denied})
    if params.source == "inbox":
        print("links: source is inbox, so there is no article to read.")
    else:
        print(articles.describe_links(reads, rules))


def read_all(
    params: Params,
    listed: list[Article],
    is_denied: Callable[[ImageLink], bool],
    rules: HostRules,
) -> list[articles.ArticleRead]:
    """Reads the articles and opens the pages they link, from cached pages where there are any."""
    how, rate = params.links.albums, params.board.rate_per_s
    client_id = os.environ.get(linked_pages.CLIENT_ID, "")
    credentials = linked_pages.imgur_credentials(client_id) if how == "api" else None
    sources = dict(linked_pages.PAGE_SOURCES) if params.links.pages else {}
    if how != "leave":
        sources["album"] = linked_pages.ALBUM_SOURCES[how]
    namespace = source.cache_namespace(params)
    pages = workdir.cache_dir("pages")
    if namespace != "web":
        pages /= files.digest_json(namespace)[:16]

    def may_open(link: ImageLink) -> bool:
        return (params.links.pushes or link.place == "body") and not is_denied(link)

    with (
        workdir.resuming("links", [source.base_url(params), namespace]) as work,
        workdir.exclusive("links", source.board_lock_key(params)),
        source.connect(params) as hosts,
        PageClient(hosts, rate) as client,
    ):
        recent = PageCache(work, RECENT_MAX_AGE_S)
        cache_for = partial(articles.choose_cache, settled=PageCache(pages), recent=recent)
        reads = list(articles.read_articles(client, listed, cache_for, rules))
        networks = params.download.allow_networks
        retries = RetryPolicy(attempts=3)  # there are many hosts, and some are gone
        with PageClient(hosts, rate, retries, credentials, networks) as page_client:
            return linked_pages.open_pages(page_client, reads, sources, cache_for, may_open, rules)


if __name__ == "__main__":
    run_stage(main)
