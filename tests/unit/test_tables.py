"""Tables: their columns, and rows that come back as they were written."""

import contextlib
import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pttfaces import tables
from pttfaces.errors import DataError
from pttfaces.tables import CropRow, Fixed2

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n")) | st.from_regex(
    r"[=+@'-][\w().-]{0,8}", fullmatch=True
)
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Numbers:
    id: str
    n: int | None
    x: float | None
    y: Fixed2 | None = None


@dataclass(frozen=True)
class Texts:
    title: str
    author: str


def test_read_of_a_written_table_gives_its_texts_and_numbers(tmp_path: Path) -> None:
    rows = [Numbers("007", 3, 0.5, 0.25), Numbers("NA", None, None)]
    tables.write(tmp_path / "t.csv", rows, Numbers)
    assert (tmp_path / "t.csv").read_bytes() == b"id,n,x,y\n007,3,0.5,0.25\nNA,,,\n"
    assert tables.read(tmp_path / "t.csv", Numbers) == rows


def test_write_of_a_column_with_two_decimals_rounds_it(tmp_path: Path) -> None:
    tables.write(tmp_path / "t.csv", [Numbers("a", 1, 2.0, 3.14159)], Numbers)
    assert (tmp_path / "t.csv").read_bytes() == b"id,n,x,y\na,1,2.0,3.14\n"


@given(rows=st.lists(st.builds(Texts, CELLS, CELLS), max_size=5))
@example(rows=[Texts("=HYPERLINK(1)", "'=1"), Texts("-1.5e3", "")])
def test_write_of_any_text_keeps_it_and_lets_no_spreadsheet_run_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Texts]
) -> None:
    path = tmp_path_factory.mktemp("table") / "t.csv"
    tables.write(path, rows, Texts)
    assert tables.read(path, Texts) == rows
    with path.open(encoding="utf-8", newline="") as handle:
        cells = [cell for row in csv.reader(handle) for cell in row]
    for cell in cells:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or NUMBER.fullmatch(cell), cell


@given(st.binary(max_size=200), st.integers(0, 300))
def test_read_of_a_cut_or_damaged_table_raises_at_most_data_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, end: int
) -> None:
    path = tmp_path_factory.mktemp("table") / "t.csv"
    rows = [Numbers('表特, "quoted"', number, 0.5) for number in range(5)]
    tables.write(path, rows, Numbers)
    path.write_bytes(path.read_bytes()[:end] + noise)
    with contextlib.suppress(DataError):
        tables.read(path, Numbers)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("id,n\na,1\n", "it lacks x, y"),
        ("id,n,x,y\na,1,2.0\n", "a row is cut"),
        ("id,n,x,y\na,one,2.0,3.0\n", "invalid literal"),
    ],
)
def test_read_of_another_table_raises_with_the_reason(
    tmp_path: Path, content: str, reason: str
) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=rf"t\.csv is not a valid table \({reason}"):
        tables.read(tmp_path / "t.csv", Numbers)


def test_read_of_a_missing_table_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dvc repro"):
        tables.read(tmp_path / "none.csv", Numbers)


def test_read_of_the_column_blur_of_version_0_1_gives_sharpness(tmp_path: Path) -> None:
    path = tmp_path / "crops.csv"
    row = CropRow("a-0.png", "a.jpg", 0, 12.5, 60.0, 1.0, 90.0, 0.0, 0.0, 0.0, 0.9, "ab" * 32)
    tables.write(path, [row, replace(row, face=1)], CropRow)
    text = path.read_text("utf-8")
    assert ",sharpness," in text
    path.write_text(text.replace(",sharpness,", ",blur,"), encoding="utf-8")
    assert tables.read(path, CropRow) == [row, replace(row, face=1)]
