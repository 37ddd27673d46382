"""What each measure of sharpness leaves out of degraded faces, and keeps of the faces as they are.

    PYTHONPATH=src python benchmarks/sharpness.py                      drawn faces
    PYTHONPATH=src python benchmarks/sharpness.py --yunet FILE FOLDER  photographs of a folder

Every aligned crop of 256 px is degraded in seven ways at several strengths. A degraded face is
visibly worse if its structural similarity to the crop as it is (SSIM, grey, inside the face, at
64 px) is below 0.9; only these count. A photograph's face counts if it is not enlarged at 64 px.

Bounds, for the measure of curate.sharpness_at: image_size and the threshold of the preset: of the
visibly worse at least 95 % are left out, of the others at least 95 % stay.
"""

import argparse
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage.metrics import structural_similarity

from pttfaces import config, images
from pttfaces.curation.image_export import downscale
from pttfaces.demo import drawing
from pttfaces.faces import quality
from pttfaces.faces.alignment import FaceCropper
from pttfaces.faces.detectors import make_detector
from pttfaces.faces.parallel import ordered_map

PROJECT = Path(__file__).resolve().parents[1]
DEMO = config.load(PROJECT / "presets/demo.yaml")
PHOTOS = config.load(PROJECT / "presets/photos.yaml")
SIDE = 256
VISIBLE = 0.9  # SSIM below which a degraded face is visibly worse
FACE = quality.face_mask(DEMO.image_size, DEMO.crop.face_factor)
_HEAD = cv2.GaussianBlur(
    cv2.ellipse(np.zeros((SIDE, SIDE)), (128, 128), (80, 105), 0, 0, 360, 1, -1), (0, 0), 6
)[..., None]

Degrade = Callable[[np.ndarray, np.random.Generator, int], np.ndarray]


def defocus(crop: np.ndarray, _: np.random.Generator, radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return cv2.filter2D(crop, -1, disk / disk.sum(), borderType=cv2.BORDER_REFLECT)


def motion(crop: np.ndarray, rng: np.random.Generator, length: int) -> np.ndarray:
    line, angle = np.zeros((2 * length + 1,) * 2), rng.uniform(0, np.pi)
    half = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    start, end = ((16 * (length + sign * half)).round().astype(int).tolist() for sign in (-1, 1))
    cv2.line(line, start, end, 1, 1, cv2.LINE_AA, 4)  # in sixteenths of a pixel
    return cv2.filter2D(crop, -1, line / line.sum(), borderType=cv2.BORDER_REFLECT)


def noise(crop: np.ndarray, rng: np.random.Generator, sigma: int) -> np.ndarray:
    return np.clip(crop + rng.normal(0, sigma, crop.shape), 0, 255).round().astype(np.uint8)


def jpeg(crop: np.ndarray, _: np.random.Generator, percent: int) -> np.ndarray:
    """At 128 px, as the face in a photograph of the web."""
    buffer = io.BytesIO()
    Image.fromarray(crop).resize((128, 128)).save(buffer, "JPEG", quality=percent)
    return np.asarray(Image.open(buffer).resize((SIDE, SIDE)))


def enlarged(crop: np.ndarray, rng: np.random.Generator, side: int) -> np.ndarray:
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    way = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
    return cv2.resize(small, (SIDE, SIDE), interpolation=way)


def background(crop: np.ndarray, rng: np.random.Generator, radius: int) -> np.ndarray:
    """A defocused face before a sharp background."""
    mixed = defocus(crop, rng, radius) * _HEAD + crop * (1 - _HEAD)
    return mixed.round().astype(np.uint8)


def mosaic(crop: np.ndarray, rng: np.random.Generator, block: int) -> np.ndarray:
    made = crop.copy()
    top, left = (int(offset) for offset in rng.integers(0, block, 2))
    for y in range(33 - top, 223, block):
        for x in range(48 - left, 208, block):
            part = made[max(0, y) : y + block, max(0, x) : x + block]
            part[:] = part.mean(axis=(0, 1)).round()
    return made


# Strengths in pixels of the crop, noise in grey levels, JPEG in its own quality.
KINDS: dict[str, tuple[Degrade, Sequence[int]]] = {
    "defocus": (defocus, (2, 3, 4, 6, 8, 12)),
    "motion": (motion, (8, 12, 16, 24, 32)),
    "noise": (noise, (10, 20, 40, 60)),
    "JPEG": (jpeg, (40, 20, 10, 5)),
    "enlarged from 16, 24, 32, 48 px": (enlarged, (16, 24, 32, 48)),
    "defocused before a sharp background": (background, (3, 4, 6, 8, 12)),
    "mosaic": (mosaic, (8, 12, 16, 24, 32)),
}


def drawn_crops(count: int) -> Iterator[np.ndarray]:
    cropper = FaceCropper(DEMO.crop)
    for seed in range(count):
        rng = np.random.default_rng([22, seed])
        drawn = drawing.portrait(drawing.Person.random(rng), rng, (480, 600))
        aligned = cropper.crop(np.asarray(drawn.image.convert("RGB")), drawn.landmarks[0])
        if aligned is not None:
            yield aligned.pixels


def photographed_crops(folder: Path, weights: str, count: int) -> Iterator[np.ndarray]:
    options = PHOTOS.detect.model_copy(update={"weights": weights})
    detector, cropper = make_detector(options), FaceCropper(PHOTOS.crop)
    paths = np.array(sorted(path for path in folder.iterdir() if path.is_file()))
    paths = np.random.default_rng(0).permutation(paths)[:count]

    def crop(path: Path) -> np.ndarray | None:
        try:
            pixels = images.decode(path.read_bytes())
        except images.UnreadableError:
            return None
        for face in detector.detect(pixels)[:1]:
            aligned = cropper.crop(pixels, face.landmarks)
            if aligned is not None and aligned.upscale <= SIDE / DEMO.image_size:
                return aligned.pixels
        return None

    yield from (found for _, found in ordered_map(crop, paths) if found is not None)


def small(crop: np.ndarray) -> np.ndarray:
    return downscale(Image.fromarray(crop), DEMO.image_size)


def similarity(small_crop: np.ndarray, other: np.ndarray) -> float:
    """SSIM (Wang et al., 2004) inside the face."""
    _, everywhere = structural_similarity(
        *(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) for pixels in (small_crop, other)),
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return float(everywhere[FACE].mean())


def measures(crop: np.ndarray) -> tuple[float, float]:
    """The crop's sharpness by both values of curate.sharpness_at."""
    return quality.sharpness(crop), quality.face_sharpness(small(crop), FACE)


def main() -> None:
    parser = argparse.ArgumentParser(description="Tries measures of sharpness on degraded faces.")
    parser.add_argument("folder", type=Path, nargs="?", help="of photographs; default: drawn faces")
    parser.add_argument("--yunet", help="the weights file of YuNet, for photographs")
    parser.add_argument("--count", type=int, default=100, help="faces, or photographs to look at")
    options = parser.parse_args()
    if options.folder:
        crops = list(photographed_crops(options.folder, options.yunet, options.count))
        threshold = PHOTOS.blur_threshold
    else:
        crops, threshold = list(drawn_crops(options.count)), DEMO.blur_threshold
    as_is = np.array([measures(crop) for crop in crops])
    # The original's measure at the threshold that keeps as many.
    kept = float(np.mean(as_is[:, 1] >= threshold))
    thresholds = np.array([np.quantile(as_is[:, 0], 1 - kept), threshold])
    print(f"{len(crops)} faces; thresholds: whole crop {thresholds[0]:.0f}, face {threshold:g}\n")
    print("| | visibly worse | left out: whole crop at 256 | inside the face at 64 |")
    print(f"{'| --- ' * 4}|\n| as they are | | {1 - kept:.1%} | {1 - kept:.1%} |")
    everything = []
    for kind, (degrade, strengths) in KINDS.items():
        worse = []
        for seed, crop in enumerate(crops):
            rng = np.random.default_rng(seed)
            for strength in strengths:
                made = degrade(crop, rng, strength)
                if similarity(small(crop), small(made)) < VISIBLE:
                    worse.append(measures(made))
        everything += worse
        print_row(kind, len(strengths) * len(crops), worse, thresholds)
    print_row("all", len(crops) * sum(len(s) for _, s in KINDS.values()), everything, thresholds)


def print_row(
    kind: str, made: int, worse: Sequence[tuple[float, float]], thresholds: np.ndarray
) -> None:
    shares = (np.array(worse).reshape(-1, 2) < thresholds).mean(axis=0) if worse else (0, 0)
    print(f"| {kind} | {len(worse)} of {made} | {shares[0]:.1%} | {shares[1]:.1%} |", flush=True)


if __name__ == "__main__":
    main()
