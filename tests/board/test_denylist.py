"""The deny list's file."""

from pathlib import Path

import pytest

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
