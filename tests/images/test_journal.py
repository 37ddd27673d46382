"""The journal of outcomes: short, and whole line by line whatever became of its file."""

from pathlib import Path

import pytest
from damage import DAMAGES, Damage
from hypothesis import given

from pttfaces.download import result_cache as journals
from pttfaces.download.result import Outcome, Picture


def test_a_journal_of_many_retries_is_made_short_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with journals.opened(path) as notes:
        for at in range(3000):
            notes.add([(f"http://a.test/{at % 7}", Outcome("failed", attempts=at))])
    with journals.opened(path) as notes:
        assert len(notes.known) == 7
        assert notes.known["http://a.test/3"].attempts == 2999 - (2999 - 3) % 7
    assert path.read_bytes().count(b"\n") == 7


def test_the_line_after_a_cut_one_is_not_lost_with_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for number in range(3):
        with journals.opened(path) as notes:
            assert list(notes.known) == [str(earlier) for earlier in range(number)]
            notes.add([(str(number), Outcome("gone"))])
        with path.open("ab") as handle:
            handle.write(b'["http://cut')


@given(DAMAGES)
def test_a_damaged_journal_tells_nothing_wrong(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    jpeg = Picture("a" * 64, 999, "JPEG", 640, 480, True)
    with journals.opened(path) as notes:
        notes.add([("http://a.test/1", Outcome("ok", "", 1, 200, "http://b.test/1", jpeg))])
        notes.add([("http://a.test/2", Outcome("too_large", "larger", 1, 200, "", None, 10**7))])
        notes.add([("http://a.test/3", Outcome("gone", "HTTP 404", 2, 404))])
        told = dict(notes.known)
    content = path.read_bytes()
    path.write_bytes(damage.of(content))
    known = journals.read(path)
    assert known.items() <= told.items()
    if damage.change and content[int(damage.place * len(content))] != ord("\n"):
        assert len(known) == 2, "the other lines are whole"
    with journals.opened(path) as notes:
        assert notes.known == known
