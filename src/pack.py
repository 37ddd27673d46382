"""Packs a folder of pictures into a zip, or unpacks one:

python src/pack.py data/dataset crops.zip             the same content gives the same bytes
python src/pack.py --unpack crops.zip data/dataset    into a folder that is new or empty
"""

import argparse
from pathlib import Path

from pttfaces import cli, files


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="the folder, or with --unpack the zip")
    parser.add_argument("target", type=Path, help="the zip, or with --unpack the folder")
    parser.add_argument("--unpack", action="store_true", help="from a zip to a folder")
    options = parser.parse_args()

    if options.unpack:
        count = files.unpack(options.source, options.target)
    else:
        count = files.pack(options.source, options.target)
    print(f"{options.target}: {count} files from {options.source}")


if __name__ == "__main__":
    cli.run(main)
