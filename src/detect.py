"""Stage detect: finds the faces in data/raw, each image once; writes data/detections.csv."""

import sys
from pathlib import Path

from pttfaces.stage import run_stage
from pttfaces import config, files, tables, workdir
from pttfaces.errors import DataError
from pttfaces.faces import detection
from pttfaces.faces.detectors import make_detector
from pttfaces.faces.parallel import connect_engine
from pttfaces.progress import progress


def main() -> None:
    params = config.load()
    detector = make_detector(params.detect)
    images = detection.downloaded_images(tables.read("data/ledger.csv", tables.LedgerRow))
    cache = detection.DetectionCache(workdir.cache_dir("detections"), detector)
    rows: list[tables.Detection] = []
    with connect_engine() as engine, progress("detect", len(images), " images") as bar:
        for image, found in detection.search_all(images, Path("data/raw"), cache, engine):
            rows += detection.table_rows(image.path, found, detector)
            bar.update()
    tables.write("data/detections.csv", rows, tables.Detection)
    figures = detection.detection_metrics(rows)
    files.write_metrics("detect", {"detector": detector.name, **figures})
    if not figures["faces"]:
        raise DataError(
            f"{detector.name} found no face in any of the {len(images)} images in data/raw "
            f"({figures['unreadable']} are unreadable); try another detect.detector, a smaller "
            "detect.min_size or a lower detect.threshold, or put photographs into data/inbox/."
        )
    print(
        f"detect: {figures['faces']} faces in {figures['with_face']} of {len(images)} images "
        f"({detector.name}; {figures['unreadable']} unreadable)"
    )
    is_photographs = params.source != "demo" or any(image.place == "inbox" for image in images)
    if detector.name == "haar" and is_photographs:
        print(
            "detect: on photographs haar misses about one face in five; set detect.detector to "
            "yunet, as `pttfaces preset photos` does.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run_stage(main)
