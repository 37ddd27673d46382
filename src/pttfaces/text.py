"""Text from elsewhere (a title, a file name, a server's words), made safe to show.

Ground floor: knows nothing of where the text came from.
"""

import unicodedata

_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories: controls, surrogates, line separators
_TURNS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # bidi


def printable(text: str) -> str:
    """The text as a terminal may show it.

    Control characters and those that turn the direction of writing become escapes: they could move
    the cursor, or make a line read as another (Trojan Source, CVE-2021-42574). Line feeds and tabs
    stay.
    """
    return "".join(
        character.encode("unicode_escape").decode() if _is_unsafe(character) else character
        for character in text
    )


def _is_unsafe(character: str) -> bool:
    control = unicodedata.category(character) in _CONTROLS and character not in "\n\t"
    return control or character in _TURNS
