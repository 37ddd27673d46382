"""Turns the names by which a person says what to forget into entries of the deny list."""

from collections.abc import Iterable
from pathlib import Path

from pttfaces import files
from pttfaces.board.article_ids import article_id_in
from pttfaces.denylist import CROP, expected_form
from pttfaces.errors import ParamsError


def entries(**names: Iterable[str]) -> list[str]:
    """The names, by the option that gives them, as entries of the deny list, kind:value.

    ParamsError: a name that cannot be one.
    """
    found = [_entry(option, name) for option, given in names.items() for name in given]
    for entry in found:
        if " #" in entry or len(entry.splitlines()) != 1 or expected_form(entry):
            form = expected_form(entry) or "a plain name, on one line and without ' #'"
            raise ParamsError(f"{entry!r} cannot be an entry of the deny list; expected {form}.")
    return found


def table_key(file: str) -> str:
    """What the tables know a file by: a crop's file name, or the SHA-256 of an image's bytes.

    ParamsError: a file that does not exist and whose name is not a crop's.
    """
    path = Path(file)
    if CROP.fullmatch(path.name):
        return path.name
    if path.is_file():
        return files.digest_file(path)
    raise ParamsError(
        f"{file} does not exist, and its name is not a crop's; name a file of data/crops, "
        "data/dataset or data/raw."
    )


def _entry(option: str, name: str) -> str:
    if option in ("article", "url") and (article := article_id_in(name)):
        return f"article:{article}"
    if option == "crop":
        key = table_key(name)
        return f"crop:{key}" if CROP.fullmatch(key) else f"sha256:{key}"
    return f"{option}:{name}"
