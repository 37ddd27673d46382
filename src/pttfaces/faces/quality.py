"""Measures the quality of crops: sharpness, brightness, pose, and a hash of how they look."""

import cv2
import imagehash
import numpy as np
from PIL import Image

_SHARPNESS_SIDE = 256  # pixels: where sharpness is measured, so that one threshold fits every crop

_ACROSS = np.array([[1, -2, 1]], np.float32)
_CORNER = _ACROSS.T @ _ACROSS
_TEXTURE_SIGMA = 0.8  # pixels: finer detail is texture
# Corner response per texture, medians over the face; sharp faces have 2 to 4, blocks less, grain
# more.
_MIN_CORNERS, _MAX_CORNERS, _STEEPNESS = 1.92, 4.1, 16
# The ellipse of a face, as shares of face_factor × the crop's side: half of its width and height,
# and how far its middle lies below the crop's.
_FACE_WIDTH, _FACE_HEIGHT, _FACE_DROP = 0.385, 0.495, 0.09

_HASH_SIDE = 16  # frequencies a side of the perceptual hash
HASH_BITS = _HASH_SIDE**2
# A crop has two hashes. The middle looks the same where its image was cut or given a border.
_MIDDLE = 5 / 8  # of the crop's side
HASHES = 2
# The bits of a crop's hashes that a mirror image has inverted, in hex: those of odd horizontal
# frequencies, whose signs change.
MIRROR_BITS = "5555" * _HASH_SIDE * HASHES

# A face's five landmarks in space, in eye distances from the middle of the eyes: right, down, away
# from the viewer. The usual generic head of pose estimation; the nose stands out of the plane.
_HEAD = np.array(
    [[-0.5, 0, 0], [0.5, 0, 0], [0, 0.58, -0.42], [-0.41, 1.05, -0.04], [0.41, 1.05, -0.04]]
)
_FIT = np.linalg.pinv(_HEAD - _HEAD.mean(axis=0))


def sharpness(rgb: np.ndarray) -> float:
    """Variance of the Laplacian: the higher, the sharper.

    rgb: (H, W, 3) uint8. Of the grey crop at 256×256 with OpenCV's default kernel, as in the
    original; a crop of another size is resized first.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if grey.shape != (_SHARPNESS_SIDE, _SHARPNESS_SIDE):
        grey = cv2.resize(grey, (_SHARPNESS_SIDE, _SHARPNESS_SIDE), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def face_mask(side: int, face_factor: float) -> np.ndarray:
    """Where the face is in an aligned crop: (side, side) bool, an ellipse from brows to chin.

    face_factor: as `crop.face_factor`.
    """
    centres = (np.arange(side) + 0.5) / side
    across = (centres - 0.5) / (_FACE_WIDTH * face_factor)
    down = (centres - 0.5 - _FACE_DROP * face_factor) / (_FACE_HEIGHT * face_factor)
    mask: np.ndarray = np.square(across)[None] + np.square(down)[:, None] <= 1
    return mask if mask.any() else np.ones_like(mask)


def face_sharpness(rgb: np.ndarray, face: np.ndarray) -> float:
    """How sharp a face is at the size of its image: 0 for a blank one, some hundreds and more for a
    sharp one.

    The mean square of the second derivative inside the face, across or down, whichever is smaller:
    motion blurs one of them. It falls steeply where the texture is not that of a face, which would
    raise it: grain is strong in the corner response (the operator by which Immerkær, 1996,
    estimates noise), the blocks of JPEG and of a mosaic are weak in it. The bounds are those
    between which sharp faces lie, drawn ones and photographs (benchmarks/sharpness.py).

    rgb: (S, S, 3) uint8; face: (S, S) bool, of `face_mask`.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    across, down, corner = (
        cv2.filter2D(grey, cv2.CV_32F, kernel)[face] for kernel in (_ACROSS, _ACROSS.T, _CORNER)
    )
    detail = min(float(np.square(across).mean()), float(np.square(down).mean()))
    texture = float(np.median(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), _TEXTURE_SIGMA))[face]))
    if texture == 0:
        return 0.0
    ratio = float(np.median(np.abs(corner))) / texture
    return detail * min(1, ratio / _MIN_CORNERS, _MAX_CORNERS / ratio if ratio else 0) ** _STEEPNESS


def colour(rgb: np.ndarray) -> float:
    """Mean difference of a pixel's largest and smallest channel, 0 (grey) … 255.

    rgb: (H, W, 3) uint8.
    """
    return float((rgb.max(axis=2).astype(np.int16) - rgb.min(axis=2)).mean())


def brightness(rgb: np.ndarray) -> float:
    """Mean grey value, 0 (black) … 255 (white). rgb: (H, W, 3) uint8."""
    return float(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).mean())


def pose(landmarks: np.ndarray) -> tuple[float, float, float]:
    """How the head is turned, in degrees: yaw to the right of the image, pitch upwards, roll
    clockwise; 0 looks at the viewer. landmarks: (5, 2), in any image's pixels.

    The orthographic fit of a generic head (POS: DeMenthon & Davis, 1995) to the landmarks with the
    eyes turned level. Accurate to about 10°, because heads differ. Of a detector that places nose
    and mouth by the geometry of a face, as haar does, only the roll has a meaning.
    """
    along = landmarks[1] - landmarks[0]
    roll = np.arctan2(along[1], along[0])
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    level = (landmarks - landmarks.mean(axis=0)) @ turn.T
    right, down = (row / max(float(np.linalg.norm(row)), 1e-9) for row in (_FIT @ level).T)
    away = np.cross(right, down)
    yaw = np.arctan2(-right[2], away[2])
    pitch = np.arcsin(np.clip(down[2], -1, 1))
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))


def perceptual_hash(rgb: np.ndarray) -> str:
    """HASHES × HASH_BITS bits in hex, of which the fewer differ, the more alike two crops look.

    imagehash's pHash (Zauner, 2010), the signs of the lowest frequencies, of the crop and of its
    middle. rgb: (S, S, 3) uint8.
    """
    margin = round(len(rgb) * (1 - _MIDDLE) / 2)
    middle = rgb[margin : len(rgb) - margin, margin : len(rgb) - margin]
    return "".join(
        str(imagehash.phash(Image.fromarray(part), hash_size=_HASH_SIDE)) for part in (rgb, middle)
    )
