"""Caches results on disk as they come in, by URL: a line of JSON for each.

A line is the URL and the list of a `Result`'s fields, with the `ImageInfo` as a list in it. A kill
costs at most the line that is being written; a damaged line is ignored.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yarl import URL

from pttfaces import files, workdir
from pttfaces.download.addresses import clean_url
from pttfaces.download.result import ImageInfo, RejectedError, Result

CACHE_VERSION = 3
"""Raise it when the client or `image_type` would give another result for a response; `_take_over`
says which earlier results stay valid, and all other URLs are requested again."""

ASK_AGAIN_S = 24 * 3600.0  # after this time a 404 is requested once more

_ENCODE = json.JSONEncoder(ensure_ascii=False).encode  # `dumps` would make one for each line


class ResultCache:
    """The `results` in a file, by URL; later lines win. A new one begins with earlier versions'."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            _take_over(path)
        self.results = read_cache(path)
        lines = path.read_bytes().count(b"\n") if path.exists() else 0
        if lines > 2 * len(self.results) + 1000:  # repeated failures add up
            _write(path, self.results)
        self._file = path.open("ab")

    def add(self, url: str, result: Result) -> None:
        """Appends a result; the operating system has it when this returns."""
        self.results[url] = result
        self._file.write(_line(url, result))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


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


def _take_over(path: Path) -> None:
    """Moves the results of earlier versions into one file, whatever this version judges alike.

    Version 0.1 had a file for each version of its code.
    """
    form = re.compile(re.escape(path.name.partition(".")[0]) + r"(-[0-9a-f]{16}|\.v[12])\.jsonl")
    old = [other for other in path.parent.iterdir() if form.fullmatch(other.name)]
    results: dict[str, Result] = {}
    for other in sorted(old, key=lambda other: other.stat().st_mtime_ns):
        written = other.stat().st_mtime
        results |= {
            url: result._replace(ask_again=written + ASK_AGAIN_S)
            if result.http_status == 404
            else result
            for url, result in read_cache(other).items()
        }
    if old:
        _write(path, {url: each for url, each in results.items() if not _is_outdated(url, each)})
        for other in old:
            other.unlink()


def _is_outdated(url: str, result: Result) -> bool:
    """Whether this version would judge a file otherwise, or would send another path or query."""
    if result.image:
        return not result.image.whole
    if result.status == "not_an_image":
        return True
    try:
        return str(clean_url(url)) != str(URL(url))
    except (RejectedError, ValueError):
        return True


def _digest(cache_namespace: Any) -> str:
    return files.digest_json(cache_namespace)[:16]


def _write(path: Path, results: Mapping[str, Result]) -> None:
    with files.atomic(path) as handle:
        handle.writelines(_line(url, result) for url, result in results.items())


def _parse(line: bytes) -> dict[str, Result]:
    """The line's result by its URL; {} for a damaged line or one of another form."""
    try:
        url, fields = files.parse_record(line)
        result = Result(*fields)
        image = result.image and ImageInfo(*result.image)
    except (ValueError, TypeError):
        return {}
    return {url: result._replace(image=image)}


def _line(url: str, result: Result) -> bytes:
    # The line break comes first: the line after one that a kill has cut is not lost with it.
    return b"\n" + _ENCODE((url, result)).encode()
