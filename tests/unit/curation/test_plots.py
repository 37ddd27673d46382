import io
from dataclasses import replace
from pathlib import Path

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
    sheet = plots.contact_sheet(rows, tmp_path, 100)
    assert sheet.height // 96 == 5, "48 of 60 in four rows, and three in one"


def test_sheet_sections_of_denied_crops_give_a_count_and_no_names() -> None:
    (row,) = filtered([candidate(1)], DenyList.of(["article:M.1704074641.A.001"]))
    sections = plots.sheet_sections([row], 100)
    assert sections[-1] == ("left out (denied): 1", [])
    assert row.crop not in str(sections)


def test_sharpness_chart_of_the_same_rows_is_the_same_image() -> None:
    rows = filtered([candidate(n, sharpness=s) for n, s in enumerate((5.0, 80.0, 120.0, 9000.0))])
    chart = plots.sharpness_chart(rows, 100)
    assert chart == plots.sharpness_chart(rows, 100)
    assert Image.open(io.BytesIO(chart)).size == (800, 400)
