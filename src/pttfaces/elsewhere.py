"""Where else in a repository the files of one of its folders lie: in DVC's cache, and in the
working folders that experiments have of their own.

For a folder whose files are named by what is in them. Knows how DVC keeps a folder; vouches for no
bytes: who takes a file from here looks at it first.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from pttfaces import files
from pttfaces.object_ids import entries_of

_OBJECT = re.compile("[0-9a-f]{32}")
_CLONES = ("tmp*", "standalone/tmp*")  # of the queue's tasks, of `dvc exp run --temp`


def copies(folder: str, names: Collection[str]) -> Iterator[tuple[str, Path]]:
    """(name, file) for files that are, or were in some version of the data, `folder`/name.

    names: paths below the folder. It is looked at anew for every file, so that a name that the
    caller takes out is not looked for any more; one that stays in may come again with another file.
    """
    # The cache comes last: a run that has just ended is in its folder until DVC has all of it.
    for place in _other_folders(folder):
        for name in sorted(names):
            if name in names and (place / name).is_file():
                yield name, place / name
    cache = _cache() if names else None
    for listing in _listings(cache) if cache else ():
        if not names:
            return
        for oid, name in _entries(listing):
            if name in names and _OBJECT.fullmatch(oid):
                yield name, listing.parents[1] / oid[:2] / oid[2:]


def _other_folders(folder: str) -> Iterator[Path]:
    """`folder` in the main repository and in its experiments' clones, but for this process' own."""
    root, here = files.root().resolve(), Path(folder).resolve()
    top = next((path for path in (root, *root.parents) if (path / ".git").exists()), root)
    clones = (path for form in _CLONES for path in sorted((root / ".dvc/tmp/exps").glob(form)))
    # A clone is of the whole git repository, in which the project may be a folder.
    places = (root / folder, *(clone / root.relative_to(top) / folder for clone in clones))
    return (place for place in places if place.is_dir() and place.resolve() != here)


def _cache() -> Path | None:
    """The folder of the cache's objects; None without a DVC repository that can be opened."""
    try:
        from dvc.repo import Repo  # takes most of a second

        with Repo(str(files.root())) as repo:
            return Path(repo.cache.local.path)
    except Exception:  # of many kinds; what is not found here is asked for
        return None


def _listings(cache: Path) -> list[Path]:
    """What the cache has of folders, the newest first: most often the last one is wanted back."""
    found: list[tuple[float, Path]] = []
    for place in cache.iterdir() if cache.is_dir() else ():
        with contextlib.suppress(OSError):  # as where `dvc gc` is at work
            for entry in os.scandir(place):
                if entry.name.endswith(".dir"):
                    found.append((entry.stat().st_mtime, Path(entry.path)))
    return [path for _, path in sorted(found, reverse=True)]


def _entries(listing: Path) -> list[tuple[str, str]]:
    """(md5, relative path) of a folder's files; none of a damaged list, or one that is gone."""
    try:
        return entries_of(listing.read_bytes()) or []
    except OSError:
        return []
