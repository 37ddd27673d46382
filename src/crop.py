"""Stage crop: crops the detected faces, aligned; writes data/crops and their quality."""

from pathlib import Path

from pttfaces.stage import run_stage
from pttfaces import config, files, tables
from pttfaces.errors import DataError
from pttfaces.faces import alignment, detection
from pttfaces.faces.parallel import connect_engine
from pttfaces.progress import progress


def main() -> None:
    options = config.load().crop
    faces = detection.faces_by_image(tables.read("data/detections.csv", tables.Detection))
    if not faces:
        raise DataError(
            "data/detections.csv has no face; run `dvc repro detect`, which says what to change."
        )
    cropper, target = alignment.FaceCropper(options), files.clean_folder("data/crops")
    rows: list[tables.CropRow] = []
    with connect_engine() as engine, progress("crop", len(faces), " images") as bar:
        for cropped in alignment.crop_all(faces, Path("data/raw"), target, cropper, engine):
            rows += cropped
            bar.update()
    tables.write("data/crops.csv", rows, tables.CropRow)
    figures = alignment.crop_metrics(rows)
    files.write_metrics("crop", figures)
    print(
        f"crop: {figures['crops']} crops of {options.size}×{options.size} from {len(faces)} images"
    )


if __name__ == "__main__":
    run_stage(main)
