"""The cache of results: short, and whole line by line whatever became of its file."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from pttfaces import files
from pttfaces.download import result_cache
from pttfaces.download.result import ImageInfo, Result
from pttfaces.download.result_cache import ResultCache

JPEG = ImageInfo("a" * 64, 999, "JPEG", 640, 480, True)


def test_result_cache_of_many_retries_is_compacted_when_opened(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with closing(ResultCache(path)) as cache:
        for at in range(3000):
            cache.add(f"http://a.test/{at % 7}", Result("failed", attempts=at))
    with closing(ResultCache(path)) as cache:
        assert len(cache.results) == 7
        assert cache.results["http://a.test/3"].attempts == 2999 - (2999 - 3) % 7
    assert path.read_bytes().count(b"\n") == 7


def test_result_cache_after_a_cut_line_keeps_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for number in range(3):
        with closing(ResultCache(path)) as cache:
            assert list(cache.results) == [str(earlier) for earlier in range(number)]
            cache.add(str(number), Result("gone"))
        with path.open("ab") as handle:
            handle.write(b'\n["http://cut')


def test_read_cache_of_a_cut_file_gives_its_whole_lines_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with closing(ResultCache(path)) as cache:
        cache.add("http://a.test/1", Result("ok", "", 1, 200, "http://b.test/1", JPEG))
        cache.add("http://a.test/2", Result("too_large", "larger", 1, 200, "", None, 10**7))
        written = dict(cache.results)
    content = path.read_bytes()
    ends = [i for i in range(len(content) + 1) if i == len(content) or content[i : i + 1] == b"\n"]
    for length in range(len(content)):
        path.write_bytes(content[:length])
        whole = sum(0 < end <= length for end in ends)
        assert list(result_cache.read_cache(path).items()) == list(written.items())[:whole]


def test_result_cache_when_opened_takes_over_the_files_of_version_0_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had a file for each version of its code, `<namespace>-<code>.jsonl`; the newest wins."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    path = result_cache.cache_path("web")
    namespace = files.digest_json("web")[:16]
    old = [path.with_name(f"{namespace}-{code * 16}.jsonl") for code in "ba"]
    old[0].write_bytes(
        b'12345678 ["http://a.test/1", ["failed", "HTTP 500", 2, 500, "", null, null]]\n'
        b'9abcdef0 ["http://a.test/2", ["gone", "HTTP 404", 1, 404, "", null, null]]'
    )
    image = '["' + "a" * 64 + '", 999, "JPEG", 640, 480, true]'
    line = f'["http://a.test/1", ["ok", "", 1, 200, "http://b.test/1", {image}, null]]'
    old[1].write_bytes(b"12345678 " + line.encode() + b'\n0000 ["http://cut')
    other = path.with_name(f"{files.digest_json('demo')[:16]}-{'a' * 16}.jsonl")
    other.write_bytes(old[0].read_bytes())
    for age, file in enumerate(old):
        os.utime(file, (age, age))
    with closing(ResultCache(path)) as cache:
        assert cache.results == {
            "http://a.test/1": Result("ok", "", 1, 200, "http://b.test/1", JPEG),
            "http://a.test/2": Result("gone", "HTTP 404", 1, 404, ask_again=86400.0),
        }
    assert sorted(path.parent.iterdir()) == sorted([path, other])
