"""What lies beside DVC's own storage: working folder, .cache, .resume, left-over experiments.

Knows the folders and how their files are named; deletes nothing unless told to.
"""

import gzip
import os
import shutil
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from pttfaces import files
from pttfaces.board.albums import SOURCES
from pttfaces.board.article_page import PostedLink
from pttfaces.board.hosts import HostRules
from pttfaces.board.links import sort_links
from pttfaces.erasure.provenance import names_one
from pttfaces.errors import DataError

# Pictures of pictures: what they show cannot be told from their names.
SHEETS = ("metrics/pictures/contact_sheet.png", "metrics/pictures/nearest.png")
# Of such pictures, made by `pttfaces report`, `dvc plots` and as `pttfaces history` says.
COPIES = ("report.html", "dvc_plots", "from_mlflow")
# Tables of data/ with a line for each article, link, picture, crop or sample.
_LINES = (
    *("articles.jsonl", "articles_read.csv", "links.jsonl", "ledger.csv", "failed.txt"),
    *("detections.csv", "crops.csv", "dataset.csv", "dataset/manifest.csv", "neighbours.csv"),
)
_PICTURES = ("data/raw", "data/crops", "data/dataset")
_OUTPUTS = ("data", "models", "metrics")
_GIVEN = ("data/inbox", "data/reference")


def check_idle(root: Path) -> None:
    """DataError: a stage is at work, and would write anew what is being deleted."""
    for path in sorted((root / ".cache/locks").glob("stage-*.lock")):
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            stage = path.name.split("-")[1]
            raise DataError(f"stage {stage} is at work here; wait until it has ended.") from None


def pictures(root: Path, stems: set[str]) -> list[Path]:
    """Files of the working folder that are a picture, or a crop of one, that begins so."""
    lying = (path for folder in _PICTURES for path in (root / folder).rglob("*"))
    return sorted(path for path in lying if names_one(path.name, stems) and path.is_file())


def given(root: Path, digests: set[str]) -> list[Path]:
    """Files that a person put into data/inbox or data/reference and that are such a picture."""
    lying = (path for folder in _GIVEN for path in sorted((root / folder).rglob("*")))
    return [path for path in lying if path.is_file() and files.digest_file(path) in digests]


def dangling(root: Path, cache: Path) -> list[Path]:
    """Links to objects that DVC's cache has no more, as where cache.type is symlink: dvc ends with
    a trace at them. None while the cache itself is away, as a disk that is not mounted."""
    if not cache.is_dir():
        return []
    lying = (path for folder in _OUTPUTS for path in (root / folder).rglob("*"))
    links = (path for path in lying if path.is_symlink() and not path.exists())
    return [path for path in links if path.parent.joinpath(path.readlink()).is_relative_to(cache)]


def kept_detections(root: Path, digests: Iterable[str]) -> list[Path]:
    """Results of face detection, kept by the digest of the picture or crop that was searched."""
    folders = list((root / ".cache/detections").glob("*"))
    paths = (folder / name[:2] / f"{name}.json" for folder in folders for name in digests)
    return [path for path in paths if path.exists()]


def album_addresses(posted: Iterable[str], rules: HostRules) -> list[str]:
    """Where the albums behind links were asked for, by either way of asking."""
    links = sort_links(
        [PostedLink(link, "body", "") for link in posted], "https://www.ptt.cc/", rules
    )
    albums = [link.album for link in links.pictures if link.album]
    return [source.address(album) for album in albums for source in SOURCES.values()]


def kept_pages(root: Path, addresses: Iterable[str]) -> list[Path]:
    """Pages of articles and albums that were read, kept by the digest of their address."""
    names = (files.digest_bytes(address.encode()) for address in addresses)
    paths = (root / ".cache/pages" / name[:2] / f"{name}.json.gz" for name in names)
    return [path for path in paths if path.exists()]


def kept_lines(root: Path, needles: Sequence[bytes]) -> list[Path]:
    """Tables of the working folder, and kept ones of addresses asked and files checked, with a line
    that has a needle."""
    here = (root / "data" / name for name in _LINES)
    kept = (path for folder in ("download", "raw") for path in _inside(root / ".cache" / folder))
    paths = [path for path in (*here, *kept) if path.is_file()]
    return [path for path in paths if has_any(path.read_bytes(), needles)]


def kept_listings(root: Path, needles: Sequence[bytes]) -> list[Path]:
    """Kept stretches of a board's index pages with a needle; what is deleted is listed again."""
    paths = sorted((root / ".cache/listings").rglob("*.gz"))
    return [path for path in paths if has_any(_unpacked(path), needles)]


def drop_lines(path: Path, needles: Sequence[bytes]) -> None:
    """Writes a table of lines anew without those that have a needle."""
    files.write_bytes(path, without_lines(path.read_bytes(), needles))


def logged(root: Path, runs_known_clear: set[str]) -> list[Path]:
    """Pictures of pictures among MLflow's files in this folder, but for those of the runs given.

    Whatever its store says of them: it may be another one now, and knows where the folder was when
    they were written.
    """
    names = [Path(sheet).name for sheet in SHEETS]
    found = (path for name in names for path in (root / "mlruns").rglob(name))
    return sorted(path for path in found if path.parents[1].name not in runs_known_clear)


def archives(root: Path, needles: Sequence[bytes]) -> list[Path]:
    """Archives in the project's folder, but for DVC's own, that hold a file with such a name."""
    found: list[Path] = []
    for place, inside, names in os.walk(root):
        own = {"data", "models", "mlruns"} if Path(place) == root else set()
        inside[:] = [name for name in inside if not name.startswith(".") and name not in own]
        found += [Path(place, name) for name in names if name.endswith(".zip")]
    return [path for path in sorted(found) if has_any(path.read_bytes(), needles)]


def passing(root: Path) -> list[Path]:
    """Half-done work, features of whole sets, copies of the folder that experiments left behind:
    what may hold or show anything, and costs time only."""
    experiments = root / ".dvc/tmp/exps"
    return [
        *_inside(root / ".resume"),
        *_inside(root / "data/raw/.parts"),
        *_inside(root / ".cache/statistics"),
        *sorted(experiments.glob("tmp*")),
        *_inside(experiments / "standalone"),
    ]


def remove(path: Path) -> None:
    """Deletes a file or a folder, read-only ones, too; one that is not there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return
    files.remove_file(path)


def without_lines(content: bytes, needles: Sequence[bytes]) -> bytes:
    """A table of lines without those that have a needle."""
    lines = content.splitlines(keepends=True)
    return b"".join(line for line in lines if not has_any(line, needles))


def has_any(content: bytes, needles: Sequence[bytes]) -> bool:
    """Whether any of the needles is in the bytes."""
    return any(needle in content for needle in needles)


def _unpacked(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error):  # damaged: it tells nothing, and nobody reads it
        return b""


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
