"""Stage download: gets the images of links and data/inbox; writes data/raw and data/ledger.csv."""

import sys

from pttfaces.stage import run_stage
from pttfaces import config, denylist, files, source, tables
from pttfaces.download import download


def main() -> None:
    params = config.load()
    links = tables.read_jsonl("data/links.jsonl", tables.Link)
    deny = denylist.load_for_stage()
    namespace = source.cache_namespace(params)
    with source.connect(params) as hosts:
        summary = download(links, hosts, namespace, params.download, deny)
    files.write_metrics("download", summary.metrics)
    for warning in summary.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(summary.sentence)


if __name__ == "__main__":
    run_stage(main)
