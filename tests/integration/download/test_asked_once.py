"""What this folder once had is not requested again: a server that counts, real processes, and the
real stages under DVC.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hostile.site import Request, Site, image_bytes, options
from repository import SMALL, Repository, make_repository, put

from pttfaces import files, tables, workdir
from pttfaces.config import Download
from pttfaces.demo import encode
from pttfaces.demo.board import DemoImage, make_board
from pttfaces.demo.site import HOSTS as DEMO_HOSTS
from pttfaces.demo.site import serve
from pttfaces.denylist import DenyList
from pttfaces.download import DownloadSummary, download, result_cache
from pttfaces.http import LOOPBACK_VARIABLE
from pttfaces.tables import Link

LINKS = [
    Link("M.1", at, url, (url,), "body")
    for at, url in enumerate(f"http://{'ab'[at % 2]}.test/{at}.jpg" for at in range(12))
]
HOSTS = ("a.test", "b.test")


async def numbered(request: Request) -> None:
    number = int("".join(filter(str.isdigit, request.path)))
    await request.answer(200, image_bytes("JPEG", number, (16, 16)))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(dict.fromkeys(HOSTS, numbered)) as running:
        yield running


def get(
    site: Site,
    links: list[Link] = LINKS,
    deny: Iterable[str] = (),
    limits: Download | None = None,
) -> DownloadSummary:
    return download(links, site.hosts(), "web", limits or options(), DenyList.of(deny))


def files_in(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def raw() -> dict[str, bytes]:
    return files_in("data/raw")


def originals() -> dict[str, bytes]:
    return files_in(".cache/originals")


# --- there and back


def test_download_of_links_left_out_for_a_while_requests_nothing(site: Site) -> None:
    """Their images are restored."""
    get(site)
    everything = raw()
    assert len(everything) == 12
    assert get(site, LINKS[:2]).restored == 0
    assert len(raw()) == 2
    assert originals().items() == everything.items() - raw().items()
    summary = get(site)
    assert (summary.requested, summary.restored) == (0, 10)
    assert "0 URLs requested in this run, 10 images restored from .cache/" in summary.sentence
    assert (raw(), originals()) == (everything, {})
    assert set(site.asked.values()) == {1}
    assert get(site).restored == 0


def test_download_with_other_limits_and_back_requests_nothing(site: Site) -> None:
    get(site)
    everything = raw()
    for limits in (options(max_megapixels=255e-6), options(max_mib=1e-4)):
        Path("data/inbox").mkdir(parents=True)
        Path("data/inbox/own.png").write_bytes(image_bytes("PNG", 99, (1, 1)))
        assert get(site, limits=limits).requested == 0
        assert len(raw()) == 1
        shutil.rmtree("data/inbox")
        assert get(site).requested == 0
        assert raw() == everything
    assert set(site.asked.values()) == {1}


def test_download_in_another_namespace_and_back_requests_nothing_twice(site: Site) -> None:
    get(site)
    everything = raw()
    with Site({"c.test": numbered}) as other:
        links = [Link("M.2", 0, "http://c.test/99.jpg", ("http://c.test/99.jpg",), "body")]
        download(links, other.hosts(), ["demo", 1], options(), DenyList())
    assert not raw().items() & everything.items()
    assert get(site).requested == 0
    assert raw() == everything


def test_download_when_originals_are_damaged_or_missing_requests_them_again(site: Site) -> None:
    get(site)
    everything = raw()
    get(site, LINKS[:2])
    waiting = sorted(path for path in Path(".cache/originals").rglob("*") if path.is_file())
    flipped = bytearray(waiting[0].read_bytes())
    flipped[len(flipped) // 2] ^= 1
    waiting[0].write_bytes(flipped)
    waiting[1].write_bytes(waiting[1].read_bytes()[:9])
    waiting[2].unlink()
    waiting[3].unlink()
    waiting[3].mkdir()
    summary = get(site)
    assert (summary.requested, summary.restored) == (4, 6)
    assert raw() == everything


def test_download_of_denied_images_restores_none_of_them() -> None:
    """By digest, by address, and by the address that a link has led to; nor does it wait."""

    async def redirects(request: Request) -> None:
        await request.answer(302, Location=f"http://b.test{request.path}")

    with Site({"a.test": redirects, "b.test": numbered}) as site:
        get(site)
        images = {number: image_bytes("JPEG", number, (16, 16)) for number in range(12)}
        deny = [
            f"sha256:{files.digest_bytes(images[0])}",
            "url:http://b.test/1.jpg",
            "url:http://b.test/2.jpg",
        ]
        asked = dict(site.asked)
        get(site, LINKS[-1:])
        assert len(originals()) == 11
        for _ in range(2):
            assert get(site, deny=deny).requested == 0
            assert set(raw().values()) == {images[number] for number in range(3, 12)}
            assert originals() == {}
        assert dict(site.asked) == asked


# --- two at once

WAITING = "download: waiting for another process that uses the same site or files.\n"
CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from hostile.site import options
from pttfaces import tables
from pttfaces.denylist import DenyList
from pttfaces.download import download
from pttfaces.http import LoopbackHosts
links = tables.read_jsonl(sys.argv[2], tables.Link)
hosts = LoopbackHosts.parse(sys.argv[3])
slow = options(per_host=1, timeout_s=30)
print(download(links, hosts, "web", slow, DenyList()).requested)
"""


class Gate:
    """A handler that answers the first four images, and the others when it is open."""

    def __init__(self) -> None:
        self.open = threading.Event()

    async def __call__(self, request: Request) -> None:
        number = int("".join(filter(str.isdigit, request.path)))
        while number >= 4 and not self.open.is_set():
            await asyncio.sleep(0.01)
        await numbered(request)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_download_while_another_runs_waits_until_that_one_is_killed(tmp_path: Path) -> None:
    """Two experiments of one repository: the second one knows all that the first has learned."""
    links, child, gate = tmp_path / "links.jsonl", tmp_path / "child.py", Gate()
    tables.write_jsonl(links, LINKS)
    child.write_text(CHILD)
    paths = os.pathsep.join([str(Path(files.__file__).parents[1]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "DVC_ROOT": str(tmp_path)}
    started: list[subprocess.Popen[str]] = []

    def start(clone: Path) -> subprocess.Popen[str]:
        clone.mkdir()
        command = [sys.executable, child, Path(__file__).parents[2] / "support", links]
        started.append(
            subprocess.Popen(
                [*map(str, command), *server.environment.values()],
                cwd=clone,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return started[-1]

    with Site(dict.fromkeys(HOSTS, gate)) as server:
        try:
            first = start(tmp_path / "first")
            deadline = time.monotonic() + 60
            while len(list((tmp_path / "first").glob("data/raw/??/*"))) < 4:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            second = start(tmp_path / "second")
            assert second.stderr is not None
            assert second.stderr.readline() == WAITING
            first.send_signal(signal.SIGKILL)
            first.wait()
            gate.open.set()
            assert second.communicate(timeout=60)[0] == "12\n"
        finally:
            for process in started:
                process.kill()
                process.communicate()
    assert len(list((tmp_path / "second").glob("data/raw/??/*"))) == 12


def test_download_into_a_folder_in_use_leaves_its_half_written_files_alone() -> None:
    """Of another site, too: it waits for the other run, and then finds its own images."""
    gate = threading.Event()
    large = image_bytes("PNG", 1, (900, 700))  # more than is held in memory
    finished: list[str] = []

    async def halting(request: Request) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(large)}\r\n\r\n"
        await request.send(head.encode() + large[:-9])
        while not gate.is_set():
            await asyncio.sleep(0.01)
        await request.send(large[-9:])

    def run(site: Site, host: str, namespace: object) -> None:
        url = f"http://{host}/1.png"
        links = [Link("M.1", 0, url, (url,), "body")]
        limits = options(max_mib=8, timeout_s=60)
        download(links, site.hosts(), namespace, limits, DenyList())
        finished.append(host)

    with Site({"a.test": halting, "b.test": numbered}) as site:
        runs = [
            threading.Thread(target=run, args=(site, "a.test", "web")),
            threading.Thread(target=run, args=(site, "b.test", ["demo", 1])),
        ]
        runs[0].start()
        deadline = time.monotonic() + 60
        while not site.asked["a.test/1.png"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        runs[1].start()
        runs[1].join(0.5)
        assert finished == []
        gate.set()
        for each in runs:
            each.join(60)
    assert finished == ["a.test", "b.test"]
    assert large in originals().values()


def test_download_that_has_all_images_waits_for_no_other(site: Site) -> None:
    get(site)
    with workdir.exclusive("test", result_cache.lock_key("web")):
        get(site, LINKS[:5])
        assert get(site).requested == 0


# --- the stages

DEMO_BOARD = make_board(1, 8, "Beauty", 2024)


@pytest.mark.timeout(600)
def test_download_with_other_settings_and_back_requests_no_image_again(
    tmp_path: Path,
) -> None:
    """Another source, then other days and limits."""
    drawn: Counter[int] = Counter()
    lock = threading.Lock()

    def draw(image: DemoImage, seed: int) -> bytes:
        if image.answer != "html":  # which may be an image the next time
            with lock:
                drawn[image.number] += 1
        return encode.image_bytes(image, seed)

    project: Repository = make_repository(tmp_path / "project", SMALL | {"demo.articles": 8})
    files.write_bytes(project.path / "data/inbox/own.jpg", image_bytes("JPEG", 99))
    project.ok("python", "src/inputs.py")
    usual = {"source": "demo", "download.max_megapixels": 100, "board.dates": '["0101", "1231"]'}
    changes: list[dict[str, object]] = [
        {"source": "inbox"},
        {"download.max_megapixels": 0.1, "board.dates": '["0101", "0430"]'},
    ]
    with serve([DEMO_BOARD], draw=draw) as port:
        environment = {LOOPBACK_VARIABLE: ",".join(f"{host}={port}" for host in DEMO_HOSTS)}

        def run(settings: dict[str, object]) -> tuple[str, bytes]:
            put(project.path / "params.yaml", settings)
            output = project.ok("dvc", "repro", "download", **environment)
            return output, (project.path / "data/ledger.csv").read_bytes()

        _, ledger = run(usual)
        before = Counter(drawn)
        assert len(before) > 10
        for change in changes:
            assert run(change)[1] != ledger
            output, again = run(usual)
            assert "images restored from .cache/originals" in output
            assert again == ledger
    assert drawn == before
