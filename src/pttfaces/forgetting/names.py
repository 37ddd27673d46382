"""The names by which a person says what to forget, as entries of the deny list."""

import argparse
from pathlib import Path

from pttfaces import files
from pttfaces.board import ids
from pttfaces.denylist import CROP, SHA256, misfit
from pttfaces.errors import ParamsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds one option for each kind of name; each may be given several times."""
    for kind, what in (
        ("url", "a link to a picture, as posted or as fetched"),
        ("article", "an article's id or address, with all its pictures"),
        ("author", "a user id, with all that this person posted"),
        ("sha256", "a picture's digest"),
        ("crop", "a crop's or picture's file; the whole picture that shows the face goes"),
    ):
        parser.add_argument(f"--{kind}", action="append", default=[], help=what)


def wanted(options: argparse.Namespace) -> list[str]:
    """The names given as entries of the deny list; ParamsError: one that is no such name."""
    entries = []
    for url in options.url:
        article = ids.id_of(url)
        entries.append(f"article:{article}" if article else f"url:{url}")
    for name in options.article:
        article = name if ids.posted_at(name) is not None else ids.id_of(name)
        if article is None:
            raise ParamsError(
                f"--article {name}: that is no article; write its id, such as "
                "M.1704074641.A.0F3, or its address."
            )
        entries.append(f"article:{article}")
    entries += [f"author:{name}" for name in options.author]
    for digest in options.sha256:
        if not SHA256.fullmatch(digest.lower()):
            raise ParamsError(f"--sha256 {digest}: a digest has 64 hex digits; write all of them.")
        entries.append(f"sha256:{digest.lower()}")
    for file in options.crop:
        name = traced(file)
        entries.append(f"crop:{name}" if CROP.fullmatch(name) else f"sha256:{name}")
    for entry in entries:
        if " #" in entry or len(entry.splitlines()) != 1 or misfit(entry):
            form = misfit(entry) or "a plain name, on one line and without ' #'"
            raise ParamsError(f"{entry!r} cannot be an entry of the deny list; allowed is {form}.")
    return entries


def traced(file: str) -> str:
    """What a file is known by: a crop's file name, or the digest of a picture's bytes.

    ParamsError: a file that is no crop and is not there.
    """
    path = Path(file)
    if CROP.fullmatch(path.name):
        return path.name
    if path.is_file():
        return files.digest_file(path)
    raise ParamsError(
        f"{file} is not there, and its name is no crop's; name a file of data/crops, data/dataset "
        "or data/raw."
    )
