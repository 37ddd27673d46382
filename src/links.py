"""Stage links: the pictures that the articles link → data/links.jsonl, data/articles_read.csv."""

import os
import time
from pathlib import Path

from pttfaces import cli, denylist, files
from pttfaces.board import albums, ids, reading
from pttfaces.board.client import Client, Manners
from pttfaces.board.links import PictureLink
from pttfaces.board.listing import Article
from pttfaces.board.store import PageStore
from pttfaces.demo.site import board_lock, board_url, open_door, world_of
from pttfaces.denylist import DenyList
from pttfaces.params import Params, load


def main() -> None:
    params = load()
    deny = denylist.in_force()
    rows = files.read_jsonl("data/articles.jsonl", Article.__dataclass_fields__)
    listed = [Article(**row) for row in rows]
    articles = [a for a in listed if not deny.denies(article=a.id, author=a.author)]
    all_read = []
    if articles:  # else there is nothing to wait for while another run is reading
        site = [board_url(params), params.board.name, world_of(params)]
        with files.resuming("links", site) as work, files.alone("links", board_lock(params)):
            all_read = read_all(params, articles, deny, work)
    permitted = [reading.permitted(read, params.links.pushes, deny) for read in all_read]
    reads = [read for read, _ in permitted]
    denied = len(listed) - len(articles) + sum(taken for _, taken in permitted)
    files.write_jsonl("data/links.jsonl", (row for r in reads for row in reading.links_rows(r)))
    columns = ["article", "status", "links"]
    statuses = [(r.article.id, r.status, len(r.links.pictures)) for r in reads]
    table = [dict(zip(columns, status, strict=True)) for status in statuses]
    files.write_csv("data/articles_read.csv", table, columns)
    counts = reading.count(reads)
    files.write_metrics("links", {**counts, "denied": denied})
    if params.source == "inbox":
        print("links: source is inbox, so there is no article to read.")
    else:
        print(reading.sentence(reads))


def read_all(
    params: Params, articles: list[Article], deny: DenyList, work: Path
) -> list[reading.ArticleRead]:
    """Every article, from its page: read now, or kept from before; and the albums they link."""
    real = params.source == "ptt"
    lasting = PageStore(files.cache_dir("pages"))
    passing = PageStore(work, max_age_s=86400 if real else float("inf"))
    how = params.links.albums
    auth = albums.ClientId(os.environ.get(albums.CLIENT_ID, "")) if how == "api" else None
    manners = Manners(params.board.rate_per_s)

    def store_of(article: Article) -> PageStore:
        age = time.time() - (ids.posted_at(article.id) or 0)
        return lasting if real and age > ids.SETTLED_AFTER_S else passing

    def wanted(link: PictureLink) -> bool:
        return (params.links.pushes or link.place == "body") and not reading.denied(link, deny)

    with open_door(params) as door, Client(door, manners) as client:
        reads = list(reading.read_articles(client, articles, store_of))
        if how == "leave":
            return reads
        with Client(door, manners, auth) as picture_host:
            return albums.open_albums(picture_host, reads, albums.SOURCES[how], store_of, wanted)


if __name__ == "__main__":
    cli.run_stage(main)
