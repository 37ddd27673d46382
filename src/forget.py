"""Takes pictures of people out of all that is kept, or tells where a crop came from:

python src/forget.py --article M.1704074641.A.0F3       also --url, --author, --sha256, --crop FILE
python src/forget.py --author someone --dry-run         says what would go, and changes nothing
python src/forget.py --author someone --purge           deletes the bytes that are kept, too
python src/forget.py --purge                            those of all that the deny list names
python src/forget.py --trace data/dataset/train/x.png   from a crop or picture to its article

What is named goes on the deny list (data/denylist.txt), with the digests of its pictures; after
`dvc repro` it is in no data set and no model that is trained from then on.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from pttfaces import cli, denylist, files, params
from pttfaces.denylist import DENIED, DenyList
from pttfaces.forgetting import names, report, storage, words
from pttfaces.text import printable

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names.add_arguments(parser)
    parser.add_argument("--trace", metavar="FILE", help="say where a crop or picture is from")
    parser.add_argument("--dry-run", action="store_true", help="say what would go, no more")
    parser.add_argument("--purge", action="store_true", help="delete the bytes that are kept, too")
    options = parser.parse_args()
    wanted = names.wanted(options)
    if not (wanted or options.purge or options.trace):
        parser.error("name what to forget, or --purge, or --trace")
    with storage.opened(ROOT) as kept:
        if options.trace:
            say(words.trace(report.read_lineage(ROOT, kept), names.traced(options.trace)))
            return
        everybody = [*DenyList.read(DENIED).lines(), *denylist.forgotten().lines()]
        given = DenyList.of(wanted or everybody)
        found = report.Findings(ROOT, kept, given, params.load().curate.duplicate_bits)
        added = None
        if not options.dry_run:  # first: who reads no further than a screen has them denied, too
            added = DenyList.add(DENIED, found.entries())
            DenyList.add(files.root() / denylist.FORGOTTEN, found.entries())
        say(words.what_goes(found))
        say(words.what_was_trained(found))
        say(words.what_is_kept(found))
        if added is None:
            say(["this was a dry run: nothing is changed"])
            return
        say([f"{DENIED}: {added} entries added"])
        say(report.purge(found) if options.purge else words.THEN_PURGE)
        say([words.REPRO])


def say(lines: Iterable[str]) -> None:
    for line in lines:
        print(printable(line))  # titles are strangers' text


if __name__ == "__main__":
    cli.run(main)
