"""Every link ends with the right row in the ledger, whatever its host does; the good ones arrive.

All cases are fetched in one run, each from a host of its own, and then looked at one by one.
"""

import hashlib
import http.server
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from hostile.links import CASES, JPEG, gives
from hostile.site import EXTENSIONS, Site, image_bytes, options

from pttfaces import tables
from pttfaces.denylist import DenyList
from pttfaces.download import DownloadSummary, download
from pttfaces.tables import Link

MIB = 2**20
NONE = DenyList()


# What the names above come to, answer after answer; the last one stays. 2d00::/8 is public by its
# form and belongs to no one, so that connecting to it fails.
ANSWERS = {
    "name-of-private.test": ["10.0.0.1"],
    "name-of-mapped.test": ["::ffff:192.168.0.1"],
    "name-of-metadata.test": ["169.254.169.254"],
    "name-of-nat64.test": ["64:ff9b::a9fe:a9fe"],
    "second-answer-private.test": ["2d00::1", "127.0.0.1"],
}


def look_up(real: Callable[..., Any]) -> Callable[..., Any]:
    """`socket.getaddrinfo`, with the names of ANSWERS."""
    left = {name: list(answers) for name, answers in ANSWERS.items()}

    def getaddrinfo(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host not in left:
            return real(host, port, *rest, **options)
        address = left[host].pop(0) if len(left[host]) > 1 else left[host][0]
        if ":" in address:
            return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return getaddrinfo


def link(url: str) -> Link:
    return Link("M.1.A.1", 0, url, (url,), "body")


@dataclass
class Run:
    """One run over all cases."""

    rows: dict[str, dict[str, str]]
    summary: DownloadSummary
    site: Site
    data: Path
    peak: int


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("hostile")
    routes = {f"{name}.test": case.handler for name, case in CASES.items() if case.handler}
    links = [link(case.posted or f"http://{name}.test/a.jpg") for name, case in CASES.items()]
    with pytest.MonkeyPatch.context() as patch, Site(routes) as site:
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        patch.setattr(socket, "getaddrinfo", look_up(socket.getaddrinfo))
        patch.setattr("pttfaces.http._DNS_S", 0.0)
        tracemalloc.start()
        summary = download(
            links,
            site.hosts(),
            "web",
            options(concurrency=100, timeout_s=10),
            NONE,
            folder / "data",
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        frame = tables.read_csv(folder / "data/ledger.csv")
        rows = dict(zip(CASES, frame.to_dict("records"), strict=True))
        yield Run(rows, summary, site, folder / "data", peak)


@pytest.mark.parametrize("name", list(CASES))
def test_ledger_of_each_case_says_how_it_ended(name: str, run: Run) -> None:
    case, row = CASES[name], run.rows[name]
    assert (row["status"], row["error"]) == (case.status, case.error)
    assert row["attempts"] == str(case.attempts)
    if case.size:
        assert (row["width"], row["height"]) == case.size
    assert {key: row[key] for key in case.more} == case.more
    assert bool(row["path"]) == (case.status in ("ok", "duplicate"))


def test_ledger_names_the_files_that_exist_byte_for_byte(run: Run) -> None:
    raw = run.data / "raw"
    there = {path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file()}
    assert there == {row["path"] for row in run.rows.values()} - {""}
    for row in run.rows.values():
        if row["path"]:
            content = (raw / row["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row["sha256"]
            assert row["path"] == f"{row['sha256'][:2]}/{row['sha256']}.{EXTENSIONS[row['format']]}"
            assert len(content) == int(row["bytes"])
    assert (raw / run.rows["a-good-avif"]["path"]).read_bytes() == image_bytes("AVIF", 3)
    assert (raw / run.rows["gzipped-image"]["path"]).read_bytes() == image_bytes("JPEG", 7)


def test_failed_txt_lists_each_failed_url_once(run: Run) -> None:
    listed = (run.data / "failed.txt").read_text(encoding="utf-8").splitlines()
    expected = [row["url"] for row in run.rows.values() if row["status"] not in ("ok", "duplicate")]
    assert listed == list(dict.fromkeys(expected))


def test_metrics_count_the_rows_of_the_ledger(run: Run) -> None:
    metrics = run.summary.metrics
    assert metrics["links"] == len(CASES) == sum(metrics["status"].values())
    assert metrics["pictures"] == metrics["status"]["ok"]
    assert metrics["format"]["AVIF"] == 1
    assert "removed" in run.summary.sentence


def test_download_redirected_to_removed_png_does_not_request_it(run: Run) -> None:
    assert not run.site.asked["redirect-end.test/removed.png"]


def test_download_of_a_url_posted_twice_requests_it_once(run: Run) -> None:
    assert run.site.asked["a-good-png.test/a.jpg"] == 1


def test_download_of_hostile_files_uses_bounded_memory(run: Run) -> None:
    assert run.peak < 40 * MIB  # of Python's own; the bombs alone would be 200 and more


@pytest.fixture
def _loopback_is_public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connects to loopback as if it were the public internet, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("pttfaces.http.public_socket", lambda info, _: socket.socket(*info[:3]))


@pytest.mark.usefixtures("_loopback_is_public")
def test_download_of_an_https_link_without_tls_marks_it_failed() -> None:
    good = Site({"good.test": gives(200, JPEG)})
    with socket.create_server(("127.0.0.1", 0)) as plain, good as site:

        def answer_in_plain_text() -> None:
            for _ in range(2):
                connection, _ = plain.accept()
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()

        threading.Thread(target=answer_in_plain_text, daemon=True).start()
        port = plain.getsockname()[1]
        links = [link("http://good.test/a.jpg"), link(f"https://localhost:{port}/a.jpg")]
        download(links, site.hosts(), "web", options(), NONE)
    rows = tables.read_csv("data/ledger.csv").to_dict("records")
    assert [row["status"] for row in rows] == ["ok", "failed"]
    assert rows[1]["error"] in ("no TLS connection", "the connection broke")


@pytest.mark.usefixtures("_loopback_is_public")
@pytest.mark.parametrize(
    ("known", "name", "believed"),
    [(True, "localhost", True), (False, "localhost", False), (True, "other.test", False)],
    ids=["its own", "of nobody", "of another host"],
)
def test_download_over_tls_trusts_only_the_host_s_own_certificate(
    known: bool, name: str, believed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """known: whether this machine trusts its authority."""
    authority = trustme.CA()
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    if known:
        authority.cert_pem.write_to_path("authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    asked = []

    class Host(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(JPEG)))
            self.end_headers()
            self.wfile.write(JPEG)

    good = Site({"good.test": gives(200, image_bytes("PNG"))})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host) as server, good as site:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://localhost:{server.server_port}/a.jpg"
        download([link("http://good.test/a.jpg"), link(url)], site.hosts(), "web", options(), NONE)
        server.shutdown()
    row = tables.read_csv("data/ledger.csv").to_dict("records")[1]
    refused = ("failed", "the host's certificate is not valid")
    assert (row["status"], row["error"]) == (("ok", "") if believed else refused)
    assert row["attempts"] == "1"
    assert asked == (["/a.jpg"] if believed else [])
