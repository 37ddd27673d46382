"""Packs a folder into a reproducible zip archive, and unpacks an untrusted one safely."""

import errno
import secrets
import shutil
import zipfile
import zlib
from pathlib import Path

from pttfaces.errors import DataError
from pttfaces.files import atomic

# What zipfile raises for a file that is not a zip, or a damaged one; for an offset before the start
# of the file it raises an OSError (EINVAL).
NO_ZIP = (
    zipfile.BadZipFile,
    RuntimeError,  # an encrypted part; NotImplementedError: an unknown compression
    EOFError,
    ValueError,
    zlib.error,
    FileNotFoundError,
    IsADirectoryError,
)


def pack(folder: str | Path, archive: str | Path) -> int:
    """Packs the files below `folder` into a zip; the same content gives the same bytes.

    Names are sorted, times and permissions fixed, nothing is compressed (images already are).
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
    outside the folder, appear twice or are too long; links, encryption or a compression other
    than deflate; or a folder that already holds something.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.exists():
        raise DataError(f"{archive} does not exist; name the zip to unpack.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder} already holds something; remove it first, or choose another folder."
        )
    work = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    work.mkdir(parents=True)  # not mkdtemp, whose folders nobody else can read
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
                        f"{archive}: {entry.filename!r} appears twice, or as both a file "
                        "and a folder; pack the zip again."
                    ) from None
                except OSError as error:
                    if error.errno != errno.ENAMETOOLONG:
                        raise
                    raise DataError(
                        f"{archive}: {entry.filename[:40]!r}… is a longer name than this disk can "
                        "hold; shorten it and pack it again."
                    ) from None
        if folder.exists():
            folder.rmdir()
        work.replace(folder)
    except (*NO_ZIP, OSError) as error:
        # Any other OSError is the disk's.
        if not isinstance(error, NO_ZIP) and error.errno != errno.EINVAL:
            raise
        raise DataError(
            f"{archive} is not a readable zip archive; download or pack it again."
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return len(entries)


def _parts(entry: zipfile.ZipInfo) -> list[str]:
    return entry.filename.replace("\\", "/").split("/")


def _fault(entry: zipfile.ZipInfo) -> str:
    """Why a file of a zip is not unpacked, as the end of a sentence; "" where it is."""
    parts = _parts(entry)
    # No colon anywhere: on Windows a part with a drive's letter leads to that drive.
    if ".." in parts or parts[0] == "" or any(":" in part for part in parts):
        return "leads outside the folder; pack the zip again without it"
    if entry.external_attr >> 16 & 0o170000 == 0o120000:
        return "is a symbolic link; pack the zip again without it"
    if entry.flag_bits & 0x1:
        return "is encrypted; pack it again without a password"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed by a rare method; pack it again as a plain zip"
    return ""
