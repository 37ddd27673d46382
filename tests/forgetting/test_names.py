import argparse
from pathlib import Path

import pytest

from pttfaces import files
from pttfaces.erasure import targets
from pttfaces.errors import ParamsError

ARTICLE = "M.1704074641.A.0F3"


def wanted(*arguments: str) -> list[str]:
    parser = argparse.ArgumentParser()
    targets.add_arguments(parser)
    return targets.wanted(parser.parse_args(arguments))


def test_every_kind_of_name_becomes_an_entry() -> None:
    crop = f"{'ab' * 8}-0.png"
    assert wanted(
        *("--url", "https://i.example/1.jpg", "--author", "ann", "--sha256", "AB" * 32),
        *("--article", ARTICLE, "--crop", f"data/dataset/train/{crop}"),
    ) == [
        "url:https://i.example/1.jpg",
        f"article:{ARTICLE}",
        "author:ann",
        f"sha256:{'ab' * 32}",
        f"crop:{crop}",
    ]


def test_an_article_s_address_names_the_article() -> None:
    address = f"https://board.example/bbs/Beauty/{ARTICLE}.html"
    assert wanted("--article", address) == wanted("--url", address) == [f"article:{ARTICLE}"]


def test_a_picture_s_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "mine.jpg", b"picture")
    digest = files.digest_bytes(b"picture")
    assert wanted("--crop", str(tmp_path / "mine.jpg")) == [f"sha256:{digest}"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sha256", "abc"),
        ("--article", "the one with the cat"),
        ("--crop", "nowhere.png"),
        ("--author", "two\nlines"),
        ("--url", "https://i.example/ #1"),
        ("--author", " "),
        ("--author", "ann (Ann)"),
        ("--url", "i.example/1.jpg"),
    ],
)
def test_what_is_no_name_is_one_sentence(arguments: tuple[str, str]) -> None:
    with pytest.raises(ParamsError):
        wanted(*arguments)
