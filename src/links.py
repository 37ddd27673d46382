"""Stage links: the pictures that the articles link → data/links.jsonl, data/articles_read.csv."""

import datetime
import time
from pathlib import Path

from pttfaces import cli, files
from pttfaces.board import ids, reading
from pttfaces.board.client import Client, Manners
from pttfaces.board.listing import Article
from pttfaces.board.store import PageStore
from pttfaces.demo.site import open_door, world_of
from pttfaces.denylist import DenyList
from pttfaces.params import Params, load

SETTLED_AFTER_S = 30 * 86400  # by then nobody adds pushes to an article any more


def main() -> None:
    params = load()
    deny = DenyList.read("data/denylist.txt")
    listed = [Article(**row) for row in files.read_jsonl("data/articles.jsonl")]
    articles = [a for a in listed if not deny.denies(article=a.id, author=a.author)]
    # Young articles still change: what was read of them is good for a day.
    today = datetime.datetime.now(ids.TAIPEI).date().isoformat() if params.source == "ptt" else ""
    with files.resuming("links", [[a.url for a in articles], today, world_of(params)]) as work:
        all_read = read_all(params, articles, work)
    permitted = [reading.permitted(read, params.links.pushes, deny) for read in all_read]
    reads = [read for read, _ in permitted]
    denied = len(listed) - len(articles) + sum(taken for _, taken in permitted)
    files.write_jsonl("data/links.jsonl", (row for r in reads for row in reading.links_rows(r)))
    columns = ["article", "status", "links"]
    statuses = [(r.article.id, r.status, len(r.links.pictures)) for r in reads]
    rows = [dict(zip(columns, status, strict=True)) for status in statuses]
    files.write_csv("data/articles_read.csv", rows, columns)
    counts = reading.count(reads)
    files.write_metrics("links", {**counts, "denied": denied})
    if params.source == "inbox":
        print("links: source is inbox, so there is no article to read.")
    else:
        print(f"links: {counts['links']} pictures are linked in {len(reads)} articles.")


def read_all(params: Params, articles: list[Article], work: Path) -> list[reading.ArticleRead]:
    """Every article, from its page: read now, or kept from before."""
    lasting, passing = PageStore(files.cache_dir("pages")), PageStore(work)

    def store_of(article: Article) -> PageStore:
        age = time.time() - (ids.posted_at(article.id) or 0)
        return lasting if params.source == "ptt" and age > SETTLED_AFTER_S else passing

    with open_door(params) as door, Client(door, Manners(params.board.rate_per_s)) as client:
        return list(reading.read_articles(client, articles, store_of))


if __name__ == "__main__":
    cli.run_stage(main)
