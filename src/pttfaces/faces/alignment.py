"""Cutting faces out: turned upright, scaled and centred by their landmarks, through face-crop-plus.

Knows pixels and landmarks; not who found the landmarks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from face_crop_plus import Cropper
from PIL import Image

from pttfaces import files, images
from pttfaces.faces import quality
from pttfaces.faces.detection import Located, Memory
from pttfaces.faces.detectors.base import within_limits
from pttfaces.faces.parallel import ordered_map
from pttfaces.images import decode

# face-crop-plus warps with bilinear interpolation, which skips pixels when it shrinks by more.
_MOST_SHRINKING = 2.0


@dataclass(frozen=True)
class Crop:
    """One face, cut out.

    pixels: (size, size, 3) uint8 RGB; upscale: crop pixels a source pixel (above 1 where the face
    was smaller in the picture than in the crop).
    """

    pixels: np.ndarray
    upscale: float


class FaceCropper:
    """Aligns faces with face-crop-plus' own alignment, with landmarks handed over.

    size: side of a crop in pixels; face_factor: share of the side that the face fills, 0…1;
    padding: OpenCV's name of what lies beyond the picture's edge, such as "replicate"; allow_skew:
    faces may be sheared and stretched, too, so that their landmarks fit better.
    """

    def __init__(
        self, size: int, face_factor: float, padding: str, allow_skew: bool = False
    ) -> None:
        nothing = (np.empty((0, 5, 2), np.float32), np.empty(0, np.str_))
        # With landmarks given, face-crop-plus loads no network; the tables stay empty because
        # pictures and landmarks are handed to crop_align together.
        self._cropper = Cropper(
            output_size=size,
            face_factor=face_factor,
            padding=padding,
            allow_skew=allow_skew,
            landmarks=nothing,
        )

    def crop(self, image: np.ndarray, landmarks: np.ndarray) -> Crop | None:
        """The face at `landmarks`, or None where they do not fix a place (all in one point).

        image: (H, W, 3) uint8 RGB; landmarks: (5, 2) float32, in pixels of the image.
        """
        target = self._cropper.landmarks_target
        source_spread = _spread(landmarks)
        if source_spread < 1e-3:
            return None
        upscale = _spread(target) / source_spread
        image, landmarks = _shrink(image, landmarks, upscale * _MOST_SHRINKING)
        crops = self._cropper.crop_align([image], None, [0], landmarks[None].astype(np.float32))
        return Crop(crops[0], upscale) if len(crops) else None


def crop_name(image: str, number: int) -> str:
    """File name of a crop; image: "ab/<sha256>.jpg", the picture's path in data/raw."""
    return f"{Path(image).stem[:16]}-{number}.png"


def crop_all(
    faces: Iterable[tuple[str, Sequence[Located]]], folder: Path, target: Path, cropper: FaceCropper
) -> Iterator[list[dict[str, Any]]]:
    """Cuts out the faces of each picture and writes them as PNG files; yields rows
    (`measures.COLUMNS`).

    faces: picture's path in `folder`, and its faces; target: an empty folder for the crops. A face
    whose landmarks fix no place has no row. On all cores, in the order of the pictures.
    """

    def cut(entry: tuple[str, Sequence[Located]]) -> list[dict[str, Any]]:
        image, located = entry
        pixels = decode((folder / image).read_bytes())
        return [row for face in located if (row := _cut_one(pixels, image, face, target, cropper))]

    return (rows for _, rows in ordered_map(cut, faces))


def _cut_one(
    pixels: np.ndarray, image: str, face: Located, target: Path, cropper: FaceCropper
) -> dict[str, Any] | None:
    crop = cropper.crop(pixels, face.landmarks)
    if crop is None:
        return None
    name, pose = crop_name(image, face.number), quality.pose(face.landmarks)
    # Plainly: the folder is made anew after a kill, and syncing each file costs more than the rest.
    (target / name).write_bytes(images.png_bytes(Image.fromarray(crop.pixels)))
    return {
        "crop": name,
        "image": image,
        "face": face.number,
        "blur": round(quality.laplacian_variance(crop.pixels), 2),
        "face_px": round(face.face_px, 1),
        "upscale": round(crop.upscale, 3),
        "brightness": round(quality.brightness(crop.pixels), 1),
        # +0.0: no "-0.0" in the table
        "yaw": round(pose.yaw, 1) + 0.0,
        "pitch": round(pose.pitch, 1) + 0.0,
        "roll": round(pose.roll, 1) + 0.0,
        "score": face.score,
        "phash": quality.perceptual_hash(crop.pixels),
    }


def _spread(points: np.ndarray) -> float:
    """Root mean square distance of points (N, 2) from their centre."""
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _shrink(
    image: np.ndarray, landmarks: np.ndarray, factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """The picture shrunk by area, antialiased, and its landmarks; unchanged where factor ≥ 1."""
    if factor >= 1:
        return image, landmarks
    height, width = image.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    ratio = np.array([size[0] / width, size[1] / height])
    # A pixel's centre, not its corner, lies at whole coordinates.
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), (landmarks + 0.5) * ratio - 0.5


class Recropper:
    """The original's second pass: a face is sought and cut out once more, on its own crop."""

    def __init__(self, memory: Memory, cropper: FaceCropper) -> None:
        self._memory = memory
        self._cropper = cropper

    def __call__(self, path: Path) -> np.ndarray | None:
        """The largest face on the crop at `path`, (size, size, 3) uint8; None without one."""
        content = images.read_bytes(path)
        found = self._memory.search(files.digest_bytes(content), lambda: content)
        faces = within_limits(found.faces, self._memory.detector.limits)
        crop = self._cropper.crop(decode(content), faces[0].landmarks) if faces else None
        return crop.pixels if crop else None


def summary(rows: Sequence[Mapping[str, Any]], located: int) -> dict[str, Any]:
    """Counts and middles over a table's rows; located: faces that were to be cut out."""
    middle = {
        f"{column}_median": round(float(np.median([row[column] for row in rows])), 2)
        for column in ("blur", "face_px", "brightness")
        if rows
    }
    upscaled = sum(row["upscale"] > 1 for row in rows)
    return {"crops": len(rows), "not_aligned": located - len(rows), "upscaled": upscaled, **middle}
