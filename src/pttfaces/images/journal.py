"""What is known of each URL, on disk as it becomes known: one JSON line an outcome, appended.

A kill costs at most the line being written, which is then ignored. Knows nothing of networks.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from pttfaces import files
from pttfaces.images.outcome import Outcome, Picture

_OUTCOME = [field.name for field in fields(Outcome)]
_PICTURE = [field.name for field in fields(Picture)]


class Journal:
    """The outcomes in a file, `known` by URL; later lines win. Use `opened`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known: dict[str, Outcome] = {}
        lines = self._load()
        if lines > 2 * len(self.known) + 1000:  # tries of what keeps failing add up
            files.write_jsonl(path, (_entry(url, known) for url, known in self.known.items()))
        self._handle = path.open("ab")

    def add(self, url: str, outcome: Outcome) -> None:
        """Notes how a URL ended; it is in the operating system's hands when this returns."""
        self.known[url] = outcome
        line = json.dumps(_entry(url, outcome), ensure_ascii=False)
        self._handle.write(line.encode() + b"\n")
        self._handle.flush()

    def close(self) -> None:
        """Ends the writing."""
        self._handle.close()

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
    """The line's outcome by its URL; {} for a line that a kill or a full disk has cut."""
    try:
        url, outcome = _outcome(json.loads(line))
    except (ValueError, TypeError, KeyError):
        return {}
    return {url: outcome}


def _entry(url: str, outcome: Outcome) -> dict[str, Any]:
    # Not `asdict`: its deep copies would be felt beside the download itself.
    entry = {"url": url, **{name: getattr(outcome, name) for name in _OUTCOME}}
    if outcome.picture:
        entry["picture"] = {name: getattr(outcome.picture, name) for name in _PICTURE}
    return entry


def _outcome(entry: dict[str, Any]) -> tuple[str, Outcome]:
    url, picture = entry.pop("url"), entry.pop("picture")
    return url, Outcome(**entry, picture=picture and Picture(**picture))
