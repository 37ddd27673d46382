"""Which altered copies of an image are found, which of the two stays, and which pairs are false.

    PYTHONPATH=src python benchmarks/copies.py                      drawn faces, found by haar
    PYTHONPATH=src python benchmarks/copies.py --yunet FILE FOLDER  photographs of a folder
    PYTHONPATH=src python benchmarks/copies.py --crops 54000        only the time of the search

24 of the images with the largest faces are altered; the faces of both are found, cropped and
compared as the stages do. All images as they are are compared with each other, too: pairs are
listed by name, to be looked at, since a folder may have true copies.

Bounds: missed of 24 at most: mirrored 0, border 0, cut by 10 % 2, rotated by 3° 1, watermark 5,
grey 2; 54,000 crops in under 30 s.
"""

import argparse
import contextlib
import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from pttfaces import config, images
from pttfaces.curation import duplicates, filters
from pttfaces.curation.candidates import Candidate, Provenance
from pttfaces.curation.image_export import downscale
from pttfaces.demo import drawing
from pttfaces.faces import quality
from pttfaces.faces.alignment import FaceCropper
from pttfaces.faces.detectors import Detector, make_detector
from pttfaces.faces.parallel import ordered_map
from pttfaces.tables import CropRow

PROJECT = Path(__file__).resolve().parents[1]
PRESETS = {name: config.load(PROJECT / f"presets/{name}.yaml") for name in ("demo", "photos")}
ALTERED = 24


def saved(image: Image.Image, percent: int = 85) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=percent)
    return Image.open(buffer).convert("RGB")


def cut(image: Image.Image) -> Image.Image:
    """Without a tenth on each side."""
    width, height = image.size
    return image.crop((width // 10, height // 10, width * 9 // 10, height * 9 // 10))


def watermark(image: Image.Image) -> Image.Image:
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    size = max(12, image.width // 11)
    font, draw = ImageFont.load_default(size=size), ImageDraw.Draw(layer)
    for place in (0.25, 0.5, 0.75):
        at = (image.width * 0.05, image.height * place - size / 2)
        draw.text(at, "www.example.com sample", font=font, fill=(255, 255, 255, 115))
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def collage(image: Image.Image) -> Image.Image:
    """The image at the upper left of four."""
    whole = Image.new("RGB", (2 * image.width, 2 * image.height), (90, 120, 140))
    whole.paste(image, (0, 0))
    whole.paste(ImageOps.invert(image), (image.width, 0))
    return whole


ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG at 60": lambda image: saved(image, 60),
    "smaller by 0.6": lambda image: saved(
        image.resize((image.width * 6 // 10, image.height * 6 // 10), Image.Resampling.LANCZOS)
    ),
    "mirrored": lambda image: saved(ImageOps.mirror(image)),
    "border": lambda image: saved(ImageOps.expand(image, min(image.size) // 16, "white")),
    "cut by 10 %": lambda image: saved(cut(image)),
    "rotated by 3°": lambda image: saved(
        image.rotate(3, Image.Resampling.BICUBIC, fillcolor="white")
    ),
    "watermark": lambda image: saved(watermark(image)),
    "grey": lambda image: saved(image.convert("L").convert("RGB")),
    "collage": lambda image: saved(collage(image)),
}


class Stages:
    """What detect, crop and curate do with an image, with the parameters of a preset."""

    def __init__(self, params: config.Params, detector: Detector) -> None:
        self._side, self._detector = params.image_size, detector
        self._cropper = FaceCropper(params.crop)
        self._face = quality.face_mask(params.image_size, params.crop.face_factor)

    def crop(self, name: str, image: Image.Image) -> Candidate | None:
        """The image's largest face, or None."""
        pixels = np.asarray(image)
        for face in self._detector.detect(pixels)[:1]:
            if aligned := self._cropper.crop(pixels, face.landmarks):
                row = CropRow(
                    crop=name,
                    image=name,
                    face=0,
                    sharpness=quality.sharpness(aligned.pixels),
                    face_px=min(face.box[2:]),
                    upscale=aligned.upscale,
                    brightness=0.0,
                    yaw=0.0,
                    pitch=0.0,
                    roll=0.0,
                    score=face.score,
                    phash=quality.perceptual_hash(aligned.pixels),
                    outside=aligned.outside,
                )
                small = downscale(Image.fromarray(aligned.pixels), self._side)
                inside, colour = quality.face_sharpness(small, self._face), quality.colour(small)
                return Candidate(row, "", (Provenance("", "", name),), inside, colour)
        return None


def stays(original: Candidate, copy: Candidate, options: config.Curate) -> str:
    """Which of two copies stays: the crop's name; "" if they are not found to be copies."""
    pair = [copy, original]
    copies = duplicates.find_copies([one.crop.phash for one in pair], options.duplicate_bits)
    group = options.model_copy(update={"max_outside": None})
    without_limits = PRESETS["demo"].model_copy(update={"curate": group, "blur_threshold": 0.0})
    rows = filters.filter_crops(pair, without_limits, copies)
    kept = [row.crop for row in rows if not row.reason]
    return kept[0] if len(kept) == 1 else ""


def read_folder(folder: Path, count: int | None) -> list[tuple[str, Image.Image]]:
    """All images, or of `count` files at random, each with its name."""
    paths = np.array(sorted(path for path in folder.iterdir() if path.is_file()))
    found = []
    for path in np.random.default_rng(0).permutation(paths)[:count]:
        with contextlib.suppress(images.UnreadableError):
            found.append((path.name, Image.fromarray(images.decode(path.read_bytes()))))
    return found


def draw_faces(count: int) -> list[tuple[str, Image.Image]]:
    found = []
    for seed in range(count):
        rng = np.random.default_rng([23, seed])
        drawn = drawing.portrait(drawing.Person.random(rng), rng, (480, 600))
        found.append((f"drawn {seed}", drawn.image.convert("RGB")))
    return found


def time_search(count: int) -> None:
    """The search among random hashes of both kinds, as they are and mirrored."""
    rng = np.random.default_rng(0)
    hashes = [rng.bytes(quality.HASHES * quality.HASH_BITS // 8).hex() for _ in range(count)]
    began, cpu = time.monotonic(), time.process_time()
    assert not len(duplicates.find_copies(hashes, PRESETS["photos"].curate.duplicate_bits))
    print(
        f"{count:,} crops: {time.monotonic() - began:.1f} s, "
        f"{time.process_time() - cpu:.1f} s of all cores"
    )


def report(
    found: Sequence[tuple[str, Image.Image]], stages: Stages, options: config.Curate
) -> None:
    crops = [crop for _, crop in ordered_map(lambda each: stages.crop(*each), found)]
    bits = options.duplicate_bits
    print(f"{len(found)} images, {sum(crop is not None for crop in crops)} faces, {bits} bits\n")
    known = [crop for crop in crops if crop]
    pairs = duplicates.find_copies([crop.crop.phash for crop in known], bits)
    names = [" = ".join(known[index].crop.crop for index in pair) for pair in pairs.tolist()]
    print(f"pairs among them as they are: {', '.join(names) or 'none'}\n")
    size = [crop.crop.face_px if crop else 0.0 for crop in crops]
    large = [index for index in np.argsort(size)[::-1] if crops[index]][: 2 * ALTERED]
    chosen = np.random.default_rng(5).permutation(large)[:ALTERED]
    print(f"| of {len(chosen)} | no face | missed | the original stays |\n{'| --- ' * 4}|")
    for kind, alter in ALTERATIONS.items():
        altered = [alter(found[index][1]) for index in chosen]
        copies = ordered_map(partial(stages.crop, "copy"), altered)
        kept = []
        for index, (_, copy) in zip(chosen, copies, strict=True):
            original = crops[index]
            assert original
            kept.append(stays(original, copy, options) if copy else None)
        missed, faceless = kept.count(""), kept.count(None)
        clean = len(kept) - missed - faceless - kept.count("copy")
        print(f"| {kind} | {faceless} | {missed} | {clean} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Tries the search for copies on altered images.")
    parser.add_argument("folder", type=Path, nargs="?", help="of photographs; default: drawn faces")
    parser.add_argument("--yunet", help="the weights file of YuNet, for photographs")
    parser.add_argument("--count", type=int, help="images; default: 100 drawn, or all of a folder")
    parser.add_argument("--crops", type=int, help="only time the search among so many crops")
    options = parser.parse_args()
    if options.crops:
        time_search(options.crops)
        return
    params = PRESETS["photos" if options.folder else "demo"]
    detect = params.detect
    if options.folder:
        detect = detect.model_copy(update={"weights": options.yunet})
    if options.folder:
        found = read_folder(options.folder, options.count)
    else:
        found = draw_faces(options.count or 100)
    report(found, Stages(params, make_detector(detect)), params.curate)


if __name__ == "__main__":
    main()
