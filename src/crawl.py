"""Stage crawl: lists a board's articles that pass the filters in data/articles.jsonl."""

import time

from pttfaces.stage import run_stage
from pttfaces import denylist, files, source, tables, workdir
from pttfaces.board.article_ids import SETTLED_AFTER_S, Span
from pttfaces.board.client import PageClient
from pttfaces.board.index_page import IndexRow
from pttfaces.board.listing import filter_rows, list_rows
from pttfaces.board.page_cache import IndexPageCache
from pttfaces.config import Params, load
from pttfaces.errors import DataError


def main() -> None:
    params = load()
    deny = denylist.load_for_stage()
    board, base_url = params.board, source.base_url(params)
    span = Span.of_days(board.year, *board.dates)
    rows = [] if params.source == "inbox" else read_rows(params, base_url, span)
    articles, left_out = filter_rows(rows, base_url, span, board.min_nrec, deny)
    if params.source != "inbox" and not articles:
        why = ", ".join(f"{name} {count}" for name, count in left_out.items() if count) or "no post"
        raise DataError(
            f"no article of {board.name} from {span} passes the filters ({why}); "
            "choose other board.dates, board.year or board.min_nrec."
        )
    tables.write_jsonl("data/articles.jsonl", articles)
    counts = {"rows_seen": len(rows), "kept": len(articles), "left_out": left_out}
    files.write_metrics("crawl", counts)
    if params.source == "inbox":
        print("crawl: source is inbox, so no board is read; the images join at download.")
    else:
        print(f"crawl: {len(articles)} of {len(rows)} rows of {board.name} kept, {span}.")


def read_rows(params: Params, base_url: str, span: Span) -> list[IndexRow]:
    board, now = params.board, int(time.time())
    if span.start > now:
        raise DataError(
            f"board.year {board.year}: {span} is in the future; choose an earlier board.year or "
            "board.dates."
        )
    site = [base_url, board.name, source.cache_namespace(params)]
    cache = IndexPageCache(workdir.cache_dir("listings") / files.digest_json(site)[:16])
    with (
        workdir.resuming("crawl", [*site, str(span)]) as work,
        workdir.exclusive("crawl", source.board_lock_key(params)),
        source.connect(params) as hosts,
        PageClient(hosts, board.rate_per_s) as client,
    ):
        settled = now - SETTLED_AFTER_S
        return list_rows(client, base_url, board.name, span, work, cache, settled)


if __name__ == "__main__":
    run_stage(main)
