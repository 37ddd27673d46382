"""Defines the tables that stages write, one dataclass each, and reads and writes them.

A field is a column, in the file's order. Its type says how a cell is read and written: `int | None`
and `float | None` may be empty, `Fixed2` has two decimals, `Measure` is NaN where it is empty.
Columns with a default may be missing in a file, such as one of an earlier version.
"""

import csv
import io
import math
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from pttfaces import files
from pttfaces.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# Annotated with the functions that parse a cell and format it.
Fixed2: TypeAlias = Annotated[float, float, "{:.2f}".format]
Measure: TypeAlias = Annotated[
    float,
    lambda cell: float(cell) if cell else math.nan,
    lambda value: None if math.isnan(value) else value,
]
Row = TypeVar("Row")

RENAMED = {"blur": "sharpness"}  # column of version 0.1 → its name since
csv.field_size_limit(2**31 - 1)  # an address may be longer than the usual limit of 128 KiB
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Article:
    """An article that passes the filters: a line of data/articles.jsonl.

    date: YYYY-MM-DD in UTC+8; nrec: popularity, −100 to 100, 0 where it is blank; board: its name,
    "" in tables of version 0.2.
    """

    id: str
    url: str
    title: str
    author: str
    date: str
    nrec: int
    board: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """An image that an article links: a line of data/links.jsonl.

    position: from 0, in the article's order; posted: the link as posted; addresses: where the
    image may be, to be tried in order, none where only the page behind the link has its address;
    place: body or push; author: the user id beside a push, "" in the body.
    """

    article: str
    position: int
    posted: str
    addresses: tuple[str, ...]
    place: str
    author: str = ""


@dataclass(frozen=True, slots=True)
class ArticleStatus:
    """The outcome of reading an article: a row of data/articles_read.csv."""

    article: str
    status: str
    links: int


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """The outcome of a link or a local file: a row of data/ledger.csv.

    place: body, push or inbox (where article and position are empty); url: the address that served
    the image, the link's first one where none did; attempts: at that address, None where none was
    made; path: below data/raw, "" where no bytes are kept.
    """

    article: str
    position: int | None
    place: str
    url: str
    status: str
    error: str
    attempts: int | None
    http_status: int | None
    final_url: str
    bytes: int | None
    sha256: str
    format: str
    width: int | None
    height: int | None
    path: str


@dataclass(frozen=True, slots=True)
class HostRow:
    """What became of a host's links: a row of data/hosts.csv.

    fetched: links whose image is in data/raw; gone: links whose image was taken down; unresolved:
    links that lead to a page whose image has no known address; example: one of the links.
    """

    host: str
    links: int
    fetched: int
    gone: int
    unresolved: int
    example: str


@dataclass(frozen=True, slots=True)
class Detection:
    """A face of an image, or why it has none (`reason`): a row of data/detections.csv.

    image: path below data/raw; width, height: of the upright image; face: number in the image,
    largest first; box and landmarks: in pixels of the upright image, left and right as seen in it.
    """

    image: str
    width: int | None = None
    height: int | None = None
    face: int | None = None
    score: Fixed2 | None = None
    box_x: Fixed2 | None = None
    box_y: Fixed2 | None = None
    box_w: Fixed2 | None = None
    box_h: Fixed2 | None = None
    left_eye_x: Fixed2 | None = None
    left_eye_y: Fixed2 | None = None
    right_eye_x: Fixed2 | None = None
    right_eye_y: Fixed2 | None = None
    nose_x: Fixed2 | None = None
    nose_y: Fixed2 | None = None
    mouth_left_x: Fixed2 | None = None
    mouth_left_y: Fixed2 | None = None
    mouth_right_x: Fixed2 | None = None
    mouth_right_y: Fixed2 | None = None
    eyes_found: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CropRow:
    """A crop and its quality, or why a face has none (`reason`): a row of data/crops.csv.

    crop: file name in data/crops; image: path below data/raw; face: number in the image; sharpness:
    variance of the Laplacian; face_px: shorter side of the face's box, in pixels of the image;
    upscale: crop pixels per image pixel; brightness: mean grey, 0…255; yaw, pitch, roll: of the
    head, in degrees; score: the detector's, 0…1; phash: perceptual hashes, in hex; outside: share
    of the crop that lies outside its image, 0…1, None in a table of an earlier version. Without a
    crop all measures are NaN.
    """

    crop: str
    image: str
    face: int
    sharpness: Measure
    face_px: Measure
    upscale: Measure
    brightness: Measure
    yaw: Measure
    pitch: Measure
    roll: Measure
    score: Measure
    phash: str
    outside: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A crop from its source to its split: a row of data/dataset.csv.

    article, author, url: where its image was found first ("" for articles and authors of local
    files); sha256: of the image; sharpness: as `curate.sharpness_at` measures it; face … score and
    outside: as in `CropRow`; split: train, holdout, or "" where `reason` says why it is left out;
    duplicate_of: the crop that stays in its place; board, date: of the article. A denied crop has
    neither article, author, url, board nor date.
    """

    crop: str
    article: str
    author: str
    url: str
    sha256: str
    face: int
    sharpness: float
    face_px: float
    upscale: float
    brightness: float
    yaw: float
    pitch: float
    roll: float
    score: float
    split: str
    reason: str
    duplicate_of: str
    board: str
    date: str
    outside: float | None


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """An image of the data set: a row of data/dataset/manifest.csv."""

    picture: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """An image of the data set as Hugging Face's loaders describe it: a row of metadata.csv.

    file_name: in the table's folder; the rest as in `CropRow`.
    """

    file_name: str
    sharpness: float
    face_px: float
    upscale: float
    brightness: float
    yaw: float
    pitch: float
    roll: float
    score: float


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch of a training: a row of metrics/plots/epochs.csv.

    train_loss: mean weighted loss; val_loss: None without held-out images; learning_rate: at its
    last step; grad_norm: mean, before clipping.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    learning_rate: float
    grad_norm: float
    images_per_s: float


@dataclass(frozen=True, slots=True)
class SharpnessBin:
    """A bin of the histogram of sharpness: a row of metrics/plots/blur.csv.

    variance: the bin's lower edge.
    """

    variance: float
    crops: int


def columns(row: Any) -> tuple[str, ...]:
    """The columns of a table, in order."""
    return tuple(field.name for field in fields(row))


def write(path: str | Path, rows: Iterable[Any], row: type) -> None:
    """Writes a CSV table of `row` objects, atomically."""
    names, forms = columns(row), [form for _, form in _converters(row)]
    # Not `astuple`, which copies every cell: that takes seconds for a year's ledger.
    cells = ([getattr(item, name) for name in names] for item in rows)
    write_csv(
        path, names, ([f(cell) for f, cell in zip(forms, line, strict=True)] for line in cells)
    )


def read(path: str | Path, row: type[Row]) -> list[Row]:
    """The rows of a CSV table; further columns are ignored.

    DataError: no such file, a column is missing, a row is cut, or a cell is not of its column's
    type.
    """
    names, parsers = columns(row), [parse for parse, _ in _converters(row)]
    try:
        text = Path(path).read_bytes().decode()
        header, *lines = csv.reader(io.StringIO(text), strict=True)
        header = [RENAMED.get(name, name) for name in header]
        lacking = [name for name in names if name not in header]
        # An earlier version lacks columns that have a default; a damaged header has unknown names.
        if lacking and (set(lacking) & set(_required(row)) or set(header) - set(names)):
            raise ValueError(f"it lacks {', '.join(lacking)}")
        if not text.endswith("\n") or any(len(line) != len(header) for line in lines):
            raise ValueError("a row is cut off")
        cells = [
            (name, header.index(name), parse)
            for name, parse in zip(names, parsers, strict=True)
            if name in header
        ]
        return [
            row(**{name: parse(line[index].removeprefix("'")) for name, index, parse in cells})
            for line in lines
        ]
    except FileNotFoundError:
        raise files.missing_file_error(path) from None
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"{path} is not a valid table ({error}); delete it and run `dvc repro`."
        ) from None


def read_csv(table: str | Path | IO[bytes], **options: Any) -> "pd.DataFrame":
    """A CSV table as text, empty cells as "", under today's names of the columns, for a notebook.

    options: of `pandas.read_csv`.
    """
    import pandas as pd  # takes half a second

    frame = pd.read_csv(table, dtype=str, keep_default_na=False, encoding="utf-8", **options)
    return frame.rename(columns=RENAMED).apply(lambda column: column.str.removeprefix("'"))


def write_jsonl(path: str | Path, rows: Iterable[Any]) -> None:
    """Writes rows as JSON Lines, atomically."""
    files.write_json_lines(path, (asdict(row) for row in rows))


def read_jsonl(path: str | Path, row: type[Row]) -> list[Row]:
    """The rows of a JSON Lines file, with lists as tuples; further fields are ignored.

    DataError: no such file, or a line that is no such row.
    """
    names = columns(row)
    return [
        row(**{name: _frozen(entry[name]) for name in names if name in entry})
        for entry in files.read_json_lines(path, _required(row))
    ]


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table with `\\n` line ends, atomically; None is an empty cell.

    A text that a spreadsheet would run as a formula (CSV injection, CWE-1236) gets a ' before it,
    which reading removes; numbers stay as they are.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_escape_formula(cell) for cell in row] for row in rows)
    files.write_text(path, text.getvalue())


def write_columns(path: str | Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """As `write_csv`, of columns of equal length by their names."""
    write_csv(path, list(columns), zip(*columns.values(), strict=True))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _escape_formula(cell: Any) -> Any:
    risky = isinstance(cell, str) and cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if risky else cell


def _required(row: Any) -> list[str]:
    """The columns without a default."""
    return [field.name for field in fields(row) if field.default is MISSING]


def _converters(row: Any) -> list[tuple[Callable[[str], Any], Callable[[Any], Any]]]:
    """For each column, the function that parses a cell and the one that formats it."""
    hints = typing.get_type_hints(row, include_extras=True)
    return [_converter(hints[name]) for name in columns(row)]


def _converter(hint: Any) -> tuple[Callable[[str], Any], Callable[[Any], Any]]:
    options = typing.get_args(hint)
    if NoneType in options:
        parse, form = _converter(options[0])
        return (
            lambda cell: parse(cell) if cell else None,
            lambda value: None if value is None else form(value),
        )
    if typing.get_origin(hint) is Annotated:
        return options[1], options[2]
    return hint, lambda value: value
