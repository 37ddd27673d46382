"""Stage curate: filters the crops, splits them by article, writes the data set."""

import sys
from functools import partial
from pathlib import Path

from pttfaces.stage import run_stage
from pttfaces import config, denylist, files, images, manifest, tables, workdir
from pttfaces.curation import (
    candidates,
    dataset_card,
    duplicates,
    filters,
    identity,
    image_export,
    plots,
    splits,
    summary,
)

CROPS, DATASET = Path("data/crops"), Path("data/dataset")
TRAIN, HOLDOUT = DATASET / splits.TRAIN, DATASET / splits.HOLDOUT


def main() -> None:
    params = config.load()
    options = params.curate
    crops = candidates.make_candidates(
        tables.read("data/crops.csv", tables.CropRow),
        tables.read("data/ledger.csv", tables.LedgerRow),
        tables.read_jsonl("data/articles.jsonl", tables.Article),
        denylist.load_for_stage(),
    )
    files.clean_folder(DATASET)
    for folder in (TRAIN, HOLDOUT):
        folder.mkdir()
    same_person = identity.pairs_of_people(crops, CROPS, params)
    copies = duplicates.find_copies([each.crop.phash for each in crops], options.duplicate_bits)
    crops = image_export.make_images(crops, CROPS, TRAIN, make_image(params), params)
    rows = filters.filter_crops(crops, params, copies, same_person)
    groups = splits.group_crops(crops, copies, same_person)
    rows = splits.split_rows(rows, groups, options.holdout)
    for row in rows:
        if row.split == splits.HOLDOUT:
            (TRAIN / row.crop).replace(HOLDOUT / row.crop)
        elif row.reason:
            (TRAIN / row.crop).unlink(missing_ok=True)
    tables.write("data/dataset.csv", rows, tables.DatasetRow)
    counts = summary.curation_metrics(rows, groups)
    files.write_metrics("curate", counts)
    images.save_png("metrics/pictures/contact_sheet.png", plots.contact_sheet(rows, CROPS, params))
    images.save_png("metrics/pictures/sharpness.png", plots.sharpness_sheet(rows, CROPS, params))
    files.write_bytes("metrics/plots/blur.png", plots.sharpness_chart(rows, params))
    tables.write("metrics/plots/blur.csv", plots.sharpness_bins(rows), tables.SharpnessBin)
    summary.check_enough(counts)
    manifest.write_manifest(DATASET)
    dataset_card.write(DATASET, rows)
    print(f"curate: {summary.describe_curation(counts)}")
    if hint := summary.explain_empty_holdout(counts, options.holdout):
        print(hint, file=sys.stderr)


def make_image(params: config.Params) -> image_export.MakeImage:
    """The function that makes an image of the data set from a crop's file."""
    if not params.curate.recrop:
        return partial(image_export.downscale_file, side=params.image_size)
    from pttfaces.faces import alignment, detection  # takes seconds: torch
    from pttfaces.faces.detectors import make_detector

    detect, crop = params.recrop_options()
    cache = detection.DetectionCache(workdir.cache_dir("detections"), make_detector(detect))
    return partial(alignment.crop_again, cache=cache, cropper=alignment.FaceCropper(crop))


if __name__ == "__main__":
    run_stage(main)
