"""One line over the worst pages, links, pictures and inbox together goes through and adds up."""

import csv
import gzip
import os
import re
from pathlib import Path

import pytest
from hostile.board import BOARD, DENIED, PEOPLE, SECRET, TITLES, routes
from hostile.site import Site
from PIL import Image
from repository import SMALL, Repository, make_repository
from torture.funnel import check_funnel

from pttfaces import files, tables
from pttfaces.demo import encode
from pttfaces.demo.board import DemoImage

pytestmark = pytest.mark.timeout(900)  # six stages; a busy machine must not make it fail

SETTINGS: dict[str, object] = {
    **SMALL,
    "source": "ptt",
    "board.base_url": f"http://{BOARD}",
    "board.rate_per_s": 1000,
    "download.attempts": 2,
    "download.timeout_s": 4,
    "download.max_mib": 1,
    "download.max_megapixels": 10,
    "blur_threshold": 0,
}
FORMULA = re.compile(r"[=+@\t\r-]")
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def fill_inbox(inbox: Path) -> None:
    names = ("=cmd.jpg", "+x.jpg", "夏 \u202egpj.jpg", "a,b'\".jpg", "deep/-er/still.jpg")
    for who, name in enumerate(names if os.name != "nt" else ("=cmd.jpg", "deep/-er/still.jpg")):
        content = encode.image_bytes(DemoImage(50 + who, "portrait", (50 + who,)), seed=1)
        files.write_bytes(inbox / name, content)
    files.write_bytes(inbox / "notes.docx", b"PK\x03\x04 no picture")
    files.write_bytes(inbox / "empty.jpg", b"")
    if os.name != "nt":
        files.write_bytes(inbox / "\x1b[2J.jpg", b"<html>")
        files.write_bytes(inbox / "line\nend.jpg", b"<svg/>")


def test_a_hostile_board_goes_through_and_the_funnel_adds_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGUR_CLIENT_ID", f"{SECRET}-of-mine")
    repository = make_repository(tmp_path, SETTINGS)
    data = repository.path / "data"
    fill_inbox(data / "inbox")
    files.write_text(data / "denylist.txt", f"author:{DENIED}\nurl:inbox:=cmd.jpg\n")
    with Site(routes()) as site:
        said = repository.run("dvc", "repro", "curate", **site.environment)
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr[-3000:]
    check_funnel(repository)

    # All this was met:
    read = tables.read_csv(data / "articles_read.csv")
    assert {"ok", "empty", "truncated", "gone", "malformed", "refused"} <= set(read["status"])
    left_out = repository.metrics("crawl")["left_out"]
    assert {name for name, count in left_out.items() if count} >= {
        *("other_date", "deleted", "unknown_id", "announcement"),
        *("no_title", "no_popularity", "denied"),
    }
    fetched = repository.metrics("download")["status"]
    assert [status for status, count in fetched.items() if not count] == ["unasked"]
    assert repository.metrics("detect")["unreadable"] >= 2
    assert repository.metrics("curate")["kept"] >= PEOPLE - 1
    check_texts(repository, said.stdout + said.stderr)
    check_secrets(repository, said.stdout + said.stderr)

    articles = files.read_json_lines(data / "articles.jsonl")
    strange = [each["id"] for each in articles if not each["title"].isprintable()]
    table = tables.read_csv(data / "dataset.csv")
    crop = table["crop"][table["article"].isin(strange)].iloc[0]
    shown = repository.ok("python", "-m", "pttfaces", "trace", crop)
    assert re.search(r"\\[xu][0-9a-f]{2}", shown)
    assert shown.replace("\n", "").isprintable()


def check_texts(repository: Repository, said: str) -> None:
    """Nothing that a stranger wrote is obeyed by a terminal or by a spreadsheet."""
    assert "Traceback" not in said
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", said)
    data = repository.path / "data"
    titles = {article["title"] for article in files.read_json_lines(data / "articles.jsonl")}
    assert set(TITLES[:4]) <= titles
    for path in data.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as handle:
            for row in csv.reader(handle):
                bad = [c for c in row if FORMULA.match(c) and not NUMBER.fullmatch(c)]
                assert not bad, f"{path.name}: {bad}"
    for path in (repository.path / "metrics").rglob("*.json"):
        assert "evil" not in path.read_text(encoding="utf-8")
    for path in (data / "dataset").rglob("*.png"):
        with Image.open(path) as image:
            assert image.size == (16, 16)


def check_secrets(repository: Repository, said: str) -> None:
    """No cookie and no id of the environment's is kept or told."""
    assert SECRET not in said
    for path in repository.path.rglob("*"):
        if path.is_file() and not path.is_symlink() and ".git" not in path.parts:
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            assert SECRET.encode() not in content, path
