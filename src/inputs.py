"""Stage inputs: makes the three places that a person may fill, so that `dvc repro` works at once.

data/inputs.dvc is DVC's record of them: what a person puts there is versioned, and an experiment
never overwrites it. A clone whose commit has something there that was not pulled is told so.
"""

from pathlib import Path

from pttfaces.stage import run_stage
from pttfaces import denylist, files, repository
from pttfaces.denylist import DENIED, DenyList
from pttfaces.errors import DataError

README = """What you may put here; everything else in this folder is written by the stages.

inbox/         Your own photographs; they join the images of the board.
reference/     Images to score against, with evaluate.reference: reference.
denylist.txt   What must not be used: articles, authors, addresses, images, crops.
"""
FOLDERS = {
    "data/inbox": (
        "Put photographs here (JPEG, PNG, GIF, WebP, AVIF; each sub-folder counts as one\n"
        "person's series) and run `dvc repro`. They stay on this machine.\n"
    ),
    "data/reference": (
        "Put pictures here to be scored against, and set evaluate.reference: reference.\n"
    ),
}


def main() -> None:
    recorded = repository.digests(repository.read_yaml_file(denylist.INPUTS), "outs")
    for folder, text in FOLDERS.items():
        listed = repository.folder_list([(repository.object_id(text.encode()), "README.txt")])
        empty = f"{repository.object_id(listed)}.dir"
        if not Path(folder).exists():
            check_pulled(folder, recorded, empty)
            files.write_text(f"{folder}/README.txt", text)
    if not Path(DENIED).exists():
        check_pulled(DENIED, recorded, repository.object_id(denylist.EMPTY.encode()))
        files.write_text(DENIED, denylist.EMPTY)
    files.make_editable(DENIED)
    if added := DenyList.add(DENIED, denylist.forgotten().lines()):
        print(f"{DENIED}: {added} entries of {denylist.FORGOTTEN} added")
    files.write_text("data/README.txt", README)
    print(f"inputs: {', '.join(FOLDERS)} and {DENIED} are ready.")


def check_pulled(place: str, recorded: dict[str, str], empty: str) -> None:
    """DataError: the commit has something at `place`, and it is not here. An empty deny list in
    place of the real one would readmit everyone."""
    if recorded.get(Path(place).name, empty) != empty:
        raise DataError(
            f"{place} is missing, and in this commit it is not empty; run `dvc pull {place}`, or "
            "copy it from the folder where it was written."
        )


if __name__ == "__main__":
    run_stage(main)
