"""The deny list's file."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.denylist import DenyList
from pttfaces.errors import DataError


def test_each_kind_of_entry_denies_its_own(tmp_path: Path) -> None:
    path = tmp_path / "denylist.txt"
    path.write_text(
        "# people who asked\n\narticle:M.1.A.0\nauthor: Someone  # by mail\n"
        "url:https://a.test/1.jpg#x\nsha256:AB12\ncrop:ab-0.png\n"
    )
    deny = DenyList.read(path)
    assert deny.denies(article="M.1.A.0")
    assert deny.denies(author="someone", article="M.2.A.0")
    assert deny.denies(url="https://a.test/1.jpg#x")
    assert deny.denies(sha256="ab12")
    assert deny.denies(crop="ab-0.png")
    assert not deny.denies(article="M.2.A.0", author="other", url="", sha256="", crop="")


def test_no_file_denies_nothing(tmp_path: Path) -> None:
    assert not DenyList.read(tmp_path / "none.txt").denies(author="someone")


@pytest.mark.parametrize("line", ["someone", "user:someone", "author:", ": x"])
def test_a_line_that_is_no_entry_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "denylist.txt"
    path.write_text(f"author:a\n{line}\n")
    with pytest.raises(DataError, match=r"line 2, is .*allowed is article:"):
        DenyList.read(path)


@given(st.binary(max_size=100) | st.text(max_size=60).map(lambda text: f"author:{text}".encode()))
def test_any_bytes_are_a_list_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("deny") / "denylist.txt"
    path.write_bytes(content)
    with suppress(DataError):
        deny = DenyList.read(path)
        assert DenyList.of(deny.lines()).entries == deny.entries


def test_entries_are_added_once_and_what_stands_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "denylist.txt"
    path.write_text("# people who asked\nauthor:Someone  # by mail", encoding="utf-8")
    assert DenyList.add(path, ["author:someone", "sha256:AB12", "article:M.1", "article:M.1"]) == 2
    assert path.read_text(encoding="utf-8").splitlines() == [
        "# people who asked",
        "author:Someone  # by mail",
        "sha256:AB12",
        "article:M.1",
    ]
    assert DenyList.add(path, ["article:M.1"]) == 0
    assert DenyList.add(tmp_path / "new.txt", ["crop:x"]) == 1
