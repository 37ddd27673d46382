"""Stage download: data/links.jsonl and data/inbox → data/raw, data/ledger.csv, data/failed.txt."""

from functools import partial

from pttfaces import cli, denylist, elsewhere, files, images, params
from pttfaces.demo.site import open_door, world_of


def main() -> None:
    """Fetches what is not there yet and writes what became of every link."""
    settings = params.load()
    links = files.read_jsonl("data/links.jsonl", images.LINK_FIELDS)
    deny = denylist.in_force()
    limits = images.Limits(**settings.download.model_dump())
    copies = partial(elsewhere.copies, "data/raw")
    with open_door(settings) as door:
        report = images.download(links, door, world_of(settings), limits, deny, copies=copies)
    files.write_metrics("download", report.metrics)
    print(report.sentence)


if __name__ == "__main__":
    cli.run_stage(main)
