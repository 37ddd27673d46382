"""Text from elsewhere on a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from pttfaces.errors import counted, printable


@given(st.text())
def test_printable_text_has_no_control_and_stays_as_it_is(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    assert not {"\x1b", "\x07", "\r", "\x9b", "\u202e", "\u2066"} & set(shown)


def test_counted_has_a_plural_but_for_one() -> None:
    assert [counted(count, "article") for count in (0, 1, 2)] == [
        "0 articles",
        "1 article",
        "2 articles",
    ]
