"""Stage links: the pictures that the articles link → data/links.jsonl, data/articles_read.csv."""

import os
import time
from pathlib import Path

from pttfaces.stage import run_stage
from pttfaces import denylist, files, source, tables, workdir
from pttfaces.board import albums, article_ids
from pttfaces.board import articles as reading
from pttfaces.board.client import Client, Manners
from pttfaces.board.hosts import HostRules
from pttfaces.board.links import PictureLink
from pttfaces.board.listing import Article
from pttfaces.board.page_cache import PageStore
from pttfaces.config import Params, load
from pttfaces.denylist import DenyList
from pttfaces.tables import ArticleStatus


def main() -> None:
    params = load()
    deny = denylist.in_force()
    rows = files.read_jsonl("data/articles.jsonl", Article.__dataclass_fields__)
    listed = [Article(**row) for row in rows]
    articles = [a for a in listed if not deny.denies(article=a.id, author=a.author)]
    all_read = []
    if articles:  # else there is nothing to wait for while another run is reading
        site = [source.base_url(params), params.board.name, source.cache_namespace(params)]
        with (
            workdir.resuming("links", site) as work,
            workdir.exclusive("links", source.lock_key(params)),
        ):
            all_read = read_all(params, articles, deny, work)
    permitted = [reading.permitted(read, params.links.pushes, deny) for read in all_read]
    reads = [read for read, _ in permitted]
    denied = len(listed) - len(articles) + sum(taken for _, taken in permitted)
    files.write_jsonl("data/links.jsonl", (row for r in reads for row in reading.links_rows(r)))
    statuses = [ArticleStatus(r.article.id, r.status, len(r.links.pictures)) for r in reads]
    tables.write("data/articles_read.csv", statuses, ArticleStatus)
    counts = reading.count(reads, HostRules(source.host_aliases(params)))
    files.write_metrics("links", {**counts, "denied": denied})
    if params.source == "inbox":
        print("links: source is inbox, so there is no article to read.")
    else:
        print(reading.sentence(reads))


def read_all(
    params: Params, articles: list[Article], deny: DenyList, work: Path
) -> list[reading.ArticleRead]:
    """Every article, from its page: read now, or kept from before; and the albums they link."""
    rules = HostRules(source.host_aliases(params))
    real = params.source == "ptt"
    lasting = PageStore(workdir.cache_dir("pages"))
    passing = PageStore(work, max_age_s=86400 if real else float("inf"))
    how = params.links.albums
    auth = albums.ClientId(os.environ.get(albums.CLIENT_ID, "")) if how == "api" else None
    manners = Manners(params.board.rate_per_s)

    def store_of(article: Article) -> PageStore:
        age = time.time() - (article_ids.posted_at(article.id) or 0)
        return lasting if real and age > article_ids.SETTLED_AFTER_S else passing

    def wanted(link: PictureLink) -> bool:
        return (params.links.pushes or link.place == "body") and not reading.denied(link, deny)

    with source.connect(params) as door, Client(door, manners) as client:
        reads = list(reading.read_articles(client, articles, store_of, rules))
        if how == "leave":
            return reads
        with Client(door, manners, auth) as picture_host:
            return albums.open_albums(
                picture_host, reads, albums.SOURCES[how], store_of, wanted, rules
            )


if __name__ == "__main__":
    run_stage(main)
