"""Packs a folder of pictures into a zip, or unpacks one, or makes a data set of one's own pictures:

python src/pack.py data/dataset crops.zip             the same content gives the same bytes
python src/pack.py --unpack crops.zip data/dataset    into a folder that is new or empty
python src/pack.py --manifest data/dataset            list its pictures, by which train knows them
"""

import argparse
from pathlib import Path

from pttfaces import cli, files, manifest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="the folder, or with --unpack the zip")
    parser.add_argument("target", type=Path, nargs="?", help="the zip, or with --unpack the folder")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--unpack", action="store_true", help="from a zip to a folder")
    what.add_argument("--manifest", action="store_true", help="write the list of its pictures")
    options = parser.parse_args()
    if bool(options.target) == options.manifest:
        parser.error("--manifest takes a folder, all else two names")

    if options.manifest:
        print(f"{options.source / manifest.NAME}: {manifest.write(options.source)} pictures")
        return
    if options.unpack:
        count = files.unpack(options.source, options.target)
        listed = (options.target / manifest.NAME).exists()
        if not listed and any((options.target / "train").glob("*.png")):
            manifest.write(options.target)  # a data set that came without its list
    else:
        count = files.pack(options.source, options.target)
    print(f"{options.target}: {count} files from {options.source}")


if __name__ == "__main__":
    cli.run(main)
