"""Turns the names by which a person says what to forget into entries of the deny list."""

from collections.abc import Iterable
from pathlib import Path

from pttfaces import files
from pttfaces.board import article_ids
from pttfaces.denylist import CROP, expected_form
from pttfaces.errors import ParamsError


def entries(
    *,
    url: Iterable[str] = (),
    article: Iterable[str] = (),
    author: Iterable[str] = (),
    sha256: Iterable[str] = (),
    crop: Iterable[str] = (),
) -> list[str]:
    """The names as entries of the deny list, kind:value. ParamsError: a name that cannot be one."""
    articles = [article_ids.article_id_in(name) or name for name in article]
    found = [f"article:{name}" for name in articles]
    for address in url:
        article_id = article_ids.article_id_in(address)
        found.append(f"article:{article_id}" if article_id else f"url:{address}")
    found += [f"author:{name}" for name in author]
    found += [f"sha256:{digest.lower()}" for digest in sha256]
    keys = map(table_key, crop)
    found += [f"crop:{key}" if CROP.fullmatch(key) else f"sha256:{key}" for key in keys]
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
