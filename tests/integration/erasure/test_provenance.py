"""Tables of this and earlier versions lead from an image to its articles."""

import json

import pytest

from pttfaces.denylist import DenyList
from pttfaces.erasure import messages
from pttfaces.erasure.provenance import ProvenanceTables
from pttfaces.errors import DataError

ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)
CROP = f"{ONE[:16]}-0.png"


def lines(*rows: dict[str, object]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def provenance() -> ProvenanceTables:
    """Ann's article with two images, one of them again in a push of Bob's under Cy's article."""
    found = ProvenanceTables()
    found.add(
        "articles.jsonl",
        lines({"id": "M.1", "author": "Ann", "title": "[正妹] one"}, {"id": "M.2", "author": "cy"}),
    )
    posted = {"place": "body", "author": ""}
    found.add(
        "links.jsonl",
        lines(
            {"article": "M.1", "posted": "https://x/a", "url": "https://i.x/a.jpg", **posted},
            {"article": "M.2", "posted": "https://y/b", "url": "https://y/b", "author": "Bob"},
        ),
    )
    found.add(
        "ledger.csv",
        (
            "article,place,url,final_url,status,sha256,path\n"
            f"M.1,body,https://i.x/a.jpg,https://cdn.x/a.jpg,ok,{ONE},11/1.jpg\n"
            f"M.1,body,https://i.x/c.jpg,,ok,{THREE},33/3.jpg\n"
            f"M.2,push,https://y/b,,duplicate,{ONE},11/1.jpg\n"
            f"M.2,body,https://y/d,,ok,{TWO},22/2.jpg\n"
        ).encode(),
    )
    found.add("crops.csv", f"crop,image,face,phash\n{CROP},11/1.jpg,0,ff\n".encode())
    row = f"{CROP},{ONE},0,123.4,train,,\n"
    found.add("dataset.csv", b"crop,sha256,face,blur,split,reason,duplicate_of\n" + row.encode())
    return found


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("article", "M.1", {ONE, THREE}),
        ("author", "ann", {ONE, THREE}),
        ("author", "BOB", {ONE}),
        ("url", "https://x/a", {ONE}),
        ("url", "https://i.x/a.jpg", {ONE}),
        ("url", "https://cdn.x/a.jpg", {ONE}),
        ("sha256", TWO, {TWO}),
        ("article", "M.9", set()),
    ],
)
def test_every_kind_of_name_finds_its_images(
    provenance: ProvenanceTables, kind: str, name: str, expected: set[str]
) -> None:
    denied = DenyList({kind: frozenset({name})})
    assert {origin.sha256 for origin in provenance.matches(denied)} == expected


def test_an_image_has_all_its_places_and_its_crops(provenance: ProvenanceTables) -> None:
    assert [(o.article, o.poster) for o in provenance.origins_of(ONE)] == [
        ("M.1", "Ann"),
        ("M.2", "Bob"),
    ]
    assert list(provenance.crops_of({ONE[:16]})) == [CROP]
    assert provenance.hashes() == {CROP: "ff"}


def test_old_tables_add_what_new_ones_lack(provenance: ProvenanceTables) -> None:
    gone = "4" * 64
    provenance.add("articles.jsonl", lines({"id": "M.0", "author": "ann"}))
    provenance.add(
        "ledger.csv",
        f"article,place,url,status,sha256,path\nM.0,body,https://z/e,ok,{gone},44/4.jpg\n".encode(),
    )
    assert gone in {o.sha256 for o in provenance.matches(DenyList.of(["author:ann"]))}
    provenance.add("ledger.csv", b"\xff\xfe not a table")
    provenance.add("articles.jsonl", b"{broken")


def test_a_damaged_row_hides_no_other(provenance: ProvenanceTables) -> None:
    """As an editor, a kill or a disk leaves it: cut short, too long, without a last line's end."""
    added = f"article,url,sha256,path\nM.3,https://z/\nM.4,https://z/e,{TWO},22/2.jpg,more\n"
    provenance.add("ledger.csv", f"{added}M.5,https://z/f,{TWO},22/2.jpg".encode())
    assert {"M.4", "M.5"} < {origin.article for origin in provenance.origins_of(TWO)}
    provenance.add(
        "crops.csv", f"crop,image,face,phash\nx,22/2.jpg,0,zz\n{TWO}-0.png,22/2".encode()
    )
    provenance.add("dataset.csv", f"crop,sha256,split\n{CROP},{ONE}".encode())
    assert set(provenance.crops_of({ONE[:16], TWO[:16]})) == {CROP, f"{TWO}-0.png"}
    assert provenance.hashes() == {CROP: "ff"}
    assert any("in data/dataset/train" in line for line in messages.trace(provenance, CROP))


def test_a_trace_names_every_place_and_measure(provenance: ProvenanceTables) -> None:
    """The table of the fixture has sharpness under its name of version 0.1, blur."""
    printed = "\n".join(messages.trace(provenance, CROP))
    for text in (CROP, ONE, "M.1", "Ann", "[正妹] one", "M.2", "push of Bob", "https://x/a"):
        assert text in printed
    assert "in data/dataset/train" in printed
    assert "sharpness 123.4" in printed
    assert "\n".join(messages.trace(provenance, TWO)).count("M.2") == 1
    with pytest.raises(DataError, match=r"is in no data/ledger\.csv"):
        list(messages.trace(provenance, f"{'9' * 16}-0.png"))
