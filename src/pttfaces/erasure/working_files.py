"""Finds images and tables outside DVC's storage: the working folder, .cache and .resume."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from pttfaces import files
from pttfaces.erasure.provenance import is_named_after
from pttfaces.errors import DataError

# Images that show many others; their names do not say which.
SHEETS = tuple(f"metrics/pictures/{name}.png" for name in ("contact_sheet", "sharpness", "nearest"))
# Where `pttfaces report`, `dvc plots` and the commands of `pttfaces history` copy them to.
_SHEET_COPIES = ("report.html", "dvc_plots", "from_mlflow")
# Tables with a line for each article, link, image, crop or sample.
TABLES = (
    *("data/articles.jsonl", "data/articles_read.csv", "data/links.jsonl", "data/ledger.csv"),
    *("data/hosts.csv", "data/failed.txt", "data/detections.csv", "data/crops.csv"),
    "data/dataset.csv",
    *("data/dataset/manifest.csv", "data/dataset/train/metadata.csv"),
    *("data/dataset/holdout/metadata.csv", "data/neighbours.csv"),
)
# Folders whose files are named after a SHA-256: of an image, of a crop, of a page's address.
_NAMED_AFTER_DIGEST = (
    *("data/raw", "data/crops", "data/dataset", ".cache/originals"),
    *(".cache/detections", ".cache/identity", ".cache/pages"),
)
INPUT_FOLDERS = ("data/inbox", "data/reference")


def check_idle(root: Path) -> None:
    """DataError: a stage is running; it would write again what is being deleted."""
    for path in sorted((root / ".cache/locks").glob("stage-*.lock")):
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            stage = path.name.split("-")[1]
            raise DataError(f"stage {stage} is running here; wait until it has ended.") from None


def named_after(root: Path, ids: set[str]) -> list[Path]:
    """Files that are named after one of the digests, by its first 16 digits: images, crops, and
    what is cached of an image, a crop or an address."""
    paths = (path for folder in _NAMED_AFTER_DIGEST for path in (root / folder).rglob("*"))
    return sorted(path for path in paths if is_named_after(path.name, ids) and path.is_file())


def input_files(root: Path, digests: set[str]) -> list[Path]:
    """Files that a person put into data/inbox or data/reference and whose SHA-256 is given."""
    paths = (path for folder in INPUT_FOLDERS for path in sorted((root / folder).rglob("*")))
    return [path for path in paths if path.is_file() and files.digest_file(path) in digests]


def sheets(root: Path) -> list[Path]:
    """What shows many images, and copies of it."""
    return [path for name in (*SHEETS, *_SHEET_COPIES) if (path := root / name).exists()]


def tables(root: Path) -> list[Path]:
    """The tables of the working folder, and download's cached results and checks."""
    cached = (path for name in ("download", "raw") for path in (root / ".cache" / name).glob("*"))
    return [path for path in (*(root / name for name in TABLES), *cached) if path.is_file()]


def zips_with(root: Path, image_ids: set[str]) -> list[Path]:
    """Zips in the project's folder, but for DVC's outs, with an image's id in their bytes: names of
    files are not compressed."""
    paths = sorted([*root.glob("*.zip"), *root.glob("[!.]*/**/*.zip")])
    others = [p for p in paths if p.relative_to(root).parts[0] not in ("data", "models", "mlruns")]
    terms = [image_id.encode() for image_id in image_ids]
    return [path for path in others if path.is_file() and contains_any(path.read_bytes(), terms)]


def temporary_files(root: Path) -> list[Path]:
    """Unfinished work, features of image sets and copies that experiments left behind: any of it
    may show an image, and all of it can be made again."""
    patterns = (
        *(".resume/*", "data/raw/.parts/*", ".cache/statistics/*"),
        *(".dvc/tmp/exps/standalone/*", ".dvc/tmp/exps/tmp*"),
    )
    return [path for pattern in patterns for path in sorted(root.glob(pattern))]


def remove(path: Path) -> None:
    """Deletes a file, even a read-only one, or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        files.remove_file(path)


def without_lines(content: bytes, terms: Sequence[bytes]) -> bytes:
    """A table without the lines that contain a search term."""
    if not contains_any(content, terms):
        return content
    lines = content.splitlines(keepends=True)
    return b"".join(line for line in lines if not contains_any(line, terms))


def contains_any(content: bytes, terms: Sequence[bytes]) -> bool:
    """Whether any of the search terms is in the bytes."""
    return any(term in content for term in terms)
