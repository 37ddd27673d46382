"""Finds the crops that may show the person of a photograph, for a person to look at."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pttfaces import config, images
from pttfaces.curation import identity
from pttfaces.denylist import CROP
from pttfaces.errors import DataError

# OpenCV's figure for SFace, chosen on pairs of photographs (LFW): lower than curate.same_person,
# since a person looks at what is found.
MIN_COSINE = 0.363


def find_same_face(file: Path, params: config.Params, crops: Path) -> dict[str, float]:
    """Names of the crops that resemble the largest face of `file` → cosine, most similar first.

    file: an image, or a crop of `crops`, the folder of crops. DataError: no face, or no crops.
    """
    aligned, paths = _crop(file, params, crops), sorted(crops.glob("*.png"))
    if not paths:
        raise DataError(f"{crops} has no crops; run `dvc repro crop` first.")
    recognizer = identity.make_recognizer(params)
    cosines = (recognizer.files_features(paths) @ recognizer.features(aligned)).tolist()
    found = {path.name: c for path, c in zip(paths, cosines, strict=True) if c >= MIN_COSINE}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _crop(file: Path, params: config.Params, crops: Path) -> np.ndarray:
    """The file's largest face, aligned, (S, S, 3) uint8 RGB. Nothing of it is cached."""
    if CROP.fullmatch(file.name):
        return images.read_rgb([crops / file.name])[0]
    from pttfaces.faces.alignment import FaceCropper  # takes seconds: torch
    from pttfaces.faces.detection import select_faces
    from pttfaces.faces.detectors import make_detector

    instead = "name another photograph, or a crop of data/crops."
    try:
        pixels = images.decode(file.read_bytes())
    except (OSError, images.UnreadableError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{file} cannot be read ({reason}); {instead}") from None
    for _, face in select_faces(make_detector(params.detect).detect(pixels), "largest"):
        if aligned := FaceCropper(params.crop).crop(pixels, face.landmarks):
            return aligned.pixels
    raise DataError(f"{file} has no face that {params.detect.detector} finds; {instead}")


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
