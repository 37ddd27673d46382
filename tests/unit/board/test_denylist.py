"""The deny list: its file, its entries, and what they deny."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.denylist import DenyList
from pttfaces.errors import DataError

ARTICLE, DIGEST = "M.1704074641.A.0F3", "ab" * 32
CROP = f"{DIGEST[:16]}-1.png"


def test_denies_compares_each_kind_of_entry(tmp_path: Path) -> None:
    path = tmp_path / "denylist.txt"
    path.write_text(
        f"# people who asked\n\narticle:{ARTICLE}\nauthor: Someone  # by mail\n"
        f"url:https://a.test/1.jpg#x\nurl:inbox:a b.jpg\nsha256:{DIGEST.upper()}\ncrop:{CROP}\n"
    )
    deny = DenyList.read(path)
    assert deny.denies(article=ARTICLE)
    assert deny.denies(author="someone", article="M.2.A.0")
    assert deny.denies(url="https://a.test/1.jpg#x")
    assert deny.denies(url="inbox:a b.jpg")
    assert deny.denies(sha256=DIGEST)
    assert deny.denies(crop=CROP)
    assert not deny.denies(article="M.2.A.0", author="other", url="", sha256="", crop="")


def test_denies_every_crop_of_the_image_of_a_denied_crop() -> None:
    deny = DenyList.of([f"crop:{CROP}"])
    assert all(deny.denies(crop=f"{DIGEST[:16]}-{face}.png") for face in (0, 1, 12))
    assert not deny.denies(crop=f"{'cd' * 8}-0.png")
    assert deny.lines() == [f"crop:{CROP}"]


def test_read_without_a_file_denies_nothing(tmp_path: Path) -> None:
    assert not DenyList.read(tmp_path / "none.txt").denies(author="someone")


@pytest.mark.parametrize("line", ["someone", "user:someone", "https://a.test/1", ": x"])
def test_read_of_a_line_that_is_no_entry_raises_data_error(line: str, tmp_path: Path) -> None:
    path = tmp_path / "denylist.txt"
    path.write_text(f"author:a\n{line}\n")
    with pytest.raises(DataError, match=r"line 2, is .*expected article:"):
        DenyList.read(path)


@pytest.mark.parametrize(
    ("entry", "form"),
    [
        ("sha256:XYZ", "all 64 hex digits"),
        (f"sha256:{DIGEST[:40]}", "all 64 hex digits"),
        (f"sha256:{DIGEST}0", "all 64 hex digits"),
        (f"article:{ARTICLE} extra", "an article's id"),
        (f"article:https://a.test/bbs/Beauty/{ARTICLE}.html", "an article's id"),
        (f"article:{ARTICLE.lower()}", "an article's id"),
        ("author:", "a user id"),
        ("author:x#y", "without spaces or #"),
        ("author:someone else", "without spaces or #"),
        ("url:a.test/1.jpg", "a full address"),
        ("url:https://a.test/1.jpg extra", "a full address"),
        ("url:inbox:", "a full address"),
        ("url:INBOX:a.jpg", "a full address"),
        ("crop:../x", "a crop's file name"),
        (f"crop:data/crops/{CROP}", "a crop's file name"),
        (f"crop:{DIGEST[:16]}", "a crop's file name"),
    ],
)
def test_of_an_entry_that_can_match_nothing_raises_with_the_form(entry: str, form: str) -> None:
    with pytest.raises(DataError) as caught:
        DenyList.of(["author:a", entry], "list.txt")
    assert str(caught.value).startswith(f"list.txt, line 2, is {entry!r}; expected ")
    assert form in str(caught.value)


@pytest.mark.parametrize("url", ["//i.a.test/1.jpg", "HTTP://a.test/1.jpg", "inbox:=cmd.jpg"])
def test_denies_addresses_as_posted(url: str) -> None:
    assert DenyList.of([f"url:{url}"]).denies(url=url)


@given(st.binary(max_size=100) | st.text(max_size=60).map(lambda text: f"author:{text}".encode()))
def test_read_of_any_bytes_raises_at_most_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("deny") / "denylist.txt"
    path.write_bytes(content)
    with suppress(DataError):
        deny = DenyList.read(path)
        assert DenyList.of(deny.lines()).entries == deny.entries


def test_add_keeps_the_file_and_adds_each_entry_once(tmp_path: Path) -> None:
    path = tmp_path / "denylist.txt"
    path.write_text("# people who asked\nauthor:Someone  # by mail", encoding="utf-8")
    digest, article = f"sha256:{DIGEST.upper()}", f"article:{ARTICLE}"
    assert DenyList.add(path, ["author:someone", digest, article, article]) == 2
    assert path.read_text(encoding="utf-8").splitlines() == [
        "# people who asked",
        "author:Someone  # by mail",
        digest,
        article,
    ]
    assert DenyList.add(path, [article, digest.lower()]) == 0
    assert DenyList.add(tmp_path / "new.txt", [f"crop:{CROP}"]) == 1


def test_of_an_inbox_file_name_with_a_possible_comment_raises_data_error() -> None:
    """`inbox:me #1.jpg` cut short would deny nothing."""
    with pytest.raises(DataError, match=r"list\.txt, line 1: whether ' #' .* by sha256:DIGEST"):
        DenyList.of(["url:inbox:me #1.jpg"], "list.txt")
