"""Draws what curation did: sheets of the crops, by reason and by sharpness, and a histogram."""

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pttfaces import config, images
from pttfaces.curation.filters import BLURRED, CROP_REASONS, DENIED
from pttfaces.curation.image_export import downscale_file
from pttfaces.curation.splits import HOLDOUT, TRAIN
from pttfaces.faces.parallel import ordered_map
from pttfaces.faces.quality import SHARPNESS_EDGES, sharpness_histogram
from pttfaces.tables import DatasetRow, SharpnessBin

_TILE_SIDE = 96
_COLUMNS = 12
_MAX_TILES = 48  # in a section
_VALUE_HEIGHT, _VALUE_SIZE = 16, 12  # pixels: of the line below a tile, and of its text


def contact_sheet(rows: Sequence[DatasetRow], crops: Path, params: config.Params) -> Image.Image:
    """Crops under captions: those that stay, and those that are left out, by reason.

    crops: their folder. A sample of each section is shown.
    """
    sections = []
    for caption, names in sheet_sections(rows, params):
        sample = [crops / names[index] for index in _spread(len(names), _MAX_TILES)]
        tiles = [tile for _, tile in ordered_map(partial(downscale_file, side=_TILE_SIDE), sample)]
        if len(sample) < len(names):
            caption += f" ({len(sample)} shown)"
        sections.append((caption, np.stack(tiles) if tiles else np.zeros((0, 1, 1, 3), np.uint8)))
    return images.sheet(sections, _COLUMNS)


def sheet_sections(
    rows: Sequence[DatasetRow], params: config.Params
) -> list[tuple[str, list[str]]]:
    """(caption, names of crops) of a contact sheet; denied crops are counted and not shown."""
    sections = []
    for split, caption in ((TRAIN, "for training"), (HOLDOUT, "held out")):
        names = [row.crop for row in rows if row.split == split]
        sections.append((f"{caption}: {len(names)}", names))
    captions = {BLURRED: f"{BLURRED}, {_measure(params)} below {params.blur_threshold:g}"}
    for reason in CROP_REASONS:
        if names := [row.crop for row in rows if row.reason == reason]:
            caption = f"left out ({captions.get(reason, reason)}): {len(names)}"
            sections.append((caption, [] if reason == DENIED else names))
    return sections


def sharpness_sheet(rows: Sequence[DatasetRow], crops: Path, params: config.Params) -> Image.Image:
    """Crops as training images in the order of their sharpness, with its values below them, to
    choose blur_threshold by eye: those below it, and those from it on.

    crops: their folder. A sample of each section is shown, without denied crops.
    """
    font = ImageFont.load_default(size=_VALUE_SIZE)

    def tile(row: DatasetRow) -> np.ndarray:
        small = downscale_file(crops / row.crop, params.image_size)
        drawn = Image.new("RGB", (_TILE_SIDE, _TILE_SIDE + _VALUE_HEIGHT))
        drawn.paste(Image.fromarray(small).resize((_TILE_SIDE, _TILE_SIDE)))
        text = f"{row.sharpness:.0f}"
        ImageDraw.Draw(drawn).text((2, _TILE_SIDE), text, font=font, fill=(228, 228, 231))
        return np.asarray(drawn)

    allowed = sorted(
        (row for row in rows if row.reason != DENIED), key=lambda row: (row.sharpness, row.crop)
    )
    limit = f"blur_threshold {params.blur_threshold:g} ({_measure(params)})"
    below = [row for row in allowed if row.sharpness < params.blur_threshold]
    sections = []
    for caption, part in ((f"below {limit}", below), (f"from {limit} on", allowed[len(below) :])):
        sample = [part[index] for index in _spread(len(part), _MAX_TILES)]
        tiles = [drawn for _, drawn in ordered_map(tile, sample)]
        shown = f" ({len(sample)} shown)" if len(sample) < len(part) else ""
        stacked = np.stack(tiles) if tiles else np.zeros((0, 1, 1, 3), np.uint8)
        sections.append((f"{caption}: {len(part)}{shown}", stacked))
    return images.sheet(sections, _COLUMNS)


def _measure(params: config.Params) -> str:
    if params.curate.sharpness_at == "crop":
        return "variance of the Laplacian of the whole crop at 256 pixels"
    return f"sharpness inside the face at {params.image_size} pixels"


def sharpness_bins(rows: Sequence[DatasetRow]) -> list[SharpnessBin]:
    """The histogram of sharpness of all crops that are not denied."""
    return sharpness_histogram(row.sharpness for row in rows if row.reason != DENIED)


def _spread(count: int, limit: int) -> list[int]:
    """At most `limit` of 0 … count − 1, evenly spread."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, limit))}) if count else []


def sharpness_chart(rows: Sequence[DatasetRow], params: config.Params) -> bytes:
    """PNG of the histogram of `sharpness_bins`, with the threshold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    # On a logarithmic axis the first bin, from 0, joins the next one, and the last the one before.
    first, *inner, last = (bin_.crops for bin_ in sharpness_bins(rows))
    inner[0] += first
    inner[-1] += last
    edges = SHARPNESS_EDGES[1:]
    figure = Figure(figsize=(8, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(edges[:-1], bins=edges, weights=inner, color="#5b8def")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel(f"{_measure(params)}; the outer bins are open")
    axes.set_ylabel("crops")
    values = [row.sharpness for row in rows if row.reason != DENIED]
    threshold = params.blur_threshold
    below = sum(value < threshold for value in values)
    axes.set_title(f"{below} of {len(values)} crops are below the threshold")
    if threshold > 0:
        label = f"threshold {threshold:g}"
        axes.axvline(threshold, color="#d6455d", linewidth=2, label=label)
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
