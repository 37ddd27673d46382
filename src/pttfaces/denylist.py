"""What must stay out: the entries of data/denylist.txt, honoured by every stage that adds data.

Ground floor: knows only the file's form, one `kind:value` a line. A missing file denies nothing.
The list is a version of the data like all others, and an earlier commit's lacks who was forgotten
since; data/forgotten.txt, which neither git nor DVC keeps, does not.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pttfaces import files, repository, workdir
from pttfaces.errors import DataError

DENIED, FORGOTTEN = "data/denylist.txt", "data/forgotten.txt"
INPUTS = "data/inputs.dvc"  # DVC's record of what a person put in, the deny list among it
EMPTY = (  # what the list is in a fresh clone, byte for byte: the digest is in git
    "# What must not be used, one entry a line; then run `dvc repro`:\n"
    "#   article:<id>   author:<id>   url:<url>   sha256:<hex>   crop:<file name>\n"
)
# How articles, pictures and crops are named. A crop by its picture's first 16 hex digits and a
# number of the face, which is another one as soon as other faces count.
ARTICLE = re.compile(r"[MG]\.([0-9]{8,10})\.A(?:\.[0-9A-F]{1,4})?")
SHA256 = re.compile(r"[0-9a-f]{64}")
CROP = re.compile(r"[0-9a-f]{16}-[0-9]+\.png")
# What the value of each kind has to be; another one could match nothing.
_FORMS = {
    "article": (ARTICLE, "an article's id, such as article:M.1704074641.A.0F3"),
    "author": (re.compile(r"[^\s#]+"), "author: and a user id, without blanks and #"),
    # A link may be posted without its scheme; a file of the inbox may have blanks in its name.
    "url": (
        re.compile(r"(?i:https?:)?//\S+|inbox:.+"),
        "url: and a whole address, http://… or https://…, as data/ledger.csv has it, or url:inbox: "
        "and a file's name",
    ),
    "sha256": (SHA256, "sha256: and all 64 hex digits"),
    "crop": (CROP, "crop: and a crop's file name, such as crop:0123456789abcdef-0.png"),
}
KINDS = tuple(_FORMS)
_ANY_CASE = {"author", "sha256"}  # the board's user names and hex digits are the same in any case


@dataclass(frozen=True)
class DenyList:
    """The entries, by kind: article (id), author (user id), url, sha256 (hex), crop (file name)."""

    entries: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> "DenyList":
        """Reads a file; `#` begins a comment line or, after a space, the rest of a line.

        DataError names the line that is no entry or can match nothing, so that a slip of the pen
        denies loudly.
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
        """From its lines, as a file called `name` has them; DataError as `read`."""
        entries: dict[str, set[str]] = {kind: set() for kind in KINDS}
        for number, line in enumerate(lines, 1):
            entry = "" if line.lstrip().startswith("#") else line.split(" #")[0].strip()
            if not entry:
                continue
            if form := misfit(entry):
                raise DataError(f"{name}, line {number}, is {entry!r}; allowed is {form}.")
            if " #" in line and entry.startswith("url:inbox:"):
                raise DataError(
                    f"{name}, line {number}: whether ' #' is of the file's name or begins a remark "
                    "nobody can tell; leave the remark out, or deny the file by sha256:DIGEST."
                )
            kind, value = _parts(entry)
            entries[kind].add(value)
        return cls({kind: frozenset(values) for kind, values in entries.items()})

    def lines(self) -> list[str]:
        """The entries as lines of a file, sorted."""
        return sorted(
            f"{kind}:{value}" for kind, values in self.entries.items() for value in values
        )

    def lacks(self, lines: Iterable[str]) -> list[str]:
        """Those of the lines whose entries are not here, each once."""
        there, asked = set(self.lines()), dict.fromkeys(lines)
        return [line for line in asked if not there.issuperset(DenyList.of([line]).lines())]

    @classmethod
    def add(cls, path: str | Path, lines: Iterable[str]) -> int:
        """Adds lines to a file, those whose entries it lacks; returns how many those were."""
        path, new = Path(path), cls.read(path).lacks(lines)
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        if new:
            ending = "" if not text or text.endswith("\n") else "\n"
            files.write_text(path, text + ending + "".join(f"{line}\n" for line in new))
        return len(new)

    def denies(
        self,
        *,
        article: str = "",
        author: str = "",
        url: str = "",
        sha256: str = "",
        crop: str = "",
    ) -> bool:
        """Whether any of the names given is an entry; an empty name never is.

        A crop is one by any crop of its picture: that shows the face under every number.
        """
        for kind, name in (
            ("article", article),
            ("author", author),
            ("url", url),
            ("sha256", sha256),
            ("crop", crop),
        ):
            if name and (names := self._names.get(kind)) and _name(kind, name) in names:
                return True
        return False

    @cached_property
    def _names(self) -> dict[str, set[str]]:
        """The entries, by kind, as `denies` compares them."""
        return {kind: {_name(kind, e) for e in found} for kind, found in self.entries.items()}


def forgotten() -> DenyList:
    """All who were ever forgotten in this repository, of which an experiment may be a clone."""
    return DenyList.read(workdir.root() / FORGOTTEN)


def in_force() -> DenyList:
    """The deny list, for a stage. DataError: it lacks somebody who was forgotten, or it is an
    earlier commit's.

    The file can be edited in place from then on: dvc links it to its cache whenever it has changed,
    and runs the stage that comes first only if it does not know that stage's results already.
    """
    files.make_editable(DENIED)
    deny = DenyList.read(DENIED)
    if missing := deny.lacks(forgotten().lines()):
        raise DataError(
            f"{DENIED} lacks {len(missing)} entries of {FORGOTTEN}, so it is older than what was "
            "forgotten here; run `dvc repro --force --single-item inputs`, which adds them (and queue experiments "
            "again). To withdraw an entry, remove it from both files."
        )
    if missing := deny.lacks(_entries_of_commit()):
        raise DataError(
            f"{DENIED} lacks {len(missing)} entries of the current commit's (after a `git pull`?); "
            f"run `git checkout HEAD {INPUTS}` and `dvc checkout --force {DENIED}`. If you removed "
            f"them yourself, commit {INPUTS} first."
        )
    return deny


def _entries_of_commit() -> list[str]:
    """The entries in the current commit's version of the list, whatever lies in the folder.

    DataError: that version is not in DVC's cache.
    """
    note = repository.read_yaml(repository.git("show", f"HEAD:./{INPUTS}"))
    committed = repository.digests(note, "outs").get(Path(DENIED).name, "")
    path = Path(DENIED)
    here = repository.object_id(path.read_bytes()) if path.exists() else ""
    if committed in ("", here, repository.object_id(EMPTY.encode())):
        return []
    content = repository.cached(committed)
    if content is None:
        raise DataError(
            f"{DENIED} is not the current commit's, which is not here (after a `git pull`?); "
            f"move your own aside, run `dvc pull {DENIED}` and add your entries to it."
        )
    return DenyList.of(content.decode("utf-8-sig").splitlines(), f"{DENIED} of HEAD").lines()


def misfit(entry: str) -> str:
    """What is allowed in place of what is no entry; "" for one."""
    kind, value = _parts(entry)
    if kind not in _FORMS:
        return ", ".join(f"{kind}:…" for kind in KINDS)
    form, words = _FORMS[kind]
    return "" if form.fullmatch(value) else words


def _parts(entry: str) -> tuple[str, str]:
    kind, _, value = (part.strip() for part in entry.partition(":"))
    return kind, value.lower() if kind in _ANY_CASE else value


def _name(kind: str, value: str) -> str:
    if kind == "crop":
        return value.partition("-")[0]  # of its picture
    return value.lower() if kind in _ANY_CASE else value
