"""Pages that are kept for the next run, after a kill, a full disk or a bad sector."""

import pytest
from damage import DAMAGES, Damage
from hostile.pages import DELETED, ROW_2016, ROW_2020, index_page
from hypothesis import given

from pttfaces.board.article_ids import Span
from pttfaces.board.page_cache import Listed, Page, PageStore, Shelf, Stretch

URL = "https://www.ptt.cc/bbs/Beauty/index2.html"
PAGE = Page(URL, 200, index_page(ROW_2020 + ROW_2016 + DELETED))


@given(DAMAGES)
def test_a_damaged_page_is_as_if_it_were_not_there(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    store = PageStore(tmp_path_factory.mktemp("pages"))
    store.put(PAGE)
    assert store.get(URL) == PAGE
    (kept,) = store.folder.rglob("*.gz")
    kept.write_bytes(damage.of(kept.read_bytes()))
    assert store.get(URL) in (None, PAGE)


@given(DAMAGES)
def test_a_damaged_stretch_of_the_index_is_as_if_it_were_not_there(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    shelf, span = Shelf(tmp_path_factory.mktemp("shelf")), Span(0, 10)
    stretch = Stretch(span, [Listed.of(PAGE)] * 2)
    shelf.put(stretch)
    assert list(shelf.stretches(span)) == [stretch]
    (kept,) = shelf.folder.glob("*.gz")
    kept.write_bytes(damage.of(kept.read_bytes()))
    assert list(shelf.stretches(span)) in ([], [stretch])
