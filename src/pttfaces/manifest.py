"""A data set's list of its own pictures: by it train depends on one file, not on as many as there
are pictures, each of which `dvc status` would look up once more; and a training knows that what it
reads is what was curated.

It travels with the pictures, in a zip, too.
"""

from pathlib import Path

from pttfaces import files
from pttfaces.errors import DataError

NAME = "manifest.csv"
_COLUMNS = ("picture", "sha256")
_NAMED = 3


def write(folder: Path) -> int:
    """Lists every PNG below `folder`, by relative name and digest, in its manifest; how many.

    DataError: there is none, or no such folder.
    """
    found = _lying(folder)
    if not found:
        raise DataError(f"{folder} holds no PNG; put the pictures into {folder / 'train'}.")
    rows = [{"picture": name, "sha256": digest} for name, digest in found.items()]
    files.write_csv(folder / NAME, rows, _COLUMNS)
    return len(rows)


def check(folder: Path) -> None:
    """DataError: what lies below `folder` is not what its manifest lists. One without a manifest is
    not checked."""
    path = folder / NAME
    if not path.exists():
        return
    table = files.read_csv(path, columns=_COLUMNS)
    listed = dict(zip(table["picture"], table["sha256"], strict=True))
    lying = _lying(folder)
    differing = sorted(
        name for name in listed.keys() | lying.keys() if listed.get(name) != lying.get(name)
    )
    if differing:
        more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        raise DataError(
            f"{folder} is not as its {NAME} lists it ({', '.join(differing[:_NAMED])}{more}); "
            "unpack the zip again, or have them made anew by `dvc repro`; if it is meant, run "
            f"`python src/pack.py --manifest {folder}`."
        )


def _lying(folder: Path) -> dict[str, str]:
    """Relative name → digest of every PNG below a folder, sorted by name."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    return {name: files.digest_file(folder / name) for name in names}
