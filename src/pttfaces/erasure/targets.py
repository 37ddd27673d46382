"""Turns the names by which a person says what to forget into entries of the deny list."""

from collections.abc import Iterable
from pathlib import Path

from pttfaces import files
from pttfaces.board import article_ids
from pttfaces.denylist import CROP, SHA256, expected_form
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
    found = []
    for address in url:
        article_id = article_ids.article_id_in(address)
        found.append(f"article:{article_id}" if article_id else f"url:{address}")
    for name in article:
        is_id = article_ids.posted_at(name) is not None
        article_id = name if is_id else article_ids.article_id_in(name)
        if article_id is None:
            raise ParamsError(
                f"--article {name} is no article; write its id, such as M.1704074641.A.0F3, or its "
                "address."
            )
        found.append(f"article:{article_id}")
    found += [f"author:{name}" for name in author]
    for digest in sha256:
        if not SHA256.fullmatch(digest.lower()):
            raise ParamsError(f"--sha256 {digest}: a digest has 64 hex digits; write all of them.")
        found.append(f"sha256:{digest.lower()}")
    for file in crop:
        name = table_key(file)
        found.append(f"crop:{name}" if CROP.fullmatch(name) else f"sha256:{name}")
    for entry in found:
        if " #" in entry or len(entry.splitlines()) != 1 or expected_form(entry):
            form = expected_form(entry) or "a plain name, on one line and without ' #'"
            raise ParamsError(f"{entry!r} cannot be an entry of the deny list; allowed is {form}.")
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
