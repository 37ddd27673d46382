"""Writes what other libraries need to read the data set: its README.md and a table per split.

`datasets.load_dataset("data/dataset")` then gives the splits train and validation.
"""

from collections.abc import Sequence
from pathlib import Path

from pttfaces import files, tables
from pttfaces.curation.splits import HOLDOUT, TRAIN
from pttfaces.tables import DatasetRow, ImageMetadata

METADATA = "metadata.csv"
_README = """---
pretty_name: PTT Faces
license: other
tags: [faces]
configs:
- config_name: default
  data_files:
{splits}
---
# Aligned faces

Square PNG images of aligned faces, as `datasets.load_dataset("data/dataset")` reads them. The
folder `holdout` is the split `validation`: none of its images shares an article, a source image or
a near-duplicate with the folder `train`. `manifest.csv` lists every image with its SHA-256.

`metadata.csv` of each folder has a row for each image, measured on the crop it was made from:
`sharpness` (what `blur_threshold` limits), `face_px` (shorter side of the face's box, in pixels of
the source image), `upscale` (crop pixels per source pixel), `brightness` (mean grey, 0 to 255),
`yaw`, `pitch` and `roll` of the head (degrees), `score` (the detector's, 0 to 1).

The images show people. Keep them private; the rights to them stay with those who made them and
those whom they show.
"""


def write(dataset: Path, rows: Sequence[DatasetRow]) -> None:
    """Writes README.md into the folder `dataset`, and metadata.csv into that of each split.

    Neither has an article, an author or an address. A split without images is not listed: a reader
    would stop at its empty table.
    """
    splits = []
    for folder, name in ((TRAIN, "train"), (HOLDOUT, "validation")):
        if kept := [row for row in rows if row.split == folder]:
            splits.append(f"  - split: {name}\n    path: {folder}/*")
            measured = [
                ImageMetadata(
                    row.crop, *(getattr(row, key) for key in tables.columns(ImageMetadata)[1:])
                )
                for row in kept
            ]
            tables.write(dataset / folder / METADATA, measured, ImageMetadata)
    files.write_text(dataset / "README.md", _README.format(splits="\n".join(splits)))
