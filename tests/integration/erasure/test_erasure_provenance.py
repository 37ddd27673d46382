"""Tables of this and earlier versions lead from an image to its articles."""

import json

import pytest

from pttfaces.denylist import DenyList
from pttfaces.erasure import messages
from pttfaces.erasure.provenance import Provenance
from pttfaces.errors import DataError

ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)
CROP = f"{ONE[:16]}-0.png"


def lines(*rows: dict[str, object]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


POSTED = {"place": "body", "author": ""}
TABLES = [
    (
        "articles.jsonl",
        lines({"id": "M.1", "author": "Ann", "title": "[正妹] one"}, {"id": "M.2", "author": "cy"}),
    ),
    (
        "links.jsonl",
        lines(
            {"article": "M.1", "posted": "https://x/a", "url": "https://i.x/a.jpg", **POSTED},
            {"article": "M.2", "posted": "https://y/b", "url": None, "author": "Bob"},
            {
                "article": "M.2",
                "posted": "https://y/d?x",
                "addresses": ["https://y/d", "https://y/e"],
                **POSTED,
            },
        ),
    ),
    (
        "ledger.csv",
        (
            "article,place,url,final_url,status,sha256,path\n"
            f"M.1,body,https://i.x/a.jpg,https://cdn.x/a.jpg,ok,{ONE},11/1.jpg\n"
            f"M.1,body,https://i.x/c.jpg,,ok,{THREE},33/3.jpg\n"
            f"M.2,push,https://y/b,,duplicate,{ONE},11/1.jpg\n"
            f"M.2,body,https://y/e,,ok,{TWO},22/2.jpg\n"
        ).encode(),
    ),
    ("crops.csv", f"crop,image,face,face_px\n{CROP},11/1.jpg,0,7\n".encode()),
    (
        "dataset.csv",
        (
            "crop,sha256,face,blur,split,reason,duplicate_of\n" + f"{CROP},{ONE},0,123.4,train,,\n"
        ).encode(),
    ),
]


@pytest.fixture
def provenance() -> Provenance:
    """Ann's article with two images, one of them again in a push of Bob's under Cy's article."""
    return Provenance(TABLES)


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("article", "M.1", {ONE, THREE}),
        ("author", "ann", {ONE, THREE}),
        ("author", "BOB", {ONE}),
        ("url", "https://x/a", {ONE}),
        ("url", "https://i.x/a.jpg", {ONE}),
        ("url", "https://cdn.x/a.jpg", {ONE}),
        ("url", "https://y/d?x", {TWO}),
        ("url", "https://y/d", {TWO}),
        ("url", "https://y/e", {TWO}),
        ("article", "M.9", set()),
    ],
)
def test_every_kind_of_name_finds_its_images(
    provenance: Provenance, kind: str, name: str, expected: set[str]
) -> None:
    denied = DenyList({kind: frozenset({name})})
    assert {origin.sha256 for origin in provenance.denied_origins(denied)} == expected


@pytest.mark.parametrize(
    "name",
    [
        "http://imgur.com/Ab12345",
        "https://i.imgur.com/Ab12345.png)",
        "https://imgur.com/Ab12345l.jpg",
    ],
)
def test_an_image_is_found_by_another_form_of_its_link(name: str) -> None:
    ledger = "article,place,url,status,sha256,path\n"
    ledger += f"M.1,body,https://i.imgur.com/Ab12345.jpg,ok,{ONE},11/1.jpg\n"
    ledger += f"inbox,inbox,inbox:a.jpg,ok,{TWO},22/2.jpg\n"
    provenance = Provenance([("ledger.csv", ledger.encode())])
    found = provenance.denied_origins(DenyList({"url": frozenset({name, "inbox:b.jpg"})}))
    assert [origin.sha256 for origin in found] == [ONE]


def test_an_image_has_all_its_places_and_its_crops(provenance: Provenance) -> None:
    assert [(o.article, o.poster) for o in provenance.origins_of({ONE[:16]})] == [
        ("M.1", "Ann"),
        ("M.2", "Bob"),
    ]
    row = provenance.crops[CROP]
    values = [row[column] for column in ("sharpness", "split", "face_px", "yaw")]
    assert values == ["123.4", "train", "7", ""]


def test_old_tables_add_what_new_ones_lack() -> None:
    gone = "4" * 64
    ledger = f"article,place,url,status,sha256,path\nM.0,body,https://z/e,ok,{gone},44/4.jpg\n"
    old = [
        ("articles.jsonl", lines({"id": "M.0", "author": "ann"}, {"id": "M.1", "author": "old"})),
        ("ledger.csv", ledger.encode()),
        ("ledger.csv", b"\xff\xfe not a table"),
        ("ledger.csv", b""),
        ("articles.jsonl", b"{broken\n[]"),
    ]
    provenance = Provenance([*TABLES, *old])
    assert gone in {o.sha256 for o in provenance.denied_origins(DenyList.of(["author:ann"]))}
    assert provenance.articles["M.1"]["author"] == "Ann"


def test_no_table_is_no_origin() -> None:
    provenance = Provenance([])
    assert (provenance.origins, provenance.crops, provenance.articles) == ([], {}, {})


def test_a_damaged_row_hides_no_other() -> None:
    """As an editor, a kill or a disk leaves it: cut short, too long, without a last line's end."""
    header, row = "article,url,sha256,path\n", f"M.4,https://z/e,{TWO},22/2.jpg"
    ledger = f"{header}M.3,https://z/\n{row}\n{row},more\nM.5,https://z/f,{TWO},22/2.jpg"
    crops = f"crop,image,face,phash\nx,22/2.jpg,0,zz\n{TWO}-0.png,22/2"
    damaged = [("ledger.csv", ledger.encode()), ("crops.csv", crops.encode())]
    provenance = Provenance([*damaged, *TABLES])
    found = provenance.origins_of({TWO[:16]})
    assert {"M.4", "M.5"} < {origin.article for origin in found}
    assert {CROP, f"{TWO}-0.png"} < provenance.crops.keys()


def test_a_trace_names_every_place_and_measure(provenance: Provenance) -> None:
    """The table of the fixture has sharpness under its name of version 0.1, blur."""
    printed = "\n".join(messages.trace(provenance, CROP))
    for text in (CROP, ONE, "M.1", "Ann", "[正妹] one", "M.2", "push of Bob", "https://x/a"):
        assert text in printed
    assert "in data/dataset/train" in printed
    assert "sharpness 123.4" in printed
    assert "\n".join(messages.trace(provenance, TWO)).count("M.2") == 1
    with pytest.raises(DataError, match=r"is in no data/ledger\.csv"):
        list(messages.trace(provenance, f"{'9' * 16}-0.png"))
