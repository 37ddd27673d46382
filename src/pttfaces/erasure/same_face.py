"""Finds the crops that may show the person of a photograph, for a person to look at."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pttfaces import config, images, workdir
from pttfaces.curation import identity
from pttfaces.denylist import CROP
from pttfaces.errors import DataError
from pttfaces.faces.parallel import ordered_map
from pttfaces.progress import progress

# OpenCV's figure for SFace, chosen on pairs of photographs (LFW): lower than curate.same_person,
# since a person looks at what is found.
MIN_COSINE = 0.363


def find_same_face(file: Path, params: config.Params, crops: Path) -> dict[str, float]:
    """Names of the crops that resemble the largest face of `file` → cosine, most similar first.

    file: an image, or a crop of `crops`, the folder of crops. DataError: no face, or no crops.
    """
    recognizer = identity.make_recognizer(params)
    own = recognizer.features(_crop(file, params, crops))
    paths = sorted(crops.glob("*.png"))
    if not paths:
        raise DataError(f"{crops} has no crops; run `dvc repro crop` first.")
    found = {}
    with progress("compare faces", len(paths), " crops") as bar:
        for path, features in ordered_map(recognizer.file_features, paths):
            if (cosine := float(features @ own)) >= MIN_COSINE:
                found[path.name] = cosine
            bar.update()
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _crop(file: Path, params: config.Params, crops: Path) -> np.ndarray:
    """The file's largest face, aligned, (S, S, 3) uint8 RGB."""
    if CROP.fullmatch(file.name):
        return images.read_rgb([crops / file.name])[0]
    from pttfaces.faces import alignment, detection  # takes seconds: torch
    from pttfaces.faces.detectors import make_detector

    cache = detection.DetectionCache(workdir.cache_dir("detections"), make_detector(params.detect))
    found = alignment.crop_again(file, cache, alignment.FaceCropper(params.crop))
    if found is None:
        raise DataError(
            f"{file} has no face that {params.detect.detector} finds; name another photograph, or "
            "a crop of data/crops."
        )
    return found


def describe(found: Mapping[str, float], rows: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Lines about the crops that were found; rows: of the tables, by crop."""
    if not found:
        yield "no crop resembles this face"
        return
    yield "these crops may show the same person; look at each, and to forget one, add --crop NAME"
    for name, cosine in found.items():
        row = rows.get(name, {})
        place = f"  in data/dataset/{row['split']}" if row.get("split") else ""
        yield f"  {cosine:.2f}  {name}{place}"
