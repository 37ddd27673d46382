"""The tree of errors that a person can do something about.

    PttFacesError        anything below; a stage prints it as one sentence and ends with exit code 2
    ├── ParamsError      params.yaml says something that cannot be
    ├── SiteError        the board or a picture host does not answer as it should
    ├── DataError        there is too little, or something else than expected, to work on
    └── WeightsError     a network's weights are missing or are not the ones expected

A message says what was wrong, where, what was expected and what to do next. Anything else that is
raised is a bug and keeps its stack trace.
"""

import unicodedata

_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories: controls, surrogates, line separators
_BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class PttFacesError(Exception):
    """One sentence for a person; the base of all errors of this project."""


class ParamsError(PttFacesError):
    """params.yaml (or a command's argument) holds something that is not allowed."""


class SiteError(PttFacesError):
    """A site is down, refuses, or serves something else than it should."""


class DataError(PttFacesError):
    """The data at hand cannot be worked on: too few, unreadable, or of the wrong form."""


class WeightsError(PttFacesError):
    """A file of weights is missing, or its digest is not the expected one."""


def printable(text: str) -> str:
    """Text from elsewhere (a title, a file name, a server's message) as a terminal may show it.

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
