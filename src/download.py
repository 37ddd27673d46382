"""Stage download: data/links.jsonl and data/inbox → data/raw, data/ledger.csv, data/failed.txt."""

from pttfaces.stage import run_stage
from pttfaces import config, denylist, download, files, source


def main() -> None:
    """Fetches what is not there yet and writes what became of every link."""
    settings = config.load()
    links = files.read_jsonl("data/links.jsonl", download.LINK_FIELDS)
    deny = denylist.in_force()
    limits = download.Limits(**settings.download.model_dump())
    with source.connect(settings) as door:
        report = download.download(links, door, source.cache_namespace(settings), limits, deny)
    files.write_metrics("download", report.metrics)
    print(report.sentence)


if __name__ == "__main__":
    run_stage(main)
