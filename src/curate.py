"""Stage curate: chooses among the crops, splits them by article, writes the data set."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pttfaces import cli, denylist, files, manifest, params, pictures
from pttfaces.faces import curation, dataset, detection, measures
from pttfaces.faces.detectors import make_detector
from pttfaces.progress import progress

if TYPE_CHECKING:
    import numpy as np

CROPS, DATASET = Path("data/crops"), Path("data/dataset")
TRAIN, HOLDOUT = DATASET / "train", DATASET / "holdout"


def main() -> None:
    options = params.load()
    threshold = options.blur_threshold
    crops = curation.candidates(
        files.read_csv("data/crops.csv", columns=measures.COLUMNS),
        files.read_csv("data/ledger.csv", columns=curation.LEDGER_COLUMNS),
        files.read_jsonl("data/articles.jsonl", ["id", "author"]),
    )
    limits = options.curate.model_dump(exclude={"holdout", "recrop"})
    denies = denylist.in_force().denies
    crops = curation.judge(crops, curation.Limits(threshold, **limits), denies)
    names = [crop.crop for crop in crops if not crop.reason]
    files.clean_folder(DATASET)
    for folder in (TRAIN, HOLDOUT):
        folder.mkdir()
    with progress("curate", len(names), " crops") as bar:
        for name, made in dataset.make_all(names, CROPS, TRAIN, picture_maker(options)):
            crops = crops if made else curation.give_up(crops, name)
            bar.update()
    sides = curation.split(crops, options.curate.holdout)
    for name in (name for name, side in sides.items() if side == "holdout"):
        (TRAIN / name).replace(HOLDOUT / name)
    files.write_csv("data/dataset.csv", curation.rows_of(crops, sides), curation.COLUMNS)
    counts = curation.summary(crops, sides)
    files.write_metrics("curate", counts)
    sheet = dataset.contact_sheet(curation.sheet_sections(crops, sides, threshold), CROPS)
    pictures.save_png("metrics/pictures/contact_sheet.png", sheet)
    chart = dataset.blur_chart(curation.variances(crops), threshold)
    files.write_bytes("metrics/plots/blur.png", chart)
    curation.check_enough(counts)
    manifest.write(DATASET)
    print(f"curate: {curation.sentence(counts)}")


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
