"""The canvas: pixels, and soft-edged polygons that cover or shade what is below them."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pttfaces.demo.drawing.colours import Colour
from pttfaces.demo.drawing.shapes import Array, f32


@dataclass(frozen=True)
class Patch:
    """The share (0..1) of each pixel in a rectangle of the canvas that a shape covers."""

    rows: slice
    cols: slice
    cover: Array


class Canvas:
    """Pixels (H, W, 3), float32, RGB in 0..1, and methods that paint them; positions in pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.pixels: Array = np.zeros((height, width, 3), np.float32)

    def patch(self, polygon: Array, soft: float = 0.0) -> Patch | None:
        """A polygon (N, 2), its edge blurred by `soft` pixels; None if it is outside the canvas."""
        pad = int(3 * soft) + 2
        # A blur near the border must see what lies beyond it.
        ox, oy = np.maximum(np.floor(polygon.min(0)).astype(int) - pad, -pad).tolist()
        limit = np.array([self.width, self.height]) + pad
        ex, ey = np.minimum(np.ceil(polygon.max(0)).astype(int) + pad, limit).tolist()
        x0, y0, x1, y1 = max(ox, 0), max(oy, 0), min(ex, self.width), min(ey, self.height)
        if x1 <= x0 or y1 <= y0:
            return None
        mask = np.zeros((ey - oy, ex - ox), np.uint8)
        corners = np.round((polygon - f32([ox, oy])) * 16).astype(np.int32)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, 4)
        mask = _soften(mask, soft)
        cover = f32(f32(mask[y0 - oy : y1 - oy, x0 - ox : x1 - ox]) / 255)
        return Patch(slice(y0, y1), slice(x0, x1), cover)

    def stencil(self, polygon: Array) -> Array:
        """The cover of a polygon over the whole canvas (H, W)."""
        whole = np.zeros((self.height, self.width), np.float32)
        patch = self.patch(polygon)
        if patch:
            whole[patch.rows, patch.cols] = patch.cover
        return whole

    def paint(
        self,
        polygon: Array,
        colour: Colour,
        alpha: float = 1.0,
        soft: float = 0.0,
        within: Array | None = None,
    ) -> None:
        """Lays a colour over a polygon, only `within` a stencil (H, W) if one is given."""
        patch = self.patch(polygon, soft)
        if patch:
            region = self.pixels[patch.rows, patch.cols]
            region += _share(patch, alpha, within) * (f32(colour) - region)

    def shade(
        self,
        polygon: Array,
        factor: Colour,
        alpha: float = 1.0,
        soft: float = 0.0,
        within: Array | None = None,
    ) -> None:
        """Multiplies a polygon by a colour, only `within` a stencil (H, W) if one is given."""
        patch = self.patch(polygon, soft)
        if patch:
            less = f32(factor) - 1
            self.pixels[patch.rows, patch.cols] *= 1 + _share(patch, alpha, within) * less

    def lay(self, patch: Patch, pixels: Array) -> None:
        """Lays pixels (h, w, 3) of the patch's size over the canvas."""
        region = self.pixels[patch.rows, patch.cols]
        region += patch.cover[..., None] * (pixels - region)


def _share(patch: Patch, alpha: float, within: Array | None) -> Array:
    share = patch.cover * f32(alpha)
    if within is not None:
        share = share * within[patch.rows, patch.cols]
    return share[..., None]


def _soften(mask: npt.NDArray[np.uint8], sigma: float) -> npt.NDArray[np.uint8]:
    """A Gaussian blur; a wide one is computed at a quarter of the size, which is faster."""
    if sigma < 0.3:
        return mask
    height, width = mask.shape
    if sigma < 6 or min(height, width) < 16:
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.uint8)
    small = cv2.resize(mask, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
