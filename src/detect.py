"""Stage detect: finds the faces in data/raw, each picture once; writes the table of them."""

from pathlib import Path

from pttfaces.stage import run_stage
from pttfaces import config, files, tables, workdir
from pttfaces.errors import DataError
from pttfaces.faces import detection
from pttfaces.faces.detectors import make_detector
from pttfaces.progress import progress


def main() -> None:
    options = config.load().detect
    ledger = tables.read_csv("data/ledger.csv", names=("path", "sha256"))
    known = ledger[ledger["path"] != ""].drop_duplicates("path").sort_values("path")
    pictures = [detection.Picture(row.path, row.sha256) for row in known.itertuples()]
    limits = (options.threshold, options.min_size, options.max_side, options.batch_size)
    detector = make_detector(options.detector, options.weights, *limits)
    memory = detection.Memory(workdir.cache_dir("detections"), detector)
    rows = []
    with progress("detect", len(pictures), " pictures") as bar:
        for picture, found in detection.search_all(pictures, Path("data/raw"), memory):
            rows += detection.rows_of(picture, found, detector, options.faces)
            bar.update()
    tables.write_dicts("data/detections.csv", rows, detection.COLUMNS)
    counts = detection.summary(rows)
    files.write_metrics("detect", {"detector": detector.name, **counts})
    if not counts["faces"]:
        raise DataError(
            f"{detector.name} found no face in any of the {len(pictures)} pictures in data/raw "
            f"({counts['unreadable']} are unreadable); try another detect.detector, a smaller "
            "detect.min_size or a lower detect.threshold, or put photographs into data/inbox/."
        )
    print(
        f"detect: {counts['faces']} faces in {counts['with_face']} of {len(pictures)} pictures "
        f"({detector.name}; {counts['unreadable']} unreadable)"
    )


if __name__ == "__main__":
    run_stage(main)
