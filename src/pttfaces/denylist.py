"""Reads the deny list: the articles, authors, addresses, images and crops that must stay out.

Every stage that adds data applies data/denylist.txt. DVC versions it, so an earlier commit's list
lacks later entries; data/forgotten.txt, which is not versioned, keeps them all.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pttfaces import files, repository, workdir
from pttfaces.errors import DataError

DENIED, FORGOTTEN = "data/denylist.txt", "data/forgotten.txt"
INPUTS = "data/inputs.dvc"  # DVC's record of a person's inputs, the deny list among them
_OLD_RECORD = "data/denylist.txt.dvc"  # … of the deny list in version 0.1
EMPTY = (  # the list of a fresh clone, byte for byte: its digest is known
    "# What must not be used, one entry a line; then run `dvc repro`:\n"
    "#   article:<id>   author:<id>   url:<url>   sha256:<hex>   crop:<file name>\n"
)
# How articles, images and crops are named. A crop: by the first 16 hex digits of its image and the
# number of the face, which changes with the parameters of detect.
ARTICLE = re.compile(r"[MG]\.([0-9]{8,10})\.A(?:\.[0-9A-F]{1,4})?")
SHA256 = re.compile(r"[0-9a-f]{64}")
CROP = re.compile(r"[0-9a-f]{16}-[0-9]+\.png")
# The form of each kind's values, and its description; any other value could never match.
_FORMS = {
    "article": (ARTICLE, "an article's id, such as article:M.1704074641.A.0F3"),
    "author": (re.compile(r"[^\s#]+"), "author: followed by a user id without spaces or #"),
    # A link may be posted without its scheme; an inbox file's name may contain blanks.
    "url": (
        re.compile(r"(?i:https?:)?//\S+|inbox:.+"),
        "url: followed by a full address (http://… or https://…) as in data/ledger.csv, or "
        "url:inbox: followed by a file name",
    ),
    "sha256": (SHA256, "sha256: followed by all 64 hex digits"),
    "crop": (CROP, "crop: followed by a crop's file name, such as crop:0123456789abcdef-0.png"),
}
KINDS = tuple(_FORMS)
_ANY_CASE = {"author", "sha256"}  # compared in lower case


@dataclass(frozen=True)
class DenyList:
    """The entries, by kind: article (id), author (user id), url, sha256 (hex), crop (file name)."""

    entries: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> "DenyList":
        """Reads a file of `kind:value` lines; `#` begins a comment line or, after a space, the rest
        of a line. Without a file nothing is denied.

        DataError: a line that is not an entry or could never match, such as a misspelt one.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return cls()
        except UnicodeDecodeError:
            raise DataError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
        return cls.of(text.splitlines(), str(path))

    @classmethod
    def of(cls, lines: Iterable[str], name: str = "the deny list") -> "DenyList":
        """Parses the lines of a file, called `name` in messages; DataError as in `read`."""
        entries: dict[str, set[str]] = {kind: set() for kind in KINDS}
        for number, line in enumerate(lines, 1):
            entry = "" if line.lstrip().startswith("#") else line.split(" #")[0].strip()
            if not entry:
                continue
            if form := expected_form(entry):
                raise DataError(
                    f"{name}, line {number}, is {entry!r}; expected {form}. Correct or remove the "
                    "line."
                )
            if " #" in line and entry.startswith("url:inbox:"):
                raise DataError(
                    f"{name}, line {number}: whether ' #' is part of the file's name or begins a "
                    "comment is unclear; remove the comment, or deny the file by sha256:DIGEST."
                )
            kind, value = _parts(entry)
            entries[kind].add(value)
        return cls({kind: frozenset(values) for kind, values in entries.items()})

    def lines(self) -> list[str]:
        """The entries as lines of a file, sorted."""
        return sorted(
            f"{kind}:{value}" for kind, values in self.entries.items() for value in values
        )

    def missing_lines(self, lines: Iterable[str]) -> list[str]:
        """The lines whose entries are not in this list, each once."""
        present, unique = set(self.lines()), dict.fromkeys(lines)
        return [line for line in unique if not present.issuperset(DenyList.of([line]).lines())]

    @classmethod
    def add(cls, path: str | Path, lines: Iterable[str]) -> int:
        """Adds the lines whose entries are not in a file yet; returns how many."""
        path, new = Path(path), cls.read(path).missing_lines(lines)
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        if new:
            ending = "" if not text or text.endswith("\n") else "\n"
            files.write_text(path, text + ending + "".join(f"{line}\n" for line in new))
        return len(new)

    def denies(self, **names: str) -> bool:
        """Whether any of the names, by kind, is denied; an empty one never is.

        A crop is denied if any crop of its image is: the number of the face may have changed.
        """
        return any(name and _name(kind, name) in self._names[kind] for kind, name in names.items())

    @cached_property
    def _names(self) -> dict[str, set[str]]:
        """The entries, by kind, as `denies` compares them."""
        return {kind: {_name(kind, e) for e in self.entries.get(kind, ())} for kind in KINDS}


def forgotten() -> DenyList:
    """Everything ever forgotten in this repository, also for experiments that run in clones."""
    return DenyList.read(workdir.root() / FORGOTTEN)


def load_for_stage() -> DenyList:
    """Reads the deny list and checks that it is complete.

    Makes the file editable, too: dvc makes it a read-only link into its cache after every change.
    DataError: it lacks an entry of data/forgotten.txt or of the current commit's list.
    """
    files.make_editable(DENIED)
    deny = DenyList.read(DENIED)
    if missing := deny.missing_lines(forgotten().lines()):
        raise DataError(
            f"{DENIED} lacks {len(missing)} entries of {FORGOTTEN}; run `dvc repro --force "
            "--single-item inputs` to add them, and queue experiments again. To withdraw one, "
            "remove it from both files."
        )
    record = next(filter(_committed_digest, (INPUTS, _OLD_RECORD)), INPUTS)
    if missing := deny.missing_lines(_committed_entries(_committed_digest(record))):
        raise DataError(
            f"{DENIED} lacks {len(missing)} entries of the current commit's (after a `git pull`?); "
            f"run `git checkout HEAD {record}` and `dvc checkout --force {DENIED}`. If you removed "
            f"them yourself, commit {record} first."
        )
    return deny


def _committed_digest(record: str) -> str:
    """The MD5 of the deny list in the current commit, by DVC's record; "" if that has none."""
    committed = repository.read_yaml(repository.git("show", f"HEAD:./{record}"))
    return repository.digests(committed, "outs").get(Path(DENIED).name, "")


def _committed_entries(digest: str) -> list[str]:
    """The entries of the current commit's list; [] if it is empty or the one in the folder.

    DataError: it is not in DVC's cache.
    """
    path = Path(DENIED)
    current = repository.object_id(path.read_bytes()) if path.exists() else ""
    if digest in ("", current, repository.object_id(EMPTY.encode())):
        return []
    content = repository.read_cached(digest)
    if content is None:
        raise DataError(
            f"{DENIED} differs from the current commit's, which DVC's cache does not have (after a "
            "`git pull`?); "
            f"move your own aside, run `dvc pull {DENIED}` and add your entries to it."
        )
    return DenyList.of(content.decode("utf-8-sig").splitlines(), f"{DENIED} of HEAD").lines()


def expected_form(entry: str) -> str:
    """What is allowed instead of `entry`; "" if it is an entry of a deny list."""
    kind, value = _parts(entry)
    if kind not in _FORMS:
        return ", ".join(f"{kind}:…" for kind in KINDS)
    form, description = _FORMS[kind]
    return "" if form.fullmatch(value) else description


def _parts(entry: str) -> tuple[str, str]:
    kind, _, value = (part.strip() for part in entry.partition(":"))
    return kind, value.lower() if kind in _ANY_CASE else value


def _name(kind: str, value: str) -> str:
    if kind == "crop":
        return value.partition("-")[0]  # of its image
    return value.lower() if kind in _ANY_CASE else value
