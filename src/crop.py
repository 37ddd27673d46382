"""Stage crop: cuts the detected faces out, aligned; writes data/crops and their measures."""

from pathlib import Path

from pttfaces import cli, files, params
from pttfaces.errors import DataError
from pttfaces.faces import cropping, detection, measures
from pttfaces.progress import progress


def main() -> None:
    options = params.load().crop
    table = files.read_csv("data/detections.csv", detection.NUMBERS, detection.COLUMNS)
    faces = detection.located_faces(table)
    if not faces:
        raise DataError("data/detections.csv holds no face; see `dvc repro detect`.")
    cropper = cropping.FaceCropper(**options.model_dump())
    target = files.clean_folder("data/crops")
    rows = []
    with progress("crop", len(faces), " pictures") as bar:
        for cut in cropping.crop_all(faces, Path("data/raw"), target, cropper):
            rows += cut
            bar.update()
    files.write_csv("data/crops.csv", rows, measures.COLUMNS)
    histogram = measures.blur_histogram(row["blur"] for row in rows)
    bins = [{"variance": edge, "crops": count} for edge, count in histogram]
    files.write_csv("metrics/plots/blur.csv", bins, ["variance", "crops"])
    located = sum(len(faces_of_picture) for _, faces_of_picture in faces)
    files.write_metrics("crop", cropping.summary(rows, located))
    print(f"crop: {len(rows)} crops of {options.size}×{options.size} from {len(faces)} pictures")


if __name__ == "__main__":
    cli.run_stage(main)
