"""Stage crawl: lists the articles of boards that pass the filters in data/articles.jsonl."""

import time
from collections import Counter
from itertools import pairwise

from pttfaces.stage import run_stage
from pttfaces import denylist, files, source, tables, workdir
from pttfaces.board.article_ids import SETTLED_AFTER_S, Span
from pttfaces.board.client import PageClient
from pttfaces.board.listing import Listing, filter_rows, list_rows
from pttfaces.board.page_cache import IndexPageCache
from pttfaces.config import Params, load
from pttfaces.errors import DataError


def main() -> None:
    params = load()
    board, deny = params.board, denylist.load_for_stage()
    spans = [Span.of_days(year, *board.dates) for year in board.years]
    listings = [] if params.source == "inbox" else list_boards(params, spans)
    articles, left_out = filter_rows(listings, source.base_url(params), board.min_nrec, deny)
    is_one_span = all(span.end == after.start for span, after in pairwise(spans))
    when = Span(spans[0].start, spans[-1].end) if is_one_span else f"{spans[0]} … {spans[-1]}"
    if params.source != "inbox" and not articles:
        why = ", ".join(f"{name} {count}" for name, count in left_out.items() if count) or "no post"
        raise DataError(
            f"no article of {', '.join(board.names)} from {when} passes the filters ({why}); "
            "choose other board.dates, board.year or board.min_nrec."
        )
    tables.write_jsonl("data/articles.jsonl", articles)
    rows_seen = sum(len(listing.rows) for listing in listings)
    kept = Counter((article.board, article.date[:4]) for article in articles)
    counts = {name: {str(y): kept[name, str(y)] for y in board.years} for name in board.names}
    figures = {"rows_seen": rows_seen, "kept": len(articles), "left_out": left_out}
    files.write_metrics("crawl", {**figures, "kept_by_year": counts if listings else {}})
    if params.source == "inbox":
        print("crawl: source is inbox, so no board is read; the images join at download.")
    else:
        print(
            f"crawl: {len(articles)} of {rows_seen} rows of {', '.join(board.names)} kept, {when}."
        )


def list_boards(params: Params, spans: list[Span]) -> list[Listing]:
    """Lists each board in each span, one after the other; settled ones come from the cache."""
    board, base_url, now = params.board, source.base_url(params), int(time.time())
    for year, span in zip(board.years, spans, strict=True):
        if span.start > now:
            raise DataError(
                f"board.year {year}: {span} is in the future; choose an earlier board.year or "
                "board.dates."
            )
    namespace, listings = source.listing_namespace(params), []
    with (
        workdir.resuming("crawl", [base_url, board.names, namespace, *map(str, spans)]) as work,
        workdir.exclusive("crawl", source.board_lock_key(params)),
        source.connect(params) as hosts,
        PageClient(hosts, board.rate_per_s) as client,
    ):
        for name in board.names:
            site = files.digest_json([base_url, name, namespace])[:16]
            cache = IndexPageCache(workdir.cache_dir("listings") / site)
            for span in spans:
                part, settled = work / name / str(span.start), now - SETTLED_AFTER_S
                rows = list_rows(client, base_url, name, span, part, cache, settled)
                listings.append(Listing(name, span, rows))
    return listings


if __name__ == "__main__":
    run_stage(main)
