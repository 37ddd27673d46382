"""Stage crawl: the articles of a year on a board that pass the filters → data/articles.jsonl."""

import time
from dataclasses import asdict

from pttfaces.stage import run_stage
from pttfaces import denylist, files, source, workdir
from pttfaces.board import article_ids, listing
from pttfaces.board.client import Client, Manners
from pttfaces.board.page_cache import Shelf
from pttfaces.config import Params, load
from pttfaces.errors import DataError


def main() -> None:
    params = load()
    deny = denylist.in_force()
    board, base = params.board, source.base_url(params)
    span = article_ids.Span.of_days(board.year, *board.dates)
    rows = [] if params.source == "inbox" else rows_of(params, base, span)
    articles, left_out = listing.choose(rows, base, span, board.min_nrec, deny)
    if params.source != "inbox" and not articles:
        why = ", ".join(f"{name} {count}" for name, count in left_out.items() if count) or "no post"
        raise DataError(
            f"no article of {board.name} from {span} passes the filters ({why}); "
            "choose other board.dates, board.year or board.min_nrec."
        )
    files.write_jsonl("data/articles.jsonl", (asdict(article) for article in articles))
    counts = {"rows_seen": len(rows), "kept": len(articles), "left_out": left_out}
    files.write_metrics("crawl", counts)
    if params.source == "inbox":
        print("crawl: source is inbox, so no board is read; data/inbox/ joins at download.")
    else:
        print(f"crawl: {len(articles)} of {len(rows)} rows of {board.name} kept, {span}.")


def rows_of(params: Params, base: str, span: article_ids.Span) -> list[listing.Row]:
    board, now = params.board, int(time.time())
    if span.start > now:
        raise DataError(f"board.year {board.year}: {span} has not begun; choose a day that has.")
    site = [base, board.name, source.cache_namespace(params)]
    shelf = Shelf(workdir.cache_dir("listings") / files.digest_json(site)[:16])
    with (
        workdir.resuming("crawl", [*site, str(span)]) as work,
        workdir.exclusive("crawl", source.lock_key(params)),
        source.connect(params) as door,
        Client(door, Manners(board.rate_per_s)) as client,
    ):
        settled = now - article_ids.SETTLED_AFTER_S
        return listing.list_rows(client, base, board.name, span, work, shelf, settled)


if __name__ == "__main__":
    run_stage(main)
