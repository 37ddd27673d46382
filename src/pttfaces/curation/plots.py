"""Draws what curation did: sheets of the crops, by reason and by sharpness, and a histogram."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pttfaces import config, images
from pttfaces.curation.candidates import DENIED
from pttfaces.curation.filters import BLURRED, CROP_REASONS
from pttfaces.curation.image_export import downscale_file
from pttfaces.curation.splits import HOLDOUT, TRAIN
from pttfaces.faces.parallel import ordered_map
from pttfaces.tables import DatasetRow, SharpnessBin

_TILE_SIDE = 96
_COLUMNS = 12
_MAX_TILES = 48  # in a section
_VALUE_HEIGHT, _VALUE_SIZE = 16, 12  # pixels: of the line below a tile, and of its text
# Bins of the histogram of sharpness: quarters of an octave around 100, the original's threshold; 0,
# 6.25 … 6400.
_EDGES = (0.0, *(100 * 2 ** (step / 4) for step in range(-16, 25)))

_Item = TypeVar("_Item")


def contact_sheet(rows: Sequence[DatasetRow], crops: Path, params: config.Params) -> Image.Image:
    """Crops under captions: those that stay, and those that are left out, by reason.

    crops: their folder. A sample of each section is shown.
    """

    def tile(name: str) -> np.ndarray:
        return downscale_file(crops / name, _TILE_SIDE)

    sections = [_sample(*section, tile) for section in sheet_sections(rows, params)]
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
    above = allowed[len(below) :]
    sections = [
        _sample(f"below {limit}: {len(below)}", below, tile),
        _sample(f"from {limit} on: {len(above)}", above, tile),
    ]
    return images.sheet(sections, _COLUMNS)


def _sample(
    caption: str, items: Sequence[_Item], tile: Callable[[_Item], np.ndarray]
) -> tuple[str, np.ndarray]:
    """A section of a sheet: its caption, and the tiles of at most _MAX_TILES, evenly spread."""
    spread = np.linspace(0, len(items) - 1, min(len(items), _MAX_TILES)).round().astype(int)
    sample = [items[index] for index in spread]
    if len(sample) < len(items):
        caption += f" ({len(sample)} shown)"
    tiles = [drawn for _, drawn in ordered_map(tile, sample)]
    return caption, np.stack(tiles) if tiles else np.zeros((0, 1, 1, 3), np.uint8)


def _measure(params: config.Params) -> str:
    if params.curate.sharpness_at == "crop":
        return "variance of the Laplacian of the whole crop at 256 pixels"
    return f"sharpness inside the face at {params.image_size} pixels"


def sharpness_bins(rows: Sequence[DatasetRow]) -> list[SharpnessBin]:
    """The histogram of sharpness of all crops that are not denied; its last bin is open."""
    counts, _ = np.histogram(_shown_values(rows), [*_EDGES, np.inf])
    return [
        SharpnessBin(round(edge, 2), int(count)) for edge, count in zip(_EDGES, counts, strict=True)
    ]


def _shown_values(rows: Sequence[DatasetRow]) -> np.ndarray:
    return np.array([row.sharpness for row in rows if row.reason != DENIED], float)


def sharpness_chart(rows: Sequence[DatasetRow], params: config.Params) -> bytes:
    """PNG of the histogram of `sharpness_bins`, with the threshold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    values, edges = _shown_values(rows), _EDGES[1:]  # no 0 on a logarithmic axis
    figure = Figure(figsize=(8, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(np.clip(values, edges[0], edges[-1]), bins=edges, color="#5b8def")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel(f"{_measure(params)}; the outer bins are open")
    axes.set_ylabel("crops")
    threshold = params.blur_threshold
    axes.set_title(f"{(values < threshold).sum()} of {len(values)} crops are below the threshold")
    if threshold > 0:
        label = f"threshold {threshold:g}"
        axes.axvline(threshold, color="#d6455d", linewidth=2, label=label)
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
