"""The list of a data set's images, data/dataset/manifest.csv, which travels with them.

Train depends on this one file instead of on every image, and checks the images against it.
"""

import sys
from pathlib import Path

from pttfaces import archive, files, tables
from pttfaces.errors import DataError
from pttfaces.tables import ManifestRow

NAME = "manifest.csv"
_NAMED = 3
_DATASET = Path("data/dataset")


def write(folder: Path) -> int:
    """Lists every PNG below `folder`, by relative name and digest, in its manifest; how many.

    DataError: there is none, or no such folder.
    """
    found = _lying(folder)
    if not found:
        raise DataError(f"{folder} holds no PNG; put the pictures into {folder / 'train'}.")
    rows = [ManifestRow(name, digest) for name, digest in found.items()]
    tables.write(folder / NAME, rows, ManifestRow)
    return len(rows)


def check(folder: Path) -> None:
    """DataError: what lies below `folder` is not what its manifest lists. One without a manifest is
    not checked."""
    path = folder / NAME
    if not path.exists():
        return
    listed = {row.picture: row.sha256 for row in tables.read(path, ManifestRow)}
    lying = _lying(folder)
    differing = sorted(
        name for name in listed.keys() | lying.keys() if listed.get(name) != lying.get(name)
    )
    if differing:
        more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        raise DataError(
            f"{folder} is not as its {NAME} lists it ({', '.join(differing[:_NAMED])}{more}); "
            "unpack the zip again, or have them made anew by `dvc repro`; if it is meant, run "
            f"`pttfaces pack --manifest {folder}`."
        )


def unpack(source: Path, target: Path) -> int:
    """Unpacks a zip, lists its images where it came without a list, and returns its files' number.

    Warns on stderr where `target` is the data set's folder and train cannot use what was unpacked.
    DataError: as `archive.unpack`.
    """
    count = archive.unpack(source, target)
    if _has_images(target):
        if not (target / NAME).exists():
            write(target)
    elif target.resolve() == _DATASET.resolve():
        print(f"warning: {_why_unusable(target)}", file=sys.stderr)
    return count


def _has_images(folder: Path) -> bool:
    return any((folder / "train").glob("*.png"))


def _why_unusable(folder: Path) -> str:
    sets = [path for path in sorted(folder.rglob("*")) if path.is_dir() and _has_images(path)]
    remedy = (
        f"{sets[0]} is one: move it here, and run `pttfaces pack --manifest {folder}`"
        if sets
        else f"put the images into {folder / 'train'} as .png, and run "
        f"`pttfaces pack --manifest {folder}`"
    )
    return f"{folder} holds no train/*.png, so it is no data set; {remedy} (docs/notebook.md)."


def _lying(folder: Path) -> dict[str, str]:
    """Relative name → digest of every PNG below a folder, sorted by name."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    return {name: files.digest_file(folder / name) for name in names}
