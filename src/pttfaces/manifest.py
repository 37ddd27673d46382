"""Lists a data set's images with their digests in data/dataset/manifest.csv, and checks them.

Train depends on this one file instead of on every image.
"""

import sys
from pathlib import Path

from pttfaces import archive, files, tables
from pttfaces.errors import DataError
from pttfaces.tables import ManifestRow

NAME = "manifest.csv"
_MAX_NAMED = 3
_DATASET = Path("data/dataset")


def write_manifest(folder: Path) -> int:
    """Lists every PNG below `folder`, by relative name and digest, in its manifest; how many.

    DataError: no PNG, or no such folder.
    """
    found = _digests(folder)
    if not found:
        raise DataError(f"{folder} has no PNG; put the images into {folder / 'train'}.")
    rows = [ManifestRow(name, digest) for name, digest in found.items()]
    tables.write(folder / NAME, rows, ManifestRow)
    return len(rows)


def check_manifest(folder: Path) -> None:
    """DataError: the images below `folder` are not those of its manifest.

    A folder without a manifest is not checked.
    """
    path = folder / NAME
    if not path.exists():
        return
    listed = {row.picture: row.sha256 for row in tables.read(path, ManifestRow)}
    found = _digests(folder)
    differing = sorted(
        name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name)
    )
    if differing:
        more = len(differing) - _MAX_NAMED
        names = ", ".join(differing[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
        raise DataError(
            f"{folder} differs from its {NAME} ({names}); unpack the zip again, or run `dvc repro` "
            f"to make the images again. If you changed them, run `pttfaces pack --manifest "
            f"{folder}`."
        )


def unpack_dataset(source: Path, target: Path) -> int:
    """Unpacks a zip of images, writes a missing manifest, and returns the number of files.

    Warns on stderr where `target` is the data set's folder and train cannot use its content.
    DataError: as `archive.unpack`.
    """
    count = archive.unpack(source, target)
    if _has_images(target):
        if not (target / NAME).exists():
            write_manifest(target)
    elif target.resolve() == _DATASET.resolve():
        print(f"warning: {_why_unusable(target)}", file=sys.stderr)
    return count


def _has_images(folder: Path) -> bool:
    return any((folder / "train").glob("*.png"))


def _why_unusable(folder: Path) -> str:
    usable = [path for path in sorted(folder.rglob("*")) if path.is_dir() and _has_images(path)]
    remedy = (
        f"{usable[0]} is one: move it here"
        if usable
        else f"put the images into {folder / 'train'} as .png"
    )
    return (
        f"{folder} has no train/*.png, so it is not a data set; {remedy}, and run "
        f"`pttfaces pack --manifest {folder}` (docs/notebook.md)."
    )


def _digests(folder: Path) -> dict[str, str]:
    """Relative name → digest of every PNG below a folder, sorted by name."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    return {name: files.digest_file(folder / name) for name in names}
