"""Stage curate: chooses among the crops, splits them by article, writes the data set."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pttfaces.stage import run_stage
from pttfaces import config, denylist, files, images, manifest, tables, workdir
from pttfaces.curation import export, filters
from pttfaces.faces import detection, quality
from pttfaces.faces.detectors import make_detector

if TYPE_CHECKING:
    import numpy as np

CROPS, DATASET = Path("data/crops"), Path("data/dataset")
TRAIN, HOLDOUT = DATASET / "train", DATASET / "holdout"


def main() -> None:
    options = config.load()
    threshold = options.blur_threshold
    found = filters.candidates(
        tables.read_csv("data/crops.csv", names=quality.COLUMNS),
        tables.read_csv("data/ledger.csv", names=filters.LEDGER_COLUMNS),
        files.read_jsonl("data/articles.jsonl", ["id", "author"]),
    )
    limits = options.curate.model_dump(exclude={"holdout", "recrop"})
    choose = partial(
        filters.judge, found, filters.Limits(threshold, **limits), denylist.in_force().denies
    )
    files.clean_folder(DATASET)
    for folder in (TRAIN, HOLDOUT):
        folder.mkdir()
    crops = export.make_chosen(choose, CROPS, TRAIN, picture_maker(options))
    of_series = filters.series(crops, options.curate.duplicate_bits)
    sides = filters.split(crops, of_series, options.curate.holdout)
    for name in (name for name, side in sides.items() if side == "holdout"):
        (TRAIN / name).replace(HOLDOUT / name)
    tables.write_dicts("data/dataset.csv", filters.rows_of(crops, sides), filters.COLUMNS)
    counts = filters.summary(crops, sides, of_series)
    files.write_metrics("curate", counts)
    sheet = export.contact_sheet(filters.sheet_sections(crops, sides, threshold), CROPS)
    images.save_png("metrics/pictures/contact_sheet.png", sheet)
    chart = export.blur_chart(filters.variances(crops), threshold)
    files.write_bytes("metrics/plots/blur.png", chart)
    filters.check_enough(counts)
    manifest.write(DATASET)
    print(f"curate: {filters.sentence(counts)}")
    if hint := filters.one_series(counts, options.curate.holdout):
        print(hint, file=sys.stderr)


def picture_maker(options: config.Params) -> "Callable[[Path], np.ndarray | None]":
    """What makes a picture of the data set from a crop's file."""
    if not options.curate.recrop:
        return export.Downscaler(options.image_size)
    from pttfaces.faces.alignment import FaceCropper, Recropper  # takes seconds: torch

    search, shape = options.detect, options.crop
    limits = (search.threshold, search.min_size, search.max_side)
    detector = make_detector(search.detector, search.weights, *limits)
    memory = detection.Memory(workdir.cache_dir("detections"), detector)
    return Recropper(memory, FaceCropper(**shape.model_dump() | {"size": options.image_size}))


if __name__ == "__main__":
    run_stage(main)
