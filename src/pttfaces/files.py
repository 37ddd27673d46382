"""Writes files atomically, reads and writes JSON, and computes digests.

Every write goes to a temporary name in the same folder and is renamed: whenever the writer is
killed, a reader never sees half a file.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pttfaces.errors import DataError

_STARTED = time.monotonic()


@contextmanager
def atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path`, whole, when the block ends without an error.

    DataError: a folder is there.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the path of a file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp, whose files nobody else can read: who can is the umask's to say.
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with name.open("xb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        if sys.platform == "win32" and path.exists():  # it does not replace DVC's read-only files
            path.chmod(stat.S_IWRITE)
        name.replace(path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raises the OSError that a library hides: torch in a RuntimeError, Rust code in a message."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
            raise error.__context__ from None
        if said := re.search(r"\(os error (\d+)\)", str(error)):
            number = int(said[1])
            raise OSError(number, os.strerror(number)) from None
        raise


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes `content` to `path`, atomically; parents are made."""
    with atomic(path) as handle:
        handle.write(content)


def make_editable(path: str | Path) -> None:
    """Replaces a link into DVC's cache by a copy, so that a person can edit the file.

    Such a link is read-only, and an editor that overrides this would change the cached version.
    """
    path = Path(path)
    if path.exists() and (path.stat().st_nlink > 1 or not path.stat().st_mode & stat.S_IWUSR):
        write_bytes(path, path.read_bytes())


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8 with `\\n` line ends on every system, atomically."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON for people: indented, in the order given, non-ASCII kept, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The value in a JSON file; DataError where it is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing_file_error(path) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); delete it and run `dvc repro`.") from None


def write_json_lines(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object per line (JSON Lines), atomically."""
    with atomic(path) as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def read_json_lines(path: str | Path, fields: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file.

    DataError: no such file, or a line that is not a JSON object or lacks one of `fields`.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise missing_file_error(path) from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8; delete it and run `dvc repro`.") from None
    rows: list[Any] = []
    needed = set(fields)
    # Not splitlines(): a title may hold U+2028, which ends a line there, but not in JSON Lines.
    for number, line in enumerate(text.split("\n"), 1):
        if line:
            rows.append(parse_object(line))
            if rows[-1] is None or not needed <= rows[-1].keys():
                what = (
                    "is not a JSON object"
                    if rows[-1] is None
                    else "lacks a field that this file needs"
                )
                raise DataError(
                    f"{path}, line {number}, {what}; delete the file and run `dvc repro`."
                )
    return rows


def parse_record(record: bytes) -> Any:
    """The JSON of a cache's record, before which version 0.1 wrote a checksum. ValueError: none."""
    return json.loads(re.sub(rb"^[0-9a-f]{8} ", b"", record))


def parse_object(line: str) -> dict[str, Any] | None:
    """The JSON object in a line of JSON Lines; None if it holds none."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(line)
        return value if isinstance(value, dict) else None
    return None


def write_metrics(stage: str, values: Mapping[str, Any]) -> None:
    """Writes `metrics/<stage>.json` with the seconds since the process began as its last entry."""
    seconds = round(time.monotonic() - _STARTED, 1)
    write_json(f"metrics/{stage}.json", {**values, "seconds": seconds})


def flatten(values: Mapping[str, Any], separator: str = ".", prefix: str = "") -> dict[str, Any]:
    """Nested groups as one level: {"train": {"epochs": 3}} → {"train.epochs": 3}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, separator, f"{prefix}{key}{separator}")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def clean_folder(path: str | Path) -> Path:
    """An empty folder at `path`; what an earlier run left there is removed."""
    path = Path(path)
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path


def remove_file(path: Path) -> None:
    """Deletes a file, also a read-only one; a missing file is no error."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:  # Windows keeps a read-only file, which DVC's hard links are
        path.chmod(0o644)
        path.unlink()


def digest_bytes(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of the value's canonical JSON."""
    return digest_bytes(json.dumps(value, sort_keys=True, default=str).encode())


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_tree(folder: str | Path, skip: Collection[str] = ()) -> str:
    """SHA-256 over the relative names and contents of all files below `folder`, sorted by name.

    skip: relative names to leave out.
    """
    folder = Path(folder)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return digest_json([[name, digest_file(folder / name)] for name in names if name not in skip])


def missing_file_error(path: str | Path) -> DataError:
    """The error to raise for a file that an earlier stage should have made."""
    return DataError(f"{path} does not exist; run `dvc repro`, which makes it.")
