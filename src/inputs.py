"""Makes ready what dvc needs before it can start.

The three places where a person puts something in, where they are not there yet:

    data/inbox/         photographs of one's own, which join the pictures of the board
    data/reference/     pictures that somebody gave to be scored against
    data/denylist.txt   what must not be used, with all who were forgotten here

They are DVC's (their .dvc files are in git), so that queued runs see them; what they say at first
is written here, byte for byte, because a fresh clone has no DVC cache to take it from.

And files of dvc's own that a kill has left half written.
"""

import sys
from pathlib import Path

from pttfaces import cli, denylist, files, half_written
from pttfaces.denylist import DENIED, DenyList
from pttfaces.errors import DataError
from pttfaces.object_ids import folder_list, object_id

FIRST_CONTENT = {
    Path("data/inbox/README.txt"): (
        "Put photographs here (JPEG, PNG, GIF, WebP, AVIF; each sub-folder counts as one\n"
        "person's series) and run `dvc repro`. They stay on this machine.\n"
    ),
    Path("data/reference/README.txt"): (
        "Put pictures here to be scored against, and set evaluate.reference: reference.\n"
    ),
    Path(DENIED): (
        "# What must not be used, one entry a line; then run `dvc repro`:\n"
        "#   article:<id>   author:<id>   url:<url>   sha256:<hex>   crop:<file name>\n"
    ),
}


def main() -> None:
    half_written.mend_lock()
    half_written.mend_notes_of_work()
    half_written.mend_run_cache()
    for path, text in FIRST_CONTENT.items():
        make(path, text)
    check_present(Path(DENIED))
    files.make_editable(DENIED)
    if Path(DENIED).exists() and (added := DenyList.add(DENIED, denylist.forgotten().lines())):
        print(f"{DENIED}: {added} entries of {denylist.FORGOTTEN} added")
    for folder in ("data/inbox", "data/reference"):
        for path in files.links_and_devices(folder):
            raise DataError(
                f"{path} is a link, a pipe or a device; put the file itself there. dvc reads this "
                "folder before any stage does: it keeps what a link leads to, and waits at a pipe."
            )
        for name in files.misnamed(folder):
            raise DataError(
                f"{name} is a name that is not UTF-8, which dvc cannot note down; give it another."
            )


def check_present(place: Path) -> None:
    """DataError: git has brought a newer version of a file since it was last touched. dvc would
    take the old one for an edit, and the next commit undo for everybody what others added."""
    note = Path(f"{place}.dvc")
    if not place.exists() or not note.exists() or place.stat().st_mtime >= note.stat().st_mtime:
        return
    if object_id(place.read_bytes()) not in note.read_text("utf-8"):
        raise DataError(
            f"{place} is older than this commit's (after a `git pull`?); `dvc pull {place}` brings "
            "that, and what you have changed there goes in after it."
        )


def make(path: Path, text: str) -> None:
    """Makes a place that is not there with its first content; a clone that lacks what its commit
    has there is told how to get it: an empty deny list in its stead would let everybody in."""
    alone = path == Path(DENIED)
    place = path if alone else path.parent
    if place.exists():
        return
    first = object_id(text.encode())
    if not alone:
        first = object_id(folder_list([(first, path.name)]))
    note = Path(f"{place}.dvc")
    if note.exists() and "md5: " in (told := note.read_text("utf-8")) and first not in told:
        print(
            f"warning: {place} is not here, and this commit's is not empty; `dvc pull {place}` "
            "brings it, or copy it from where it was written.",
            file=sys.stderr,
        )
        return
    files.write_text(path, text)
    print(f"made {place}")


if __name__ == "__main__":
    cli.run(main)
