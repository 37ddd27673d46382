import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import settings
from candidates_support import candidate, filtered
from faces_support import Portrait
from PIL import Image

from pttfaces import files, images
from pttfaces.curation import plots
from pttfaces.denylist import DenyList


def test_contact_sheet_of_many_crops_shows_a_sample_of_each_section(
    tmp_path: Path, portraits: list[Portrait]
) -> None:
    crop = images.png_bytes(Image.fromarray(portraits[0].pixels[:256, :256]))
    rows = filtered([candidate(n, sharpness=500 if n < 60 else 3) for n in range(63)])
    for row in rows:
        files.write_bytes(tmp_path / row.crop, crop)
    rows = [row if row.reason else replace(row, split="train") for row in rows]
    sheet = plots.contact_sheet(rows, tmp_path, settings.params())
    assert sheet.height // 96 == 5, "48 of 60 in four rows, and three in one"


def test_sheet_sections_of_denied_crops_give_a_count_and_no_names() -> None:
    (row,) = filtered([candidate(1)], DenyList.of(["article:M.1704074641.A.001"]))
    sections = plots.sheet_sections([row], settings.params())
    assert sections[-1] == ("left out (denied): 1", [])
    assert row.crop not in str(sections)


def test_sharpness_sheet_shows_crops_in_order_on_either_side_of_the_threshold(
    tmp_path: Path,
) -> None:
    """A crop's grey is its sharpness here; denied crops are not shown."""
    values = (200, 30, 120, 90, 160)
    crops = [
        candidate(n, f"M.170407464{n}.A", sharpness=float(value)) for n, value in enumerate(values)
    ]
    deny = DenyList.of(["article:M.1704074644.A"])
    rows = filtered(crops, deny)
    for row, value in zip(rows, values, strict=True):
        images.save_png(tmp_path / row.crop, Image.new("RGB", (256, 256), (value,) * 3))
    params = settings.params(blur_threshold=100)
    sheet = np.asarray(plots.sharpness_sheet(rows, tmp_path, params).convert("L"))
    tiles = [int(value) for value in sheet[:, 48] if value in values]
    assert list(dict.fromkeys(tiles)) == [30, 120], "the least sharp one of each side"
    below, above = (sheet[list(sheet[:, 48]).index(value)] for value in (30, 120))
    assert [v for v in dict.fromkeys(below.tolist()) if v in values] == [30, 90]
    assert [v for v in dict.fromkeys(above.tolist()) if v in values] == [120, 200]


def test_sharpness_chart_of_the_same_rows_is_the_same_image() -> None:
    rows = filtered([candidate(n, sharpness=s) for n, s in enumerate((5.0, 80.0, 120.0, 9000.0))])
    chart = plots.sharpness_chart(rows, settings.params())
    assert chart == plots.sharpness_chart(rows, settings.params())
    assert Image.open(io.BytesIO(chart)).size == (800, 400)


def test_sharpness_bins_count_every_crop_with_an_edge_at_the_threshold() -> None:
    """At 100, the original's."""
    values = [0, 3, 99.99, 100, 101, 5000, 1e6]
    bins = plots.sharpness_bins(
        filtered([candidate(n, sharpness=float(value)) for n, value in enumerate(values)])
    )
    assert sum(one.crops for one in bins) == len(values)
    assert sum(one.crops for one in bins if one.variance < 100) == 3
    assert 100 in [one.variance for one in bins]
