"""What is known of each URL, on disk as it becomes known: a sealed line of JSON an outcome.

A line is the URL and the list of an Outcome's fields, with the Picture's as a list in it. A kill
costs at most the line being written; that one, and any that a disk has damaged, is ignored. Knows
nothing of networks.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pttfaces import files
from pttfaces.download.result import Outcome, Picture

_ENCODE = json.JSONEncoder(ensure_ascii=False).encode  # `dumps` would make one for each line


class Journal:
    """The outcomes in a file, `known` by URL; later lines win. Use `opened`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known: dict[str, Outcome] = {}
        lines = self._load()
        if lines > 2 * len(self.known) + 1000:  # tries of what keeps failing add up
            self._rewrite()
        self._handle = path.open("ab")

    def add(self, outcomes: Iterable[tuple[str, Outcome]]) -> None:
        """Notes how URLs ended; it is in the operating system's hands when this returns."""
        outcomes = list(outcomes)
        self.known.update(outcomes)
        self._handle.writelines(_line(url, outcome) for url, outcome in outcomes)
        self._handle.flush()

    def close(self) -> None:
        """Ends the writing."""
        self._handle.close()

    def _rewrite(self) -> None:
        with files.atomic(self._path) as handle:
            handle.writelines(_line(url, outcome) for url, outcome in self.known.items())

    def _load(self) -> int:
        """Fills `known`; returns the number of lines."""
        lines = 0
        if self._path.exists():
            with self._path.open("rb+") as handle:
                for lines, line in enumerate(handle, 1):  # noqa: B007
                    self.known.update(_read(line))
                if lines and not line.endswith(b"\n"):
                    handle.write(b"\n")  # or the next line would be lost with the cut one
        return lines


@contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """A journal that is closed when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(path)
    try:
        yield journal
    finally:
        journal.close()


def read(path: Path) -> dict[str, Outcome]:
    """What a journal tells, without opening it for writing."""
    known: dict[str, Outcome] = {}
    with path.open("rb") as handle:
        for line in handle:
            known.update(_read(line))
    return known


def _read(line: bytes) -> dict[str, Outcome]:
    """The line's outcome by its URL; {} for a line that is not whole, or of a code that wrote
    others."""
    try:
        url, outcome = json.loads(files.unseal(line.removesuffix(b"\n")) or b"")
        known = Outcome(*outcome)
        picture = known.picture and Picture(*known.picture)
    except (ValueError, TypeError):
        return {}
    return {url: known._replace(picture=picture)}


def _line(url: str, outcome: Outcome) -> bytes:
    return files.seal(_ENCODE((url, outcome)).encode()) + b"\n"
