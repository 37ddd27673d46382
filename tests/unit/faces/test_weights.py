import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pttfaces import files, weights
from pttfaces.errors import WeightsError
from pttfaces.http import LoopbackHosts

CONTENT = b"weights" * 100_000
SHA256 = files.digest_bytes(CONTENT)
URL = "https://weights.example/network.bin"


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/network.bin" else 404)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Nothing: a test's server is silent."""


@pytest.fixture
def hosts() -> Iterator[LoopbackHosts]:
    """To a site that has the file; no other name leads anywhere."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield LoopbackHosts({"weights.example": server.server_address[1], "away.example": 1})
    server.shutdown()
    server.server_close()


def test_find_of_a_given_path_takes_that_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.bin"
    path.write_bytes(CONTENT)
    assert weights.find("Net", str(path), [tmp_path / "no"], URL, SHA256) == path
    with pytest.raises(WeightsError, match=r"other\.bin does not exist"):
        weights.find("Net", str(tmp_path / "other.bin"), [path], URL, SHA256)


def test_find_of_a_relative_path_looks_in_the_working_folder_and_the_main_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"  # as of a queued experiment
    clone.mkdir()
    monkeypatch.chdir(clone)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with pytest.raises(WeightsError, match=r"weights file mine\.bin does not exist"):
        weights.find("Net", "mine.bin", [], None, SHA256)
    (tmp_path / "mine.bin").write_bytes(CONTENT)
    assert weights.find("Net", "mine.bin", [], None, SHA256) == tmp_path / "mine.bin"
    (clone / "mine.bin").write_bytes(CONTENT)
    assert weights.find("Net", "mine.bin", [], None, SHA256) == Path("mine.bin")


def test_find_takes_a_cached_file_by_the_first_digits_of_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "hub" / "network.bin"
    files.write_bytes(path, CONTENT)
    assert weights.find("Net", None, [tmp_path / "no", path], URL, SHA256[:8]) == path


def test_find_of_a_missing_file_downloads_it_once(tmp_path: Path, hosts: LoopbackHosts) -> None:
    target = tmp_path / "cache" / "network.bin"
    assert weights.find("Net", None, [target], URL, SHA256, hosts=hosts) == target
    assert target.read_bytes() == CONTENT
    nowhere = LoopbackHosts({"weights.example": 1})
    assert weights.find("Net", None, [target], URL, SHA256, hosts=nowhere) == target


def test_find_of_other_weights_raises_weights_error_and_keeps_none(
    tmp_path: Path, hosts: LoopbackHosts
) -> None:
    target = tmp_path / "cache" / "network.bin"
    with pytest.raises(WeightsError, match="not the expected weights file"):
        weights.find("Net", None, [target], URL, "0" * 64, hosts=hosts)
    assert not list(target.parent.iterdir())
    target.write_bytes(b"old")
    with pytest.raises(WeightsError, match="delete it"):
        weights.find("Net", None, [target], URL, SHA256, hosts=hosts)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://weights.example/gone.bin", "HTTP 404"),
        ("https://away.example/network.bin", "no connection"),
    ],
)
def test_find_when_the_download_fails_says_where_to_put_the_file(
    tmp_path: Path, hosts: LoopbackHosts, url: str, why: str
) -> None:
    target = tmp_path / "cache" / "network.bin"
    with pytest.raises(WeightsError, match=why) as caught:
        weights.find("Net", None, [target], url, SHA256, key="detect.weights", hosts=hosts)
    assert str(target) in str(caught.value)
    assert "detect.weights" in str(caught.value)
