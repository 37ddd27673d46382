"""The distance between two sets of pictures, or the statistics of one, by evaluate's features.

python src/distance.py data/generated data/dataset/train    FID, with evaluate.features: inception
python src/distance.py data/generated train.npz             against statistics
python src/distance.py --save train.npz data/dataset/train  statistics, as pytorch-fid reads them
"""

import argparse
from pathlib import Path

from pttfaces import cli, files, params

ABSENT = "name a folder with pictures in it, or a .npz of statistics"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path, help="a folder of pictures, or a .npz")
    parser.add_argument("second", type=Path, nargs="?", help="what the first is compared with")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the first's statistics")
    named = parser.parse_args()
    if (named.second is None) == (named.save is None):
        parser.error("name a second set of pictures, or --save with a file")
    if named.save and named.save.suffix != ".npz":
        parser.error(f"--save {named.save}: statistics are known by .npz at the end of their name")
    options = params.load().evaluate
    from pttfaces.scores import comparison, features, folder

    extractor = features.make_extractor(
        options.features,
        options.dims,
        options.weights,
        options.weights_sha256,
        options.batch_size,
        files.cache_dir("statistics"),
    )
    first, second = (
        path if path is None or path.suffix == ".npz" else folder.open_folder(path, ABSENT)
        for path in (named.first, named.second)
    )
    if named.save:
        extractor.write_statistics(named.save, comparison.statistics(extractor, first))
        print(f"{named.save}: {options.dims} dimensions of {named.first}, {options.features}")
        if files.named(options.reference) == named.save:
            print("evaluate scores against it: run `dvc repro --force --single-item evaluate`")
    else:
        distance = comparison.distance(extractor, first, second)
        print(f"{extractor.distance_name}: {distance:.8g}")


if __name__ == "__main__":
    cli.run(main)
