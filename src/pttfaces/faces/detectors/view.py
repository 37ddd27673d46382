"""Cuts views of a face out of an image: upright, at the size at which a detector sees best."""

from dataclasses import dataclass

import cv2
import numpy as np

VIEW_SIDE = 320  # pixels of a view
_MAX_SHRINKING = 2.0  # by more, bilinear interpolation would skip pixels


@dataclass(frozen=True)
class View:
    """A square part of an image at another size and turned; beyond the image its edge is repeated.

    pixels: (VIEW_SIDE, VIEW_SIDE, 3) uint8; matrix: (2, 3), from the image's pixels to the view's.
    """

    pixels: np.ndarray
    matrix: np.ndarray

    @classmethod
    def of(
        cls,
        image: np.ndarray,
        box: tuple[float, float, float, float],
        face_side: float,
        roll: float = 0.0,
    ) -> "View":
        """With a face's box in the middle, its longer side scaled to `face_side` pixels.

        image: (H, W, 3) uint8; roll: degrees by which what is upright in the view is turned
        clockwise in the image.
        """
        low, extent = np.array(box[:2]), np.array(box[2:])
        centre, scale = low + extent / 2 - 0.5, face_side / max(1.0, float(extent.max()))
        angle = np.radians(roll)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * scale
        matrix = np.column_stack([turn, (VIEW_SIDE - 1) / 2 - turn @ centre])
        # What the view shows and a pixel more, at least one of the image, whatever the box.
        shape, reach = np.array(image.shape[1::-1]), VIEW_SIDE / scale * np.sqrt(0.5) + 1
        start = np.clip(np.floor(centre - reach), 0, shape - 1).astype(int)
        end = np.clip(np.ceil(centre + reach) + 1, start + 1, shape).astype(int)
        (left, top), (right, bottom) = start, end
        part, ratio = image[top:bottom, left:right], np.ones(2)
        if scale * _MAX_SHRINKING < 1:
            size = np.maximum(1, np.round((end - start) * scale * _MAX_SHRINKING)).astype(int)
            part = cv2.resize(part, size.tolist(), interpolation=cv2.INTER_AREA)
            ratio = size / (end - start)
        # Whole coordinates are at a pixel's centre, not at its corner.
        offset = matrix[:, 2] + turn @ (start + 0.5 / ratio - 0.5)
        from_part = np.column_stack([turn / ratio, offset])
        pixels = cv2.warpAffine(
            part, from_part, (VIEW_SIDE, VIEW_SIDE), borderMode=cv2.BORDER_REPLICATE
        )
        return cls(pixels, matrix)

    def in_image(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the view, in pixels of the image."""
        inverse = np.linalg.inv(self.matrix[:, :2])
        return (points - self.matrix[:, 2]) @ inverse.T
