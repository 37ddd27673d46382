"""What must stay out: the entries of data/denylist.txt, honoured by every stage that adds data.

Ground floor: knows only the file's form, one `kind:value` a line. A missing file denies nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pttfaces.errors import DataError

_KINDS = ("article", "author", "url", "sha256", "crop")
_ANY_CASE = {"author", "sha256"}  # the board's user names and hex digits are the same in any case


@dataclass(frozen=True)
class DenyList:
    """The entries, by kind: article (id), author (user id), url, sha256 (hex), crop (file name)."""

    entries: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> "DenyList":
        """Reads a file; `#` begins a comment line or, after a space, the rest of a line.

        DataError names the line that is no entry, so that a slip of the pen denies loudly.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return cls()
        except UnicodeDecodeError:
            raise DataError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
        entries: dict[str, set[str]] = {kind: set() for kind in _KINDS}
        for number, line in enumerate(text.splitlines(), 1):
            entry = "" if line.lstrip().startswith("#") else line.split(" #")[0].strip()
            if not entry:
                continue
            kind, separator, value = (part.strip() for part in entry.partition(":"))
            if kind not in _KINDS or not separator or not value:
                allowed = ", ".join(f"{kind}:…" for kind in _KINDS)
                raise DataError(f"{path}, line {number}, is {entry!r}; allowed is {allowed}.")
            entries[kind].add(_normal(kind, value))
        return cls({kind: frozenset(values) for kind, values in entries.items()})

    def denies(
        self,
        *,
        article: str = "",
        author: str = "",
        url: str = "",
        sha256: str = "",
        crop: str = "",
    ) -> bool:
        """Whether any of the names given is an entry; an empty name never is."""
        names = {"article": article, "author": author, "url": url, "sha256": sha256, "crop": crop}
        return any(
            _normal(kind, name) in self.entries.get(kind, frozenset())
            for kind, name in names.items()
            if name
        )


def _normal(kind: str, value: str) -> str:
    return value.lower() if kind in _ANY_CASE else value
