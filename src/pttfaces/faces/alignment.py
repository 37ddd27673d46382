"""Aligns faces by their landmarks with face-crop-plus, and crops and measures them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from face_crop_plus import Cropper
from PIL import Image

from pttfaces import config, images
from pttfaces.faces import quality
from pttfaces.faces.detection import UNREADABLE, DetectionCache, face_px, landmarks, select_faces
from pttfaces.faces.parallel import Engine, Threads
from pttfaces.tables import CropRow, Detection, columns

# face-crop-plus warps with bilinear interpolation, which skips pixels when it shrinks by more.
_MAX_SHRINKING = 2.0
_MAX_WARPED_SIDE = 32766  # pixels of an image; cv2.warpAffine refuses more

_NOT_ALIGNED = "cannot be aligned"
_MEASURES = columns(CropRow)[columns(CropRow).index("sharpness") : columns(CropRow).index("phash")]


@dataclass(frozen=True)
class AlignedFace:
    """A cropped face.

    pixels: (size, size, 3) uint8 RGB; upscale: crop pixels per image pixel (above 1 where the face
    is smaller in the image than in the crop); outside: share of the crop's area that lies outside
    the image, 0…1.
    """

    pixels: np.ndarray
    upscale: float
    outside: float


class FaceCropper:
    """Aligns faces with face-crop-plus' own alignment, by landmarks that are already known."""

    def __init__(self, options: config.Crop) -> None:
        # With landmarks given, face-crop-plus loads no network; the tables stay empty because
        # images and landmarks are passed to crop_align together.
        self._options = options
        no_landmarks = (np.empty((0, 5, 2), np.float32), np.empty(0, np.str_))
        self._size = options.size
        self._cropper = Cropper(
            output_size=options.size,
            face_factor=options.face_factor,
            padding=options.padding,
            allow_skew=options.allow_skew,
            landmarks=no_landmarks,
        )

    @property
    def landmarks(self) -> np.ndarray:
        """Where a crop has the landmarks, as nearly as the face allows: (5, 2), in its pixels."""
        return np.array(self._cropper.landmarks_target)

    def __reduce__(self) -> tuple[type["FaceCropper"], tuple[config.Crop]]:
        return FaceCropper, (self._options,)

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
        points = points.astype(np.float32)
        matrix = self._transform(points)
        if matrix is None:
            return None
        outside = _share_outside(matrix, image, self._size)
        if max(image.shape[:2]) > _MAX_WARPED_SIDE:
            image, points = _cut(image, points, matrix, self._size)
        crops = self._cropper.crop_align([image], None, [0], points[None])
        return AlignedFace(crops[0], upscale, outside)

    def _transform(self, points: np.ndarray) -> np.ndarray | None:
        """The affine transform (2, 3) from image to crop, as face-crop-plus estimates it."""
        estimate = cv2.estimateAffine2D if self._cropper.allow_skew else cv2.estimateAffinePartial2D
        target = self._cropper.landmarks_target
        matrix: np.ndarray | None = estimate(points, target, ransacReprojThreshold=np.inf)[0]
        is_invertible = matrix is not None and abs(np.linalg.det(matrix[:, :2])) > 1e-9
        return matrix if is_invertible else None


def crop_all(
    faces: Iterable[Sequence[Detection]],
    folder: Path,
    target: Path,
    cropper: FaceCropper,
    engine: Engine | None = None,
) -> Iterator[list[CropRow]]:
    """Crops the faces of each image below `folder` to PNG files; yields their rows.

    faces: those of one image together; target: an empty folder for the crops; engine: what crops
    them, by default threads. The row of a face that cannot be cropped says why. In the order of the
    images. DataError: an image is not in the folder.
    """
    engine = engine or Threads()
    contents = ((images.read_bytes(folder / each[0].image), each) for each in faces)
    chunks = iter(lambda: list(islice(contents, engine.items_per_call)), [])
    for _, cropped in engine.ordered_map(partial(_crop_chunk, cropper), chunks):
        for crops in cropped:
            for row, png in crops:
                if png:
                    # Not atomic: after a kill the folder is made again, and syncing each file takes
                    # longer than everything else.
                    (target / row.crop).write_bytes(png)
            yield [row for row, _ in crops]


_Crop = tuple[CropRow, bytes]
"""A crop's row, and its PNG file; b"" where the face cannot be cropped."""


def _crop_chunk(
    cropper: FaceCropper, chunk: Sequence[tuple[bytes, Sequence[Detection]]]
) -> list[list[_Crop]]:
    """The crops of each of several image files."""
    found = []
    for content, faces in chunk:
        pixels, reason = None, _NOT_ALIGNED
        try:
            pixels = images.decode(content)
        except images.UnreadableError as error:
            reason = f"{UNREADABLE}: {error}"
        found.append([_crop_face(cropper, pixels, face, reason) for face in faces])
    return found


def _crop_face(
    cropper: FaceCropper, pixels: np.ndarray | None, face: Detection, reason: str
) -> _Crop:
    """pixels: of the face's image; reason: why there is no crop without pixels or alignment."""
    assert face.face is not None  # these two: see faces_by_image
    assert face.score is not None
    points = landmarks(face)
    aligned = None if pixels is None else cropper.crop(pixels, points)
    if aligned is None:
        measures = dict.fromkeys(_MEASURES, math.nan)
        return CropRow("", face.image, face.face, **measures, phash="", reason=reason), b""
    # +0.0: no "-0.0" in the table
    yaw, pitch, roll = (round(angle, 1) + 0.0 for angle in quality.pose(points))
    row = CropRow(
        crop=f"{Path(face.image).stem[:16]}-{face.face}.png",
        image=face.image,
        face=face.face,
        sharpness=round(quality.sharpness(aligned.pixels), 2),
        face_px=round(face_px(face), 1),
        upscale=round(aligned.upscale, 3),
        brightness=round(quality.brightness(aligned.pixels), 1),
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        score=face.score,
        phash=quality.perceptual_hash(aligned.pixels),
        outside=round(aligned.outside, 4),
    )
    return row, images.png_bytes(Image.fromarray(aligned.pixels))


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


def _share_outside(matrix: np.ndarray, image: np.ndarray, size: int) -> float:
    """The share of a crop's area that shows nothing of the image, 0…1; edges as areas, not pixels.

    matrix: (2, 3), from the image (H, W, 3) to the crop of `size` × `size` pixels.
    """
    height, width = image.shape[:2]
    corners = _corners((-0.5, -0.5), (width - 0.5, height - 0.5)) @ matrix[:, :2].T + matrix[:, 2]
    crop = _corners((-0.5, -0.5), (size - 0.5, size - 0.5))
    shared, _ = cv2.intersectConvexConvex(corners.astype(np.float32), crop.astype(np.float32))
    return float(np.clip(1 - shared / size**2, 0, 1))


def _corners(low: tuple[float, float], high: tuple[float, float]) -> np.ndarray:
    """(4, 2), around a rectangle."""
    (left, top), (right, bottom) = low, high
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _cut(
    image: np.ndarray, points: np.ndarray, matrix: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image around the crop, and the landmarks in it.

    As wide again on each side, for a padding that repeats the image beyond its edge. matrix, size:
    as in `_share_outside`.
    """
    crop = _corners((0, 0), (size - 1, size - 1))
    covered = (crop - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    low, high = covered.min(axis=0), covered.max(axis=0)
    shape = np.array(image.shape[1::-1])
    # At least one pixel, wherever the landmarks are.
    left, top = start = np.clip(np.floor(2 * low - high), 0, shape - 1).astype(int)
    right, bottom = np.clip(np.ceil(2 * high - low), start + 1, shape).astype(int)
    return image[top:bottom, left:right], (points - start).astype(np.float32)


def crop_again(path: Path, cache: DetectionCache, cropper: FaceCropper) -> np.ndarray | None:
    """The largest face on the crop at `path`, detected and cropped once more (curate.recrop).

    Returns (size, size, 3) uint8, or None where no face is found. DataError: no such file.
    """
    content = images.read_bytes(path)
    found = cache.search(content)
    faces = select_faces(cache.detector.within_limits(found.faces), "largest")
    aligned = [cropper.crop(images.decode(content), face.landmarks) for _, face in faces]
    return aligned[0].pixels if aligned and aligned[0] else None


def crop_metrics(rows: Sequence[CropRow]) -> dict[str, Any]:
    """The figures of metrics/crop.json."""
    crops = [row for row in rows if not row.reason]
    figures: dict[str, Any] = {
        "crops": len(crops),
        "not_aligned": len(rows) - len(crops),
        "upscaled": sum(row.upscale > 1 for row in crops),
        "beyond_image": sum(row.outside > 0 for row in crops if row.outside is not None),
    }
    columns = {"blur": "sharpness", "face_px": "face_px", "brightness": "brightness"}
    for name, column in columns.items() if crops else ():
        values = [getattr(row, column) for row in crops]
        figures[f"{name}_median"] = round(float(np.median(values)), 2)
    return figures
