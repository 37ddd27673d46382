"""Makes ready what dvc needs before it can start.

The three places where a person puts something in, where they are not there yet:

    data/inbox/         photographs of one's own, which join the pictures of the board
    data/reference/     pictures that somebody gave to be scored against
    data/denylist.txt   what must not be used

They are DVC's (their .dvc files are in git), so that queued runs see them; what they say at first
is written here, byte for byte, because a fresh clone has no DVC cache to take it from.

And files of dvc's own that a kill has left half written.
"""

from pathlib import Path

from pttfaces import cli, files, half_written
from pttfaces.errors import DataError

FIRST_CONTENT = {
    Path("data/inbox/README.txt"): (
        "Put photographs here (JPEG, PNG, GIF, WebP, AVIF; each sub-folder counts as one\n"
        "person's series) and run `dvc repro`. They stay on this machine.\n"
    ),
    Path("data/reference/README.txt"): (
        "Put pictures here to be scored against, and set evaluate.reference: reference.\n"
    ),
    Path("data/denylist.txt"): (
        "# What must not be used, one entry a line; then run `dvc repro`:\n"
        "#   article:<id>   author:<id>   url:<url>   sha256:<hex>   crop:<file name>\n"
    ),
}


def main() -> None:
    half_written.mend_lock()
    half_written.mend_notes_of_work()
    for path, text in FIRST_CONTENT.items():
        place = path if path.name == "denylist.txt" else path.parent
        if not place.exists():
            files.write_text(path, text)
            print(f"made {place}")
    files.make_editable("data/denylist.txt")
    for folder in ("data/inbox", "data/reference"):
        for path in files.links_and_devices(folder):
            raise DataError(
                f"{path} is a link, a pipe or a device; put the file itself there. dvc reads this "
                "folder before any stage does: it keeps what a link leads to, and waits at a pipe."
            )


if __name__ == "__main__":
    cli.run(main)
