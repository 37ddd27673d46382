"""Stage curate: chooses among the crops, splits them by article, writes the data set."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pttfaces import cli, denylist, files, manifest, params, pictures
from pttfaces.faces import curation, dataset, detection, measures
from pttfaces.faces.detectors import make_detector

if TYPE_CHECKING:
    import numpy as np

CROPS, DATASET = Path("data/crops"), Path("data/dataset")
TRAIN, HOLDOUT = DATASET / "train", DATASET / "holdout"


def main() -> None:
    options = params.load()
    threshold = options.blur_threshold
    found = curation.candidates(
        files.read_csv("data/crops.csv", columns=measures.COLUMNS),
        files.read_csv("data/ledger.csv", columns=curation.LEDGER_COLUMNS),
        files.read_jsonl("data/articles.jsonl", ["id", "author"]),
    )
    limits = options.curate.model_dump(exclude={"holdout", "recrop"})
    choose = partial(
        curation.judge, found, curation.Limits(threshold, **limits), denylist.in_force().denies
    )
    files.clean_folder(DATASET)
    for folder in (TRAIN, HOLDOUT):
        folder.mkdir()
    crops = dataset.make_chosen(choose, CROPS, TRAIN, picture_maker(options))
    of_series = curation.series(crops, options.curate.duplicate_bits)
    sides = curation.split(crops, of_series, options.curate.holdout)
    for name in (name for name, side in sides.items() if side == "holdout"):
        (TRAIN / name).replace(HOLDOUT / name)
    files.write_csv("data/dataset.csv", curation.rows_of(crops, sides), curation.COLUMNS)
    counts = curation.summary(crops, sides, of_series)
    files.write_metrics("curate", counts)
    sheet = dataset.contact_sheet(curation.sheet_sections(crops, sides, threshold), CROPS)
    pictures.save_png("metrics/pictures/contact_sheet.png", sheet)
    chart = dataset.blur_chart(curation.variances(crops), threshold)
    files.write_bytes("metrics/plots/blur.png", chart)
    curation.check_enough(counts)
    manifest.write(DATASET)
    print(f"curate: {curation.sentence(counts)}")
    if hint := curation.one_series(counts, options.curate.holdout):
        print(hint, file=sys.stderr)


def picture_maker(options: params.Params) -> "Callable[[Path], np.ndarray | None]":
    """What makes a picture of the data set from a crop's file."""
    if not options.curate.recrop:
        return dataset.Downscaler(options.image_size)
    from pttfaces.faces.cropping import FaceCropper, Recropper  # takes seconds: torch

    search, shape = options.detect, options.crop
    limits = (search.threshold, search.min_size, search.max_side)
    detector = make_detector(search.detector, search.weights, *limits)
    memory = detection.Memory(files.cache_dir("detections"), detector)
    return Recropper(memory, FaceCropper(**shape.model_dump() | {"size": options.image_size}))


if __name__ == "__main__":
    cli.run_stage(main)
