"""Draws what curation did: the contact sheet of the crops and the histogram of sharpness."""

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pttfaces import images
from pttfaces.curation.filters import BLURRED, CROP_REASONS, DENIED
from pttfaces.curation.image_export import downscale_file
from pttfaces.curation.splits import HOLDOUT, TRAIN
from pttfaces.faces.parallel import ordered_map
from pttfaces.faces.quality import SHARPNESS_EDGES, sharpness_histogram
from pttfaces.tables import DatasetRow

_TILE_SIDE = 96
_COLUMNS = 12
_MAX_TILES = 48  # in a section


def contact_sheet(rows: Sequence[DatasetRow], crops: Path, blur_threshold: float) -> Image.Image:
    """Crops under captions: those that stay, and those that are left out, by reason.

    crops: their folder. A sample of each section is shown.
    """
    sections = []
    for caption, names in sheet_sections(rows, blur_threshold):
        sample = [crops / names[index] for index in _spread(len(names), _MAX_TILES)]
        tiles = [tile for _, tile in ordered_map(partial(downscale_file, side=_TILE_SIDE), sample)]
        if len(sample) < len(names):
            caption += f" ({len(sample)} shown)"
        sections.append((caption, np.stack(tiles) if tiles else np.zeros((0, 1, 1, 3), np.uint8)))
    return images.sheet(sections, _COLUMNS)


def sheet_sections(
    rows: Sequence[DatasetRow], blur_threshold: float
) -> list[tuple[str, list[str]]]:
    """(caption, names of crops) of a contact sheet; denied crops are counted and not shown."""
    sections = []
    for split, caption in ((TRAIN, "for training"), (HOLDOUT, "held out")):
        names = [row.crop for row in rows if row.split == split]
        sections.append((f"{caption}: {len(names)}", names))
    captions = {BLURRED: f"{BLURRED}, variance of the Laplacian below {blur_threshold:g}"}
    for reason in CROP_REASONS:
        if names := [row.crop for row in rows if row.reason == reason]:
            caption = f"left out ({captions.get(reason, reason)}): {len(names)}"
            sections.append((caption, [] if reason == DENIED else names))
    return sections


def _spread(count: int, limit: int) -> list[int]:
    """At most `limit` of 0 … count − 1, evenly spread."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, limit))}) if count else []


def sharpness_chart(rows: Sequence[DatasetRow], blur_threshold: float) -> bytes:
    """PNG of the histogram of sharpness of all crops that are not denied, with the threshold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    values = [row.sharpness for row in rows if row.reason != DENIED]
    # On a logarithmic axis the first bin, from 0, joins the next one, and the last the one before.
    first, *inner, last = (bin_.crops for bin_ in sharpness_histogram(values))
    inner[0] += first
    inner[-1] += last
    edges = SHARPNESS_EDGES[1:]
    figure = Figure(figsize=(8, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(edges[:-1], bins=edges, weights=inner, color="#5b8def")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("variance of the Laplacian (256×256, grey); the outer bins are open")
    axes.set_ylabel("crops")
    below = sum(value < blur_threshold for value in values)
    axes.set_title(f"{below} of {len(values)} crops are left out as blurred")
    if blur_threshold > 0:
        label = f"threshold {blur_threshold:g}"
        axes.axvline(blur_threshold, color="#d6455d", linewidth=2, label=label)
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
