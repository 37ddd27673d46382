"""Packs a folder of pictures into a zip, or unpacks one, or makes a data set of one's own pictures:

python src/pack.py data/dataset crops.zip             the same content gives the same bytes
python src/pack.py --unpack crops.zip data/dataset    into a folder that is new or empty
python src/pack.py --manifest data/dataset            list its pictures, by which train knows them
"""

import argparse
import sys
from pathlib import Path

from pttfaces import cli, files, manifest

DATASET = Path("data/dataset")


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
        if not has_pictures(options.target):
            if options.target.resolve() == DATASET.resolve():
                say_why_not(options.target)
        elif not (options.target / manifest.NAME).exists():
            manifest.write(options.target)  # a data set that came without its list
    else:
        count = files.pack(options.source, options.target)
    print(f"{options.target}: {count} files from {options.source}")


def has_pictures(folder: Path) -> bool:
    return any((folder / "train").glob("*.png"))


def say_why_not(folder: Path) -> None:
    """Warns that train will not take what was unpacked, and says what to do about it."""
    sets = [path for path in sorted(folder.rglob("*")) if path.is_dir() and has_pictures(path)]
    remedy = (
        f"{sets[0]} is one: put it in its place, and list it by `python src/pack.py --manifest`"
        if sets
        else f"put the pictures into {folder / 'train'} as .png, and list them by "
        f"`python src/pack.py --manifest {folder}`"
    )
    print(
        f"warning: {folder} holds no train/*.png, so it is no data set; {remedy} "
        "(docs/notebook.md).",
        file=sys.stderr,
    )


if __name__ == "__main__":
    cli.run(main)
