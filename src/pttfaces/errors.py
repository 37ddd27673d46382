"""Defines the errors that a user can do something about.

    PttFacesError        anything below; a stage prints it as one sentence and ends with exit code 2
    ├── ParamsError      params.yaml holds a value that is not allowed
    ├── SiteError        the board or an image host does not respond as expected
    ├── DataError        the data is missing, too little or not as expected
    └── WeightsError     a network's weights are missing or not the expected ones

A message says what was wrong, where, what was expected and what to do next. Anything else that is
raised is a bug and keeps its stack trace.
"""

import unicodedata

_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories: controls, surrogates, line separators
_BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class PttFacesError(Exception):
    """The base of all errors of this project; its text is a sentence for the user."""


class ParamsError(PttFacesError):
    """params.yaml (or a command's argument) holds a value that is not allowed."""


class SiteError(PttFacesError):
    """A site is down, refuses requests, or serves something unexpected."""


class DataError(PttFacesError):
    """The data cannot be used: it is missing, too little, unreadable, or of the wrong form."""


class WeightsError(PttFacesError):
    """A weights file is missing, or its digest is not the expected one."""


def first_line(error: Exception) -> str:
    """The first line of what another library's error says, else its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 article, 2 articles. noun: one whose plural has an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """Untrusted text (a title, a file name, a server's message), safe to show on a terminal.

    Control characters and those that change the direction of writing become escapes: they could
    move the cursor, or make a line read as another (Trojan Source, CVE-2021-42574). Line feeds and
    tabs stay.
    """
    return "".join(
        character.encode("unicode_escape").decode() if _is_unsafe(character) else character
        for character in text
    )


def _is_unsafe(character: str) -> bool:
    control = unicodedata.category(character) in _CONTROLS and character not in "\n\t"
    return control or character in _BIDI
