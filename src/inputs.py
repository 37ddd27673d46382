"""Stage inputs: creates the user's input folders and deny list, so that `dvc repro` works at once.

It also checks params.yaml, before DVC removes what a later stage made. data/inputs.dvc is DVC's
record of the inputs: what a user puts there is versioned, and an experiment never overwrites it. A
clone that has not pulled this content gets an error that says what to run.
"""

import sys
from pathlib import Path

from pttfaces.stage import run_stage
from pttfaces import config, denylist, files, repository
from pttfaces.denylist import DENIED, DenyList
from pttfaces.errors import DataError

README = """What you may put here; everything else in this folder is written by the stages.

inbox/         Your own photographs; they join the images of the board.
reference/     Images to score against, with evaluate.reference: reference.
denylist.txt   What must not be used: articles, authors, addresses, images, crops.
"""
FIRST_CONTENT = {  # byte for byte: its digest is in git
    "data/inbox/README.txt": (
        "Put photographs here (JPEG, PNG, GIF, WebP, AVIF; each sub-folder counts as one\n"
        "person's series) and run `dvc repro`. They stay on this machine.\n"
    ),
    "data/reference/README.txt": (
        "Put images here to be scored against, and set evaluate.reference: reference.\n"
    ),
    DENIED: denylist.EMPTY,
}


def main() -> None:
    for warning in config.load().warnings():
        print(f"warning: {warning}", file=sys.stderr)
    missing = []
    for file, text in FIRST_CONTENT.items():
        path, empty = Path(file), repository.object_id(text.encode())
        if path.name == "README.txt":  # DVC records a folder by the list of its files
            path = path.parent
            listed = repository.folder_list([(empty, "README.txt")])
            empty = f"{repository.object_id(listed)}.dir"
        if path.exists():
            continue
        if recorded_digests(path) <= {empty}:
            files.write_text(file, text)
        else:  # an empty deny list in place of the real one would readmit everyone
            missing.append(path.as_posix())
    if missing:
        raise DataError(
            f"this commit has {' and '.join(missing)}, which {'are' if missing[1:] else 'is'} not "
            f"here; run `dvc pull {' '.join(missing)}`, or copy the content from another checkout."
        )
    files.make_editable(DENIED)
    if added := DenyList.add(DENIED, denylist.forgotten().lines()):
        print(f"{DENIED}: {added} entries of {denylist.FORGOTTEN} added")
    files.write_text("data/README.txt", README)
    print(f"inputs: data/inbox, data/reference and {DENIED} are ready.")


def recorded_digests(path: Path) -> set[str]:
    """The digests of a path in data/inputs.dvc and, of the stages that read it, in dvc.lock."""
    outs = repository.digests(repository.read_yaml_file(denylist.INPUTS), "outs")
    stages = repository.value_at(repository.read_yaml_file("dvc.lock"), "stages") or {}
    read = (repository.digests(entry, "deps") for entry in stages.values())
    found = {outs.get(path.name), *(deps.get(path.as_posix()) for deps in read)}
    return {digest for digest in found if digest}


if __name__ == "__main__":
    run_stage(main)
