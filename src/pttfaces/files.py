"""Reading and writing files so that nothing is lost: atomic writes, digests, tables, zip archives.

Ground floor: knows nothing of boards, faces or models. Every write goes to a temporary name in the
same folder and is renamed, so a reader never sees half a file, whenever the writer is killed.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pttfaces.errors import DataError

if TYPE_CHECKING:  # half a second to import: only where a table is read or written
    import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_STARTED = time.monotonic()
DONE = "done.json"  # in a folder of `resuming`: its work is done, and dvc has not noted it yet
# What zipfile raises on bytes that are no zip, or a damaged one; besides, an OSError (EINVAL) for a
# damaged place to seek, before the file's begin.
NO_ZIP = (
    zipfile.BadZipFile,
    RuntimeError,  # an encrypted part; NotImplementedError: a way of packing that it does not know
    EOFError,
    ValueError,
    zlib.error,
    FileNotFoundError,
    IsADirectoryError,
)


def root() -> Path:
    """The main repository's folder, where state that outlives a stage lies.

    DVC sets DVC_ROOT to it even where a queued experiment runs in a temporary clone; a stage that
    is run by hand runs in the repository itself.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())


def named(path: str | Path) -> Path:
    """The file that a person's parameter names: in the working folder, else below `root`.

    A queued experiment's working folder is a clone without what git does not know.
    """
    path, there = Path(path), root() / path
    return there if there.exists() and not path.exists() else path


def cache_dir(name: str) -> Path:
    """`.cache/<name>`: results that hold whatever the parameters are, keyed by content. Lasts."""
    folder = root() / ".cache" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def resuming(name: str, determinants: Any, until_noted: bool = False) -> Iterator[Path]:
    """`.resume/<name>-<digest>`: half-done work of one result, for the run after a kill.

    determinants: everything that decides the result (JSON types); other determinants, another
    folder. It is removed when the block ends without an error. A second process with the same
    determinants waits until the first has ended.

    until_noted: name is a stage's, whose work is dear: under dvc it stays until dvc.lock has the
    stage's new outs, since a kill before that has the stage run again. `forget_noted_work` then
    removes it.
    """
    key = f"{name}-{digest_json(determinants)[:16]}"
    folder = root() / ".resume" / key
    with alone(name, key):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DONE).unlink(missing_ok=True)
        yield folder
        if until_noted and "DVC_ROOT" in os.environ:
            lock = Path("dvc.lock").absolute()
            mark = {"lock": str(lock), "stage": name, "noted": _noted(lock, name)}
            write_json(folder / DONE, mark)
        else:
            shutil.rmtree(folder)


def forget_noted_work() -> None:
    """Removes what `resuming` left of stages that dvc has noted since, or whose clone is gone."""
    for mark in sorted((root() / ".resume").glob(f"*/{DONE}")):
        # Of a damaged one, or one that is in use on Windows, the next stage's start may know more.
        with contextlib.suppress(DataError, Timeout, KeyError, TypeError, OSError):
            done = read_json(mark)
            lock = Path(done["lock"])
            if lock.parent.exists() and _noted(lock, done["stage"]) == done["noted"]:
                continue
            with FileLock(cache_dir("locks") / f"{mark.parent.name}.lock", timeout=0):
                if mark.exists():
                    shutil.rmtree(mark.parent)


def _noted(lock: Path, stage: str) -> str:
    """The digest of a stage's entry in a dvc.lock; of none where it has no such entry."""
    text = lock.read_text(encoding="utf-8") if lock.exists() else ""
    entry = re.search(rf"^  {stage}:\n(    .*\n)*", text, re.MULTILINE)
    return digest_bytes(entry[0].encode() if entry else b"")


@contextmanager
def alone(name: str, key: str) -> Iterator[None]:
    """Only one process at a time is in this block with this key; a second one waits, and says so.

    name: what to call it to a person. The system lets go of the lock however a process ends.
    """
    lock = FileLock(cache_dir("locks") / f"{key}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"{name}: another run is at work on the same; waiting for it.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path`, whole, when the block ends without an error.

    DataError: a folder is there.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        Path(name).chmod(0o644)  # mkstemp's 0600 would lock out whoever shares the folder
        if sys.platform == "win32" and path.exists():  # replaces no read-only file, as DVC's are
            path.chmod(stat.S_IWRITE)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raises the OSError that a library hides: torch behind a RuntimeError, Rust's in a text."""
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
    """Gives a file that a person edits bytes of its own, where DVC linked it to its cache.

    Such a link is read-only, and an editor that insists would change the cached version as well.
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
        raise _missing(path) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); delete it and run `dvc repro`.") from None


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line (JSON Lines), atomically."""
    with atomic(path) as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def read_jsonl(path: str | Path, fields: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file; DataError names file and line of what is no JSON, or lacks
    one of `fields`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _missing(path) from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8; delete it and run `dvc repro`.") from None
    rows: list[Any] = []
    needed = set(fields)
    # Not splitlines(): a title may hold U+2028, which is a line end there and no line end in JSON.
    for number, line in enumerate(text.split("\n"), 1):
        if line:
            rows.append(_object(line))
            if rows[-1] is None or not needed <= rows[-1].keys():
                what = "is no JSON object" if rows[-1] is None else "is another kind of row"
                raise DataError(
                    f"{path}, line {number}, {what}; delete the file and run `dvc repro`."
                )
    return rows


def seal(content: bytes) -> bytes:
    """The bytes behind their checksum (CRC-32), for a record that has to tell whether it is whole.

    For what is kept beside DVC, which knows the digests of its own files.
    """
    return b"%08x %s" % (zlib.crc32(content), content)


def unseal(record: bytes) -> bytes | None:
    """What was sealed; None where bytes of it are missing or changed."""
    checksum, found, content = record.partition(b" ")
    return content if found and checksum == b"%08x" % zlib.crc32(content) else None


def _object(line: str) -> dict[str, Any] | None:
    """The JSON object in a line; None where there is none."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(line)
        return value if isinstance(value, dict) else None
    return None


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Writes a table with a header, `\\n` line ends and the columns in the order given.

    A text that a spreadsheet would run as a formula (CSV injection, CWE-1236) gets a ' before it,
    which `read_csv` takes off again; numbers stay as they are.
    """
    import pandas as pd

    cells = [[_inert(row.get(column)) for column in columns] for row in rows]
    # As objects: beside an empty cell pandas would make whole numbers real ones.
    frame = pd.DataFrame(cells, columns=list(columns), dtype=object)
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def read_csv(
    path: str | Path, numbers: Mapping[str, str] | None = None, columns: Iterable[str] = ()
) -> "pd.DataFrame":
    """A table; every column is text (empty cells are "") but for those named in `numbers`.

    numbers: column → pandas dtype, such as {"width": "Int64"}; an empty cell is missing there.
    columns: further ones that have to be there. DataError: it is not such a table, or not whole.
    """
    import pandas as pd

    try:
        frame = _whole_table(Path(path).read_bytes())
        if lacking := set(columns) - set(frame.columns):
            raise KeyError(*sorted(lacking))
        for column, dtype in (numbers or {}).items():
            frame[column] = pd.to_numeric(frame[column].replace("", None)).astype(dtype)
    except FileNotFoundError:
        raise _missing(path) from None
    # Of a damaged file: no table, a number that is none (or not whole), no such column
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} is not the table it should be ({error}); delete it and run `dvc repro`."
        ) from None
    return frame


def _whole_table(content: bytes) -> "pd.DataFrame":
    """The table in the bytes of a file, all text; ValueError: there is none, or a row is cut."""
    import pandas as pd

    frame = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8")
    # pandas fills short rows, and takes what long ones have too many for an index.
    shifted = not isinstance(frame.index, pd.RangeIndex)
    if shifted or not content.endswith(b"\n") or frame.isna().to_numpy().any():
        raise ValueError("a row is not whole")
    for column in frame.columns:
        frame[column] = frame[column].str.removeprefix("'")
    return frame


def _inert(cell: Any) -> Any:
    risky = isinstance(cell, str) and cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if risky else cell


def write_metrics(stage: str, values: Mapping[str, Any]) -> None:
    """Writes `metrics/<stage>.json` with the seconds since the process began as its last entry."""
    seconds = round(time.monotonic() - _STARTED, 1)
    write_json(f"metrics/{stage}.json", {**values, "seconds": seconds})


def links_and_devices(folder: str | Path) -> list[Path]:
    """What lies below a folder and is neither a file nor a folder: links, pipes, devices."""
    return [
        path
        for path in sorted(Path(folder).rglob("*"))
        if path.is_symlink() or not (path.is_file() or path.is_dir())
    ]


def misnamed(folder: str | Path) -> list[str]:
    """What lies below a folder under a name that is not UTF-8, such bytes of it as `\\xff`."""
    paths = Path(folder).rglob("*")
    shown = ((path, os.fsencode(path).decode("utf-8", "backslashreplace")) for path in paths)
    return sorted(text for path, text in shown if text != str(path))


def clean_folder(path: str | Path) -> Path:
    """An empty folder at `path`; what an earlier run left there is removed."""
    path = Path(path)
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path


def remove_file(path: Path) -> None:
    """Deletes a file, a read-only one, too; one that is not there is no error."""
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


def digest_tree(folder: str | Path) -> str:
    """SHA-256 over the relative names and contents of all files below `folder`, sorted by name."""
    folder = Path(folder)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return digest_json([[name, digest_file(folder / name)] for name in names])


def code_digest(*sources: ModuleType | Path) -> str:
    """SHA-256 over names and bytes of source files: for the key of what such code computed.

    sources: a module (its own file; of a package `__init__.py` alone), or a path: a file, or a
    folder for the `*.py` right in it. Their order does not matter.
    """
    paths: list[Path] = []
    for source in sources:
        path = Path(str(source.__file__)) if isinstance(source, ModuleType) else source
        paths += path.glob("*.py") if path.is_dir() else [path]
    return digest_json(sorted([path.name, digest_file(path)] for path in paths))


def pack(folder: str | Path, archive: str | Path) -> int:
    """Packs the files below `folder` into a zip; the same content gives the same bytes.

    Names are sorted, times and permissions fixed, nothing is compressed (pictures are already).
    Symbolic links are refused. Returns the number of files. DataError: no such folder, no file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one that holds the files to pack.")
    paths = sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())
    for path in paths:
        if path.is_symlink():
            raise DataError(f"{path} is a symbolic link; put the file itself there to pack it.")
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise DataError(f"{folder} holds no file; there is nothing to pack.")
    with atomic(archive) as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED) as bundle:
        for path in paths:
            # 1980-01-01 is the earliest time that the format can hold.
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            bundle.writestr(entry, path.read_bytes())
    return len(paths)


def unpack(archive: str | Path, folder: str | Path) -> int:
    """Unpacks a zip into a new or empty `folder`; returns the number of files.

    The folder appears whole or not at all. DataError: no zip, or a damaged one; names that lead
    outside the folder, are there twice or are too long; links, encryption or a compression other
    than deflate; or a folder that already holds something.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.exists():
        raise DataError(f"{archive} does not exist; name the zip to unpack.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} already holds something; remove it first, or name another.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with zipfile.ZipFile(archive) as bundle:
            names = bundle.infolist()
            entries = [entry for entry in names if not entry.filename.endswith(("/", "\\"))]
            for entry in entries:
                if fault := _fault(entry):
                    raise DataError(f"{archive}: {entry.filename!r} {fault}.")
                target = work.joinpath(*_parts(entry))
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with bundle.open(entry) as source, target.open("xb") as copy:
                        shutil.copyfileobj(source, copy)
                except (FileExistsError, NotADirectoryError):
                    raise DataError(
                        f"{archive}: {entry.filename!r} is in it twice, or a file and a folder."
                    ) from None
                except OSError as error:
                    if error.errno != errno.ENAMETOOLONG:
                        raise
                    raise DataError(
                        f"{archive}: {entry.filename[:40]!r}… is a longer name than this disk can "
                        "hold; shorten it and pack it again."
                    ) from None
        work.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        work.replace(folder)
    except (*NO_ZIP, OSError) as error:
        # Other troubles are the disk's.
        if not isinstance(error, NO_ZIP) and error.errno != errno.EINVAL:
            raise
        raise DataError(f"{archive} is not a readable zip archive.") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return len(entries)


def _parts(entry: zipfile.ZipInfo) -> list[str]:
    return entry.filename.replace("\\", "/").split("/")


def _fault(entry: zipfile.ZipInfo) -> str:
    """Why a file of a zip is not unpacked, as the end of a sentence; "" where it is."""
    parts = _parts(entry)
    # A colon anywhere: on Windows a part with a drive's letter leads to that drive.
    if ".." in parts or parts[0] == "" or any(":" in part for part in parts):
        return "leads outside the folder"
    if entry.external_attr >> 16 & 0o170000 == 0o120000:
        return "is a symbolic link"
    if entry.flag_bits & 0x1:
        return "is encrypted; pack it again without a password"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed by a rare method; pack it again as a plain zip"
    return ""


def _missing(path: str | Path) -> DataError:
    return DataError(f"{path} does not exist; run `dvc repro`, which makes what comes before it.")
