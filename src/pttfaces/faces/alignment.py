"""Aligns faces by their landmarks with face-crop-plus, and crops and measures them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from face_crop_plus import Cropper
from PIL import Image

from pttfaces import config, files, images
from pttfaces.faces import quality
from pttfaces.faces.detection import DetectionCache, face_px, landmarks
from pttfaces.faces.parallel import ordered_map
from pttfaces.tables import CropRow, Detection

# face-crop-plus warps with bilinear interpolation, which skips pixels when it shrinks by more.
_MAX_SHRINKING = 2.0


@dataclass(frozen=True)
class AlignedFace:
    """A cropped face.

    pixels: (size, size, 3) uint8 RGB; upscale: crop pixels per image pixel (above 1 where the face
    is smaller in the image than in the crop).
    """

    pixels: np.ndarray
    upscale: float


class FaceCropper:
    """Aligns faces with face-crop-plus' own alignment, by landmarks that are already known."""

    def __init__(self, options: config.Crop) -> None:
        # With landmarks given, face-crop-plus loads no network; the tables stay empty because
        # images and landmarks are passed to crop_align together.
        no_landmarks = (np.empty((0, 5, 2), np.float32), np.empty(0, np.str_))
        self._cropper = Cropper(
            output_size=options.size,
            face_factor=options.face_factor,
            padding=options.padding,
            allow_skew=options.allow_skew,
            landmarks=no_landmarks,
        )

    def crop(self, image: np.ndarray, points: np.ndarray) -> AlignedFace | None:
        """The face with these landmarks; None where they cannot be aligned (all in one point).

        image: (H, W, 3) uint8 RGB; points: (5, 2) float32, in pixels of the image.
        """
        target = self._cropper.landmarks_target
        spread = _spread(points)
        if spread < 1e-3:
            return None
        upscale = _spread(target) / spread
        image, points = _shrink(image, points, upscale * _MAX_SHRINKING)
        crops = self._cropper.crop_align([image], None, [0], points[None].astype(np.float32))
        return AlignedFace(crops[0], upscale) if len(crops) else None


def crop_name(image: str, number: int) -> str:
    """File name of a crop; image: "ab/<sha256>.jpg", its path below data/raw."""
    return f"{Path(image).stem[:16]}-{number}.png"


def crop_all(
    faces: Iterable[Sequence[Detection]], folder: Path, target: Path, cropper: FaceCropper
) -> Iterator[list[CropRow]]:
    """Crops the faces of each image below `folder` to PNG files; yields their rows.

    faces: those of one image together; target: an empty folder for the crops. A face that cannot be
    aligned has no row. On all cores, in the order of the images.
    """

    def crop(detections: Sequence[Detection]) -> list[CropRow]:
        pixels = images.decode((folder / detections[0].image).read_bytes())
        rows = (_crop_face(pixels, face, target, cropper) for face in detections)
        return [row for row in rows if row]

    return (rows for _, rows in ordered_map(crop, faces))


def _crop_face(
    pixels: np.ndarray, face: Detection, target: Path, cropper: FaceCropper
) -> CropRow | None:
    assert face.face is not None  # these two: see faces_by_image
    assert face.score is not None
    points = landmarks(face)
    aligned = cropper.crop(pixels, points)
    if aligned is None:
        return None
    name, pose = crop_name(face.image, face.face), quality.pose(points)
    # Not atomic: after a kill the folder is made again, and syncing each file takes longer than
    # everything else.
    (target / name).write_bytes(images.png_bytes(Image.fromarray(aligned.pixels)))
    return CropRow(
        crop=name,
        image=face.image,
        face=face.face,
        sharpness=round(quality.sharpness(aligned.pixels), 2),
        face_px=round(face_px(face), 1),
        upscale=round(aligned.upscale, 3),
        brightness=round(quality.brightness(aligned.pixels), 1),
        # +0.0: no "-0.0" in the table
        yaw=round(pose.yaw, 1) + 0.0,
        pitch=round(pose.pitch, 1) + 0.0,
        roll=round(pose.roll, 1) + 0.0,
        score=face.score,
        phash=quality.perceptual_hash(aligned.pixels),
    )


def _spread(points: np.ndarray) -> float:
    """Root mean square distance of points (N, 2) from their centre."""
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _shrink(image: np.ndarray, points: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """The image shrunk by area, antialiased, and its landmarks; unchanged where factor ≥ 1."""
    if factor >= 1:
        return image, points
    height, width = image.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    ratio = np.array([size[0] / width, size[1] / height])
    # Whole coordinates are at a pixel's centre, not at its corner.
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), (points + 0.5) * ratio - 0.5


def crop_again(path: Path, cache: DetectionCache, cropper: FaceCropper) -> np.ndarray | None:
    """The largest face on the crop at `path`, detected and cropped once more (curate.recrop).

    Returns (size, size, 3) uint8, or None where no face is found. DataError: no such file.
    """
    content = images.read_bytes(path)
    found = cache.search(files.digest_bytes(content), lambda: content)
    faces = cache.detector.within_limits(found.faces)
    aligned = cropper.crop(images.decode(content), faces[0].landmarks) if faces else None
    return aligned.pixels if aligned else None


def crop_metrics(rows: Sequence[CropRow], detected: int) -> dict[str, Any]:
    """The figures of metrics/crop.json; detected: how many faces were to be cropped."""
    figures: dict[str, Any] = {
        "crops": len(rows),
        "not_aligned": detected - len(rows),
        "upscaled": sum(row.upscale > 1 for row in rows),
    }
    if rows:
        figures["blur_median"] = _median([row.sharpness for row in rows])
        figures["face_px_median"] = _median([row.face_px for row in rows])
        figures["brightness_median"] = _median([row.brightness for row in rows])
    return figures


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 2)
