"""Cached pages whose files a kill, a full disk or a bad sector has damaged."""

import pytest
from damage import DAMAGES, Damage
from hostile.pages import DELETED, ROW_2016, ROW_2020, index_page
from hypothesis import given

from pttfaces.board.article_ids import Span
from pttfaces.board.page_cache import IndexPageCache, IndexPageRead, Page, PageCache, PageRange

URL = "https://www.ptt.cc/bbs/Beauty/index2.html"
PAGE = Page(URL, 200, index_page(ROW_2020 + ROW_2016 + DELETED))


@given(DAMAGES)
def test_page_cache_get_when_file_is_damaged_is_none(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    cache = PageCache(tmp_path_factory.mktemp("pages"))
    cache.put(PAGE)
    assert cache.get(URL) == PAGE
    (file,) = cache.folder.rglob("*.gz")
    file.write_bytes(damage.of(file.read_bytes()))
    assert cache.get(URL) in (None, PAGE)


@given(DAMAGES)
def test_index_page_cache_ranges_when_file_is_damaged_is_empty(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    cache, span = IndexPageCache(tmp_path_factory.mktemp("ranges")), Span(0, 10)
    pages = PageRange(span, [IndexPageRead.of(PAGE)] * 2)
    cache.put(pages)
    assert list(cache.ranges(span)) == [pages]
    (file,) = cache.folder.glob("*.gz")
    file.write_bytes(damage.of(file.read_bytes()))
    assert list(cache.ranges(span)) in ([], [pages])
