"""Caches results on disk as they come in, by URL: a line of JSON with a checksum for each.

A line is the URL and the list of a `Result`'s fields, with the `ImageInfo` as a list in it. A kill
costs at most the line that is being written; a damaged line is ignored.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pttfaces import files, workdir
from pttfaces.download.result import ImageInfo, Result

CACHE_VERSION = 1
"""Raise it when the client or `image_type` would give another result for a response: all earlier
results are then ignored, and every URL is requested again."""

_ENCODE = json.JSONEncoder(ensure_ascii=False).encode  # `dumps` would make one for each line


class ResultCache:
    """The `results` in a file, by URL; later lines win. Use `open_cache`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.results: dict[str, Result] = {}
        lines = self._load()
        if lines > 2 * len(self.results) + 1000:  # repeated failures add up
            self._rewrite()
        self._handle = path.open("ab")

    def add(self, results: Iterable[tuple[str, Result]]) -> None:
        """Appends results; the operating system has them when this returns."""
        results = list(results)
        self.results.update(results)
        self._handle.writelines(_line(url, result) for url, result in results)
        self._handle.flush()

    def close(self) -> None:
        """Closes the file."""
        self._handle.close()

    def _rewrite(self) -> None:
        with files.atomic(self._path) as handle:
            handle.writelines(_line(url, result) for url, result in self.results.items())

    def _load(self) -> int:
        """Fills `results`; returns the number of lines."""
        lines = 0
        if self._path.exists():
            with self._path.open("rb+") as handle:
                for lines, line in enumerate(handle, 1):  # noqa: B007
                    self.results.update(_parse(line))
                if lines and not line.endswith(b"\n"):
                    handle.write(b"\n")  # or the next line would be lost with the cut one
        return lines


def cache_path(cache_namespace: Any) -> Path:
    """The file of a namespace, `<its digest>.v<CACHE_VERSION>.jsonl` in `.cache/download`."""
    return workdir.cache_dir("download") / f"{_digest(cache_namespace)}.v{CACHE_VERSION}.jsonl"


def lock_key(cache_namespace: Any) -> str:
    """The key of the lock for adding results."""
    return f"download-{_digest(cache_namespace)}"


def read_cache(path: Path) -> dict[str, Result]:
    """The results in a file, without opening it for writing; none where there is no file."""
    results: dict[str, Result] = {}
    if path.exists():
        with path.open("rb") as handle:
            for line in handle:
                results.update(_parse(line))
    return results


@contextmanager
def open_cache(path: Path) -> Iterator[ResultCache]:
    """A cache that is closed when the block ends; it begins with what version 0.1 had."""
    if not path.exists():
        _take_over(path)
    cache = ResultCache(path)
    try:
        yield cache
    finally:
        cache.close()


def _take_over(path: Path) -> None:
    """Moves what version 0.1 kept, in a file for each version of its code, into one file."""
    form = re.compile(re.escape(path.name.partition(".")[0]) + "-[0-9a-f]{16}.jsonl")
    old = [other for other in path.parent.iterdir() if form.fullmatch(other.name)]
    old.sort(key=lambda other: other.stat().st_mtime_ns)
    if old:
        files.write_bytes(path, b"\n".join(other.read_bytes() for other in old))
        for other in old:
            other.unlink()


def _digest(cache_namespace: Any) -> str:
    return files.digest_json(cache_namespace)[:16]


def _parse(line: bytes) -> dict[str, Result]:
    """The line's result by its URL; {} for a damaged line or one of another form."""
    try:
        url, fields = json.loads(files.unseal(line.removesuffix(b"\n")) or b"")
        result = Result(*fields)
        image = result.image and ImageInfo(*result.image)
    except (ValueError, TypeError):
        return {}
    return {url: result._replace(image=image)}


def _line(url: str, result: Result) -> bytes:
    return files.seal(_ENCODE((url, result)).encode()) + b"\n"
