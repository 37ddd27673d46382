"""Names on the command line become entries of the deny list."""

from pathlib import Path

import pytest

from pttfaces import files
from pttfaces.erasure import targets
from pttfaces.errors import ParamsError

ARTICLE = "M.1704074641.A.0F3"


def test_every_kind_of_name_becomes_an_entry() -> None:
    crop = f"{'ab' * 8}-0.png"
    assert targets.entries(
        url=["https://i.example/1.jpg"],
        author=["ann"],
        sha256=["AB" * 32],
        article=[ARTICLE],
        crop=[f"data/dataset/train/{crop}"],
    ) == [
        "url:https://i.example/1.jpg",
        "author:ann",
        f"sha256:{'AB' * 32}",
        f"article:{ARTICLE}",
        f"crop:{crop}",
    ]


def test_an_article_s_address_names_the_article() -> None:
    address = f"https://board.example/bbs/Beauty/{ARTICLE}.html"
    assert targets.entries(article=[address]) == [f"article:{ARTICLE}"]
    assert targets.entries(url=[address]) == [f"article:{ARTICLE}"]


def test_an_image_file_is_identified_by_its_bytes(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "mine.jpg", b"image")
    digest = files.digest_bytes(b"image")
    assert targets.entries(crop=[str(tmp_path / "mine.jpg")]) == [f"sha256:{digest}"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("sha256", "abc"),
        ("article", "the one with the cat"),
        ("crop", "nowhere.png"),
        ("author", "two\nlines"),
        ("url", "https://i.example/ #1"),
        ("author", " "),
        ("author", "ann (Ann)"),
        ("url", "i.example/1.jpg"),
    ],
)
def test_what_is_no_name_is_one_sentence(kind: str, name: str) -> None:
    with pytest.raises(ParamsError):
        targets.entries(**{kind: [name]})
