"""Stage crop: cuts the detected faces out, aligned; writes data/crops and their measures."""

from pathlib import Path

from pttfaces.stage import run_stage
from pttfaces import config, files, tables
from pttfaces.errors import DataError
from pttfaces.faces import alignment, detection, quality
from pttfaces.progress import progress


def main() -> None:
    options = config.load().crop
    table = tables.read_csv("data/detections.csv", detection.COLUMNS, detection.NUMBERS)
    faces = detection.located_faces(table)
    if not faces:
        raise DataError("data/detections.csv holds no face; see `dvc repro detect`.")
    cropper = alignment.FaceCropper(**options.model_dump())
    target = files.clean_folder("data/crops")
    rows = []
    with progress("crop", len(faces), " pictures") as bar:
        for cut in alignment.crop_all(faces, Path("data/raw"), target, cropper):
            rows += cut
            bar.update()
    tables.write_dicts("data/crops.csv", rows, quality.COLUMNS)
    histogram = quality.blur_histogram(row["blur"] for row in rows)
    bins = [{"variance": edge, "crops": count} for edge, count in histogram]
    tables.write_dicts("metrics/plots/blur.csv", bins, ["variance", "crops"])
    located = sum(len(faces_of_picture) for _, faces_of_picture in faces)
    files.write_metrics("crop", alignment.summary(rows, located))
    print(f"crop: {len(rows)} crops of {options.size}×{options.size} from {len(faces)} pictures")


if __name__ == "__main__":
    run_stage(main)
