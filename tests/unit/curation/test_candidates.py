import contextlib
from dataclasses import replace

import pytest
from candidates_support import NOBODY, USUAL, filtered, look
from damage import DAMAGES, Damage
from faces_support import ledger_row
from hypothesis import given
from hypothesis import strategies as st

from pttfaces import tables
from pttfaces.curation import duplicates
from pttfaces.curation.candidates import Provenance, make_candidates
from pttfaces.errors import DataError
from pttfaces.tables import Article, CropRow, DatasetRow, LedgerRow

ARTICLE = Article("M.1704074641.A.001", "", "", "ann", "2024-01-01", 0)


def test_provenance_group_of_an_inbox_image_is_its_top_folder() -> None:
    """A loose file is a group of its own."""
    groups = [
        Provenance("", "", f"inbox:{name}").group for name in ("a/1.jpg", "a/b/2.jpg", "3.jpg")
    ]
    assert groups[0] == groups[1]
    assert groups[2] not in groups[:2]
    assert Provenance("", "", "inbox:a").group != groups[0]


def test_make_candidates_of_an_image_posted_twice_gives_both_sources() -> None:
    ledger = [
        ledger_row("x.jpg", "ab", ARTICLE.id, "https://i.example/1.jpg"),
        ledger_row("x.jpg", "ab", "M.2", "https://i.example/2.jpg"),
        ledger_row("", "", "M.3", "https://i.example/3.jpg"),
    ]
    crop = replace(USUAL, crop="x-0.png", image="x.jpg", phash=look("ab" * 32))
    (found,) = make_candidates([crop], ledger, [ARTICLE], NOBODY)
    assert found.crop == crop
    assert found.sha256 == "ab"
    assert found.sources == (
        Provenance(ARTICLE.id, "ann", "https://i.example/1.jpg", "", "2024-01-01"),
        Provenance("M.2", "", "https://i.example/2.jpg"),
    )


def test_make_candidates_reads_the_hashes_of_version_0_2_but_no_mixture() -> None:
    """Which have half as many bits."""
    old = [replace(USUAL, crop=name, phash="ab" * 32) for name in ("a", "b")]
    copies = duplicates.find_copies(
        [one.crop.phash for one in make_candidates(old, [], [], NOBODY)], 0
    )
    assert copies.tolist() == [[0, 1]]
    with pytest.raises(DataError, match="for a perceptual hash"):
        make_candidates([*old, replace(USUAL, phash=look("ab" * 32))], [], [], NOBODY)


def test_make_candidates_of_a_damaged_hash_raises_data_error() -> None:
    with pytest.raises(DataError, match=r"crops\.csv has 'abc' for a perceptual hash"):
        make_candidates([replace(USUAL, phash="abc")], [], [], NOBODY)


@given(DAMAGES, st.booleans())
def test_make_candidates_of_damaged_tables_raises_at_most_data_error(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage, of_crops: bool
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    crops, ledger = folder / "crops.csv", folder / "ledger.csv"
    rows = [
        replace(USUAL, crop=f"a-{n}.png", image="a.jpg", phash=look(f"{n}" * 64)) for n in (0, 1)
    ]
    tables.write(crops, rows, CropRow)
    row = ledger_row("a.jpg", "a" * 64, ARTICLE.id, "http://a.test/1")
    tables.write(ledger, [row], LedgerRow)

    def filter_tables() -> list[DatasetRow]:
        read = tables.read(crops, CropRow), tables.read(ledger, LedgerRow)
        return filtered(make_candidates(*read, [ARTICLE], NOBODY))

    assert len(filter_tables()) == 2
    path = crops if of_crops else ledger
    path.write_bytes(damage.of(path.read_bytes()))
    with contextlib.suppress(DataError):
        assert len(filter_tables()) <= 2
