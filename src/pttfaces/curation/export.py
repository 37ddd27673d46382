"""Making the data set's pictures from the crops that were kept, and the pictures that show them.

Knows files of crops and what was decided about them; not how it was decided.
"""

import io
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pttfaces import images
from pttfaces.curation.filters import Candidate
from pttfaces.faces.parallel import ordered_map
from pttfaces.faces.quality import BLUR_EDGES
from pttfaces.progress import progress

_PNG_LEVEL = 1  # half the time of the usual 6 for 3 % more bytes
_SHEET_SIDE = 96
_SHEET_COLUMNS = 12
_SHEET_MOST = 48


def downscale(pixels: np.ndarray, side: int) -> np.ndarray:
    """An antialiased smaller square: (S, S, 3) → (side, side, 3) uint8 RGB.

    Lanczos over the source's pixels: of the usual filters the one that keeps most of what the small
    picture can hold while folding least of the rest into it, at any ratio; averaging areas softens
    the finest detail, and does so unevenly where the ratio is not whole.
    """
    return np.asarray(_smaller(Image.fromarray(pixels), side))


def _smaller(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side), Image.Resampling.LANCZOS)


class Downscaler:
    """Makes a picture of the data set, `side` pixels wide and high, from a crop's file."""

    def __init__(self, side: int) -> None:
        self._side = side

    def __call__(self, path: Path) -> np.ndarray:
        """(side, side, 3) uint8 RGB."""
        return np.asarray(_smaller(images.read_image(path), self._side))


def make_all(
    names: Sequence[str], crops: Path, target: Path, make: Callable[[Path], np.ndarray | None]
) -> Iterator[tuple[str, bool]]:
    """Writes the data set's pictures as PNG into `target`; yields (name, whether there is one).

    names: of the files in the folder `crops`; target: an empty folder; make: crop's path → (S, S,
    3) uint8 RGB, or None for a crop that gives no picture. On all cores, in the order of the names.
    """

    def one(name: str) -> bool:
        pixels = make(crops / name)
        if pixels is None:
            return False
        # Plainly: the folder is made anew after a kill, and syncing each file takes longer than
        # all the rest.
        (target / name).write_bytes(images.png_bytes(Image.fromarray(pixels), _PNG_LEVEL))
        return True

    return ordered_map(one, names)


def make_chosen(
    choose: Callable[[Collection[str]], list[Candidate]],
    crops: Path,
    target: Path,
    make: Callable[[Path], np.ndarray | None],
) -> list[Candidate]:
    """Makes the pictures of those that `choose` does not leave out; returns its last choice.

    choose: from the names of crops that give no picture; it is asked again when there are more of
    them, for a copy of such a one takes its place. crops, target, make: as in `make_all`.
    """
    made: set[str] = set()
    empty: set[str] = set()
    while True:
        chosen = choose(empty)
        kept = {crop.crop for crop in chosen if not crop.reason}
        new = [crop.crop for crop in chosen if not crop.reason and crop.crop not in made]
        with progress("curate", len(new), " crops") as bar:
            for name, there in make_all(new, crops, target, make):
                (made if there else empty).add(name)
                bar.update()
        if empty.isdisjoint(kept):
            for name in made - kept:  # copies of what took an empty one's place
                (target / name).unlink()
            return chosen


def contact_sheet(sections: Sequence[tuple[str, Sequence[str]]], crops: Path) -> Image.Image:
    """Crops under captions: what was kept, and what was left out for which reason.

    sections: (caption, names of files in the folder `crops`); a sample of each is shown.
    """
    shown = []
    for caption, names in sections:
        sample = [crops / names[i] for i in _spread(len(names), _SHEET_MOST)]
        tiles = [tile for _, tile in ordered_map(Downscaler(_SHEET_SIDE), sample)]
        if len(sample) < len(names):
            caption += f" ({len(sample)} shown)"
        shown.append((caption, np.stack(tiles) if tiles else np.zeros((0, 1, 1, 3), np.uint8)))
    return images.sheet(shown, _SHEET_COLUMNS)


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of 0 … count − 1, evenly spread."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))}) if count else []


def blur_chart(variances: Sequence[float], threshold: float) -> bytes:
    """PNG of the histogram of variances of the Laplacian, with the threshold drawn in."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(8, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    edges = np.array(BLUR_EDGES[1:])
    axes.hist(np.clip(variances, edges[0], edges[-1] * 0.999), bins=edges.tolist(), color="#5b8def")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("variance of the Laplacian (256×256, grey); the outer bins are open")
    axes.set_ylabel("crops")
    below = sum(value < threshold for value in variances)
    axes.set_title(f"{below} of {len(variances)} crops are left out as blurred")
    if threshold > 0:
        axes.axvline(threshold, color="#d6455d", linewidth=2, label=f"threshold {threshold:g}")
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
