"""A run after a run: what is there is reused, a killed run resumes, the order is the links'.

PTTFACES_KILLS: how many moments it is killed at, 3 if it is not set.
"""

import asyncio
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile.site import Request, Site, image_bytes, options

from pttfaces import files, tables
from pttfaces.denylist import DenyList
from pttfaces.download import DownloadSummary, download, result_cache, store
from pttfaces.errors import DataError, SiteError
from pttfaces.http import LoopbackHosts
from pttfaces.tables import Link

KILLS = int(os.environ.get("PTTFACES_KILLS", "3"))


def links_to(*urls: str | None) -> list[Link]:
    return [
        Link(f"M.{at}", at, url or "x", (url,) if url else (), "body")
        for at, url in enumerate(urls)
    ]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


async def numbered(request: Request) -> None:
    """`/7.jpg` is the image of seed 7."""
    number = "".join(filter(str.isdigit, request.path))
    await request.answer(200, image_bytes("JPEG", int(number), (16, 16)))


def get(
    links: list[Link],
    hosts: LoopbackHosts,
    deny: str = "",
    namespace: str = "web",
    **changes: float,
) -> DownloadSummary:
    Path("denylist.txt").write_text(deny, encoding="utf-8")
    return download(links, hosts, namespace, options(**changes), DenyList.read("denylist.txt"))


def ledger() -> list[dict[str, str]]:
    return tables.read_csv("data/ledger.csv").to_dict("records")


def statuses() -> list[str]:
    return [row["status"] for row in ledger()]


def raw() -> dict[str, bytes]:
    folder = Path("data/raw")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


MANY = links_to(*(f"http://{'abc'[at % 3]}.test/{at}.jpg" for at in range(60)), None)


def test_download_twice_from_nothing_writes_the_same_bytes() -> None:
    written = []
    for _ in range(2):
        with Site({"a.test": numbered, "b.test": numbered, "c.test": numbered}) as site:
            get(MANY, site.hosts())
        written.append((Path("data/ledger.csv").read_bytes(), raw()))
        shutil.rmtree("data")
        shutil.rmtree(".cache")
    assert written[0] == written[1]
    assert len(written[0][1]) == 60


def test_download_when_the_first_host_is_slowest_keeps_the_order_of_links() -> None:
    async def slow(request: Request) -> None:
        await asyncio.sleep(0.4)
        await request.answer(200, image_bytes("PNG"))

    async def fast(request: Request) -> None:
        await request.answer(200, image_bytes("PNG"))

    with Site({"slow.test": slow, "fast.test": fast}) as site:
        get(links_to("http://slow.test/", "http://fast.test/"), site.hosts())
    assert statuses() == ["ok", "duplicate"]
    assert len(raw()) == 1


def test_download_run_again_requests_only_what_is_new_or_lost() -> None:
    with Site({"a.test": numbered, "b.test": numbered, "c.test": numbered}) as site:
        get(MANY[:30], site.hosts())
        first = raw()
        summary = get(MANY, site.hosts())
        assert summary.requested == 30
        (Path("data/raw") / next(iter(first))).unlink()
        short = Path("data/raw") / list(first)[1]
        short.write_bytes(short.read_bytes()[:100])
        assert get(MANY, site.hosts()).requested == 2
        assert get(MANY, site.hosts()).requested == 0
        assert sorted(site.asked.values()) == [1] * 58 + [2] * 2
    assert len(raw()) == 60


@pytest.mark.parametrize("mtimes_kept", [True, False])
def test_download_of_an_image_whose_bytes_have_changed_requests_it_again(mtimes_kept: bool) -> None:
    with Site({"a.test": numbered, "b.test": numbered, "c.test": numbered}) as site:
        get(MANY[:5], site.hosts())
        (mtimes,) = Path(".cache/raw").iterdir()
        if not mtimes_kept:
            mtimes.write_bytes(b"\xff 1 damaged\n\n")
        whole = raw()
        flipped = Path("data/raw") / next(iter(whole))
        content = bytearray(flipped.read_bytes())
        content[len(content) // 2] ^= 1
        flipped.write_bytes(content)
        assert get(MANY[:5], site.hosts()).requested == 1
    assert raw() == whole


def test_download_removes_images_that_no_link_names() -> None:
    with Site({"a.test": numbered, "b.test": numbered, "c.test": numbered}) as site:
        get(MANY, site.hosts())
        Path("data/raw/zz").mkdir()
        Path("data/raw/zz/stray.jpg").write_bytes(b"x")
        get(MANY[:2], site.hosts())
    assert set(raw()) == {row["path"] for row in ledger()}
    assert len(raw()) == 2
    assert len(list(Path("data/raw").iterdir())) == len({name[:2] for name in raw()})


def test_download_run_again_retries_only_what_can_succeed() -> None:
    codes = {"/gone": 404, "/busy": 503, "/page": 200}

    async def handler(request: Request) -> None:
        await request.answer(codes[request.path], b"<html>")

    links = links_to(*(f"http://a.test{path}" for path in codes), "http://b.test/1")
    with Site({"a.test": handler, "b.test": numbered}) as site:
        get(links, site.hosts(), attempts=1)
        get(links, site.hosts(), attempts=1)
    assert statuses() == ["gone", "failed", "not_an_image", "ok"]
    assert dict(site.asked) == {"a.test/gone": 1, "a.test/busy": 2, "a.test/page": 2, "b.test/1": 1}
    failed = Path("data/failed.txt").read_text(encoding="utf-8").splitlines()
    assert failed == [f"http://a.test{path}" for path in codes]


@pytest.mark.parametrize("earlier", [f"-{'0' * 16}.jsonl", ".v1.jsonl", ".v2.jsonl"])
def test_download_after_an_upgrade_requests_only_broken_files_again(earlier: str) -> None:
    """This version may judge them otherwise."""

    async def handler(request: Request) -> None:
        body = {"/page": b"no image", "/cut": image_bytes("JPEG")[:-9]}.get(request.path, b"")
        await request.answer(200 if body else 404, body)

    paths = ("a.test/1", "a.test/2", "b.test/gone", "b.test/page", "b.test/cut")
    links = links_to(*(f"http://{path}" for path in paths))
    with Site({"a.test": numbered, "b.test": handler}) as site:
        get(links, site.hosts())
        written = Path("data/ledger.csv").read_bytes()
        (cache,) = Path(".cache/download").iterdir()
        old = cache.rename(cache.with_name(cache.name.partition(".")[0] + earlier))
        assert get(links, site.hosts()).requested == 2
        assert not old.exists()
        assert get(links, site.hosts()).requested == 0
    assert Path("data/ledger.csv").read_bytes() == written
    assert [site.asked[path] for path in paths] == [1, 1, 1, 2, 2]


def test_download_in_a_clone_that_pulled_requests_only_what_gave_no_image() -> None:
    """After `dvc pull` it has the first one's `data`, and no `.cache`."""

    async def one(request: Request) -> None:
        await request.answer(200, image_bytes("JPEG", 1, (16, 16)))

    async def gone(request: Request) -> None:
        await request.answer(404)

    links = links_to("http://a.test/1", "http://a.test/2", "http://b.test/1", "http://c.test/")
    with Site({"a.test": numbered, "b.test": one, "c.test": gone}) as site:
        get(links, site.hosts())
        written = Path("data/ledger.csv").read_bytes()
        shutil.rmtree(".cache")
        assert get(links, site.hosts()).requested == 1
        assert Path("data/ledger.csv").read_bytes() == written
        assert statuses() == ["ok", "ok", "duplicate", "gone"]

        shutil.rmtree(".cache")
        (Path("data/raw") / ledger()[1]["path"]).write_bytes(b"other bytes")
        assert get(links, site.hosts()).requested == 2
        shutil.rmtree(".cache")
        assert get(links, site.hosts(), namespace="demo").requested == 4


@pytest.mark.parametrize("forged", ["../secret", "0" * 64])
def test_download_with_a_forged_ledger_takes_no_other_file(forged: str) -> None:
    with Site({"a.test": numbered}) as site:
        get(links_to("http://a.test/1"), site.hosts())
        row = ledger()[0]
        shutil.rmtree(".cache")
        Path("secret.jpg").write_bytes(raw()[row["path"]])
        table = Path("data/ledger.csv").read_text(encoding="utf-8")
        table = table.replace(row["path"], f"{forged[:2]}/{forged}.jpg")
        Path("data/ledger.csv").write_text(table.replace(row["sha256"], forged), encoding="utf-8")
        assert get(links_to("http://a.test/1"), site.hosts()).requested == 1
    assert ledger() == [row]
    assert Path("secret.jpg").exists()


@pytest.mark.parametrize(
    "damage", [b"\xff\xfe", b"url\nhttp://a.test/1\n", b"a" * 200_000 + b",\n"]
)
def test_download_with_a_damaged_ledger_starts_without_it(damage: bytes) -> None:
    Path("data").mkdir()
    Path("data/ledger.csv").write_bytes(damage)
    with Site({"a.test": numbered}) as site:
        assert get(links_to("http://a.test/1"), site.hosts()).requested == 1


def test_download_with_other_limits_requests_only_what_is_needed() -> None:
    async def handler(request: Request) -> None:
        body = (
            image_bytes("PNG", size=(900, 900))
            if request.path == "/big"
            else image_bytes("PNG")[:-9]
        )
        await request.answer(200, body)

    links = links_to("http://a.test/big", "http://a.test/cut", "http://b.test/1")
    with Site({"a.test": handler, "b.test": numbered}) as site:
        get(links, site.hosts(), max_mib=1)
        assert statuses() == ["too_large", "truncated", "ok"]
        assert get(links, site.hosts(), max_mib=2).requested == 0  # it was announced to be larger
        assert get(links, site.hosts(), max_mib=4).requested == 1
        assert statuses() == ["ok", "truncated", "ok"]
        assert get(links, site.hosts(), max_mib=4, max_megapixels=0.5).requested == 0
        assert statuses() == ["too_large", "truncated", "ok"]
        assert len(raw()) == 1
        assert get(links, site.hosts(), max_mib=4, keep_truncated=True).requested == 1
    assert statuses() == ["ok", "truncated", "ok"]
    assert all(row["path"] for row in ledger())
    assert len(raw()) == 3


def test_download_in_another_namespace_uses_no_results_of_the_first() -> None:
    with Site({"a.test": numbered}) as site:
        get(links_to("http://a.test/1"), site.hosts(), namespace="web")
        assert get(links_to("http://a.test/1"), site.hosts(), namespace="demo").requested == 1


def test_download_of_denied_images_removes_them_and_requests_none() -> None:
    links = links_to(*(f"http://a.test/{at}" for at in range(4)))
    with Site({"a.test": numbered}) as site:
        get(links, site.hosts())
        denied = ledger()[2]["sha256"]
        deny = f"url:http://a.test/1\nsha256:{denied}\n"
        assert get(links, site.hosts(), deny=deny).requested == 0
        assert statuses() == ["ok", "denied", "denied", "ok"]
        assert not any(denied in name for name in raw())
        assert not [path for path in Path(".cache/originals").rglob("*") if path.is_file()]
        assert len(raw()) == 2
        assert get(links, site.hosts()).requested == 2


def test_download_of_an_image_denied_by_digest_drops_it() -> None:
    digest = files.digest_bytes(image_bytes("JPEG", 1, (16, 16)))
    with Site({"a.test": numbered}) as site:
        get(links_to("http://a.test/0", "http://a.test/1"), site.hosts(), f"sha256:{digest}")
    assert statuses() == ["ok", "denied"]
    assert len(raw()) == 1


def test_download_of_a_denied_url_never_requests_it() -> None:
    with Site({"a.test": numbered}) as site:
        get(links_to("http://a.test/0", "http://a.test/1"), site.hosts(), "url:http://a.test/1")
        assert list(site.asked) == ["a.test/0"]


# --- the inbox


def test_download_of_the_inbox_lists_it_after_the_links() -> None:
    inbox = Path("data/inbox")
    (inbox / "trip/.thumbs").mkdir(parents=True)
    (inbox / "trip/b.jpg").write_bytes(image_bytes("PNG", 5))  # known by its bytes
    (inbox / "a.jpeg").write_bytes(image_bytes("JPEG", 7, (16, 16)))  # what the link gives, too
    (inbox / "cut.jpg").write_bytes(image_bytes("JPEG", 6)[:-9])
    (inbox / "notes.doc").write_bytes(b"dear diary")
    (inbox / "huge.jpg").write_bytes(b"\xff\xd8\xff" + b"\0" * 2**20)
    (inbox / "README.txt").write_bytes(b"put photographs here")
    (inbox / ".hidden.jpg").write_bytes(image_bytes("JPEG"))
    (inbox / "trip/.thumbs/t.jpg").write_bytes(image_bytes("JPEG"))
    with Site({"a.test": numbered}) as site:
        summary = get(links_to("http://a.test/7"), site.hosts(), "url:inbox:none")
    rows = [(row["url"], row["status"], row["place"], row["article"]) for row in ledger()[1:]]
    assert rows == [
        ("inbox:a.jpeg", "duplicate", "inbox", ""),
        ("inbox:cut.jpg", "truncated", "inbox", ""),
        ("inbox:huge.jpg", "too_large", "inbox", ""),
        ("inbox:notes.doc", "not_an_image", "inbox", ""),
        ("inbox:trip/b.jpg", "ok", "inbox", ""),
    ]
    assert set(raw().values()) == {image_bytes("PNG", 5), image_bytes("JPEG", 7, (16, 16))}
    assert summary.metrics["inbox"] == 5
    assert Path("data/failed.txt").read_text(encoding="utf-8") == ""


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_download_of_an_inbox_name_with_a_line_break_escapes_it() -> None:
    Path("data/inbox").mkdir(parents=True)
    (Path("data/inbox") / "x\ny\r.jpg").write_bytes(image_bytes("JPEG"))
    get([], LoopbackHosts())
    assert [row["url"] for row in ledger()] == ["inbox:x\\ny\\r.jpg"]
    assert len(Path("data/ledger.csv").read_bytes().splitlines()) == 2


def test_download_of_the_inbox_alone_gives_its_image() -> None:
    Path("data/inbox").mkdir(parents=True)
    Path("data/inbox/me.webp").write_bytes(image_bytes("WEBP"))
    assert get([], LoopbackHosts()).metrics["pictures"] == 1
    assert [name.suffix for name in map(Path, raw())] == [".webp"]


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes need rights there")
def test_download_of_links_and_pipes_in_the_inbox_does_not_follow_them() -> None:
    Path("data/inbox").mkdir(parents=True)
    Path("secret.jpg").write_bytes(image_bytes("JPEG"))
    Path("data/inbox/link.jpg").symlink_to(Path("secret.jpg").resolve())
    Path("data/inbox/loop").symlink_to(Path("data").resolve())
    os.mkfifo("data/inbox/pipe.jpg")
    Path("data/inbox/real.jpg").write_bytes(image_bytes("JPEG", 1))
    Path(os.fsdecode(b"data/inbox/\xff.jpg")).write_bytes(image_bytes("JPEG", 2))
    get([], LoopbackHosts())
    assert statuses() == ["not_an_image"] * 3 + ["ok"] * 2
    assert ledger()[4]["url"] == "inbox:\\udcff.jpg"
    assert len(raw()) == 2


# --- when there is nothing


def test_download_without_links_and_inbox_raises_data_error() -> None:
    with pytest.raises(DataError, match="put photographs into data/inbox"):
        get([], LoopbackHosts())


def test_download_of_links_without_an_image_raises_data_error() -> None:
    async def gone(request: Request) -> None:
        await request.answer(404)

    with Site({"a.test": gone}) as site, pytest.raises(DataError, match=r"\(a.test: 2 gone\)"):
        get(links_to("http://a.test/1", "http://a.test/2"), site.hosts())


def test_download_without_a_network_raises_site_error_and_keeps_images() -> None:
    with Site({"a.test": numbered}) as site:
        get(links_to("http://a.test/1"), site.hosts())
        hosts = site.hosts()
    shutil.rmtree(".cache")
    Path("data/ledger.csv").unlink()
    with pytest.raises(SiteError, match="none of the 2 links got a response"):
        get(links_to("http://a.test/1", "http://x.invalid/"), hosts, attempts=1)
    assert len(raw()) == 1


def test_download_while_links_are_still_being_queued_gives_up_no_host() -> None:
    """Its first image has come before the last of many links is queued."""
    others = [f"ftp://x.test/{at}" for at in range(30_000)]
    with Site({"a.test": numbered}) as site:
        get(links_to("http://a.test/1", *others, "http://a.test/2"), site.hosts())
    assert (statuses()[0], statuses()[-1]) == ("ok", "ok")


# --- rates


def test_download_from_a_slow_host_does_not_hold_up_a_fast_one() -> None:
    ended: list[str] = []

    def paced(name: str, seconds: float) -> Callable[[Request], Awaitable[None]]:
        async def handler(request: Request) -> None:
            await asyncio.sleep(seconds)
            await numbered(request)
            ended.append(name)

        return handler

    slow = [f"http://slow.test/{at}" for at in range(24)]
    fast = [f"http://fast.test/{at + 100}" for at in range(24)]
    routes = {"slow.test": paced("slow", 0.3), "fast.test": paced("fast", 0.0)}
    with Site(routes) as site:
        get(links_to(*slow, *fast), site.hosts(), concurrency=4, per_host=4)
    assert ended[:34].count("fast") == 24


def test_download_from_one_host_keeps_its_rate_and_concurrency() -> None:
    now = most = 0

    async def handler(request: Request) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.1)
        await numbered(request)
        now -= 1

    with Site({"a.test": handler}) as site:
        links = links_to(*(f"http://a.test/{at}" for at in range(24)))
        get(links, site.hosts(), rate_per_host=20, per_host=2)
    times = site.times["a.test"]
    assert times[-1] - times[0] > 0.95  # 24 at 20 a second, a tenth of a second forgiven
    assert most == 2


def test_download_after_a_429_pauses_all_requests_to_that_host() -> None:
    async def handler(request: Request) -> None:
        if request.path == "/0" and request.number == 1:
            await request.answer(429, Retry_After="1")
        else:
            await asyncio.sleep(0.1)
            await numbered(request)

    with Site({"a.test": handler, "b.test": numbered}) as site:
        links = links_to(
            *(f"http://a.test/{at}" for at in range(20)),
            *(f"http://b.test/{at}" for at in range(9)),
        )
        get(links, site.hosts(), per_host=2)
    times = site.times["a.test"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(gaps) > 0.9
    assert gaps.index(max(gaps)) < 3
    assert max(site.times["b.test"]) - times[0] < 0.9
    assert statuses().count("ok") == 20


def test_download_progress_shows_links_bytes_failures_and_the_time_left(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def missing(request: Request) -> None:
        await request.answer(500)

    with Site({"a.test": numbered, "b.test": missing}) as site:
        links = links_to(*(f"http://a.test/{at}" for at in range(9)), "http://b.test/1")
        get(links, site.hosts(), attempts=1)
    last = capfd.readouterr().err.splitlines()[-1]
    number = r"\d+\.\d+"
    form = rf"download: 10 of 10 links, {number} links/s, {number} MiB/s, 1 failed, .* left"
    assert re.fullmatch(form, last), last


def test_download_from_one_host_reuses_its_connections() -> None:
    ports = set()

    async def handler(request: Request) -> None:
        ports.add(request.writer.get_extra_info("peername"))
        await numbered(request)

    with Site({"a.test": handler}) as site:
        get(links_to(*(f"http://a.test/{at}" for at in range(40))), site.hosts(), per_host=2)
    assert len(ports) <= 2


def test_download_over_many_connections_looks_a_name_up_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def closes(request: Request) -> None:
        await request.answer(200, image_bytes("JPEG", len(request.path)), Connection="close")
        request.writer.close()

    names, real = [], socket.getaddrinfo

    def noting(host: str, *rest: Any, **options: Any) -> Any:
        names.append(host)
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", noting)
    monkeypatch.setattr(  # as if loopback were the public internet
        "pttfaces.http.public_socket", lambda info, _: socket.socket(*info[:3])
    )
    with Site({"localhost": closes}) as site:
        urls = (f"http://localhost:{site.port}/{'a' * length}.jpg" for length in range(20))
        get(links_to(*urls), LoopbackHosts(), per_host=3)
    assert statuses() == ["ok"] * 20
    assert names.count("localhost") == 1


def test_download_from_two_hosts_shares_no_connection() -> None:
    """Or what one sends too much would be read as the other's answer."""
    ports: dict[str, set[object]] = {"a.test": set(), "b.test": set()}

    def at(host: str) -> Callable[[Request], Awaitable[None]]:
        async def handler(request: Request) -> None:
            ports[host].add(request.writer.get_extra_info("peername"))
            await numbered(request)

        return handler

    with Site({host: at(host) for host in ports}) as site:
        links = links_to(*(f"http://{'ab'[number % 2]}.test/{number}" for number in range(20)))
        get(links, site.hosts(), concurrency=1)
    assert not ports["a.test"] & ports["b.test"]


# --- kill -9 and a full disk

CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from hostile.site import options
from pttfaces import tables
from pttfaces.denylist import DenyList
from pttfaces.download import download
from pttfaces.http import LoopbackHosts
links = tables.read_jsonl("links.jsonl", tables.Link)
hosts = LoopbackHosts.parse(sys.argv[2])
if __name__ == "__main__":
    download(links, hosts, "web", options(per_host=3, concurrency=6), DenyList())
"""


async def unhurried(request: Request) -> None:
    """Each image comes in two halves, and some links are no images."""
    number = int("".join(filter(str.isdigit, request.path)))
    if number % 10 == 9:
        await request.answer(404)
        return
    body = image_bytes("JPEG", number, (40, 40))
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
    await request.send(head.encode() + body[:700])
    await asyncio.sleep(0.03)
    await request.send(body[700:])


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_download_killed_at_random_moments_resumes_and_repeats_no_whole_image() -> None:
    with Site({"a.test": unhurried, "b.test": unhurried}) as site:
        get(KILLED, site.hosts())
        undisturbed = (Path("data/ledger.csv").read_bytes(), raw())
        shutil.rmtree("data")
        shutil.rmtree(".cache")
        site.asked.clear()

        tables.write_jsonl("links.jsonl", KILLED)
        Path("child.py").write_text(CHILD)
        helpers = str(Path(__file__).parents[2] / "support")
        paths = os.pathsep.join([str(Path(files.__file__).parents[1]), *sys.path])
        command = [sys.executable, "child.py", helpers, *site.environment.values()]
        before: set[str] = set()
        for goal in sorted(random.sample(range(1, 90), KILLS)):
            child = subprocess.Popen(
                command, env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.DEVNULL
            )
            deadline = time.monotonic() + 60
            while len(known_urls()) < goal and child.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            time.sleep(random.uniform(0, 0.05))  # ends ten at most
            child.send_signal(signal.SIGKILL)
            child.wait()
            known = known_urls()
            assert before <= known < {link.addresses[0] for link in KILLED}
            before = known
        line = next(Path(".cache/download").iterdir())
        line.write_bytes(line.read_bytes()[:-20])  # as a kill in the middle of a line leaves it
        known = known_urls()

        asked = dict(site.asked)
        assert (
            subprocess.run(
                command,
                env={**os.environ, "PYTHONPATH": paths},
                stderr=subprocess.DEVNULL,
                check=False,
            ).returncode
            == 0
        )
        assert (Path("data/ledger.csv").read_bytes(), raw()) == undisturbed
        for url in known:
            name = url.removeprefix("http://")
            assert site.asked[name] == asked[name]
    assert max(site.asked.values()) <= KILLS + 1  # once, and again when it was cut


KILLED = links_to(*(f"http://{'ab'[at % 2]}.test/{at}.jpg" for at in range(120)))


def known_urls() -> set[str]:
    """The URLs whose results are on disk."""
    paths = Path(".cache/download").glob("*.jsonl")
    return {url for path in paths for url in result_cache.read_cache(path)}


async def sized(request: Request) -> None:
    """Images of some 12 KB; every tenth of 400 KB."""
    number = int("".join(filter(str.isdigit, request.path)))
    side = 800 if number % 10 == 9 else 120
    await request.answer(200, image_bytes("JPEG", number, (side, side)))


SIZED = links_to(*(f"http://{'abc'[at % 3]}.test/{at}.jpg" for at in range(40)))
ROUTES = dict.fromkeys(("a.test", "b.test", "c.test"), sized)


def undisturbed() -> tuple[bytes, dict[str, bytes]]:
    """Ledger and images of a run with space enough, which leaves nothing else behind."""
    with Site(ROUTES) as site:
        get(SIZED, site.hosts())
    found = (Path("data/ledger.csv").read_bytes(), raw())
    shutil.rmtree("data")
    shutil.rmtree(".cache")
    return found


def goes_on(site: Site, expected: tuple[bytes, dict[str, bytes]]) -> None:
    """The next run ends as an undisturbed one, and requests nothing that was there."""
    known, asked = known_urls(), dict(site.asked)
    assert not Path("data/ledger.csv").exists()
    get(SIZED, site.hosts())
    assert (Path("data/ledger.csv").read_bytes(), raw()) == expected
    again = {name for name, count in site.asked.items() if count > asked.get(name, 0)}
    assert not again & {url.removeprefix("http://") for url in known}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 500 KB; a test that cannot mount one is skipped."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a small disk, and not everywhere")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_download_on_a_full_disk_raises_os_error_and_the_next_run_resumes(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = undisturbed()
    monkeypatch.chdir(small_disk)
    with Site(ROUTES) as site:
        with pytest.raises(OSError, match="No space left"):
            get(SIZED, site.hosts())
        whole = set(expected[1].items())
        assert {(name, body) for name, body in raw().items() if name[0] != "."} <= whole
        size = ["mount", "-o", "remount,size=20m", str(small_disk)]
        subprocess.run(size, check=True, capture_output=True)
        goes_on(site, expected)
    monkeypatch.undo()


def test_download_when_a_file_cannot_be_written_raises_and_the_next_run_resumes() -> None:
    """What a quota does, without root: no file may grow beyond 256 KB."""
    resource = pytest.importorskip("resource")
    expected = undisturbed()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Site(ROUTES) as site:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                get(SIZED, site.hosts())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        goes_on(site, expected)


@pytest.mark.parametrize("held", [2**10, 2**26])
def test_download_gives_the_same_images_held_in_memory_or_in_files(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_MAX_ALL_IN_MEMORY", held)
    large = image_bytes("PNG", 1, (1200, 900))  # more than is ever held of one

    async def handler(request: Request) -> None:
        await request.answer(200, large if request.path == "/large" else image_bytes("JPEG", 2))

    with Site({"a.test": handler}) as site:
        get(links_to("http://a.test/large", "http://a.test/2"), site.hosts(), max_mib=8)
    assert set(raw().values()) == {large, image_bytes("JPEG", 2)}
    assert not any(path.is_file() for path in Path("data/raw/.parts").rglob("*"))


def test_download_of_a_known_placeholder_counts_it_as_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = files.digest_bytes(image_bytes("JPEG", 1, (16, 16)))
    monkeypatch.setattr("pttfaces.download.result.PLACEHOLDERS", frozenset({sent}))
    with Site({"a.test": numbered}) as site:
        get(links_to("http://a.test/0", "http://a.test/1"), site.hosts())
        assert get(links_to("http://a.test/0", "http://a.test/1"), site.hosts()).requested == 0
    assert statuses() == ["ok", "removed"]
    assert len(raw()) == 1


def test_download_from_a_host_that_throttles_slows_down_and_gets_all() -> None:
    """Ten a second are borne; each further one is answered with 429."""
    times: list[float] = []

    async def handler(request: Request) -> None:
        now = time.monotonic()
        if len([at for at in times if now - at < 0.5]) >= 5:
            await request.answer(429, Retry_After="0")
        else:
            times.append(now)
            await numbered(request)

    with Site({"a.test": handler}) as site:
        links = links_to(*(f"http://a.test/{at}" for at in range(14)))
        get(links, site.hosts(), rate_per_host=20, per_host=4, attempts=4)
        refused = sum(site.asked.values()) - 14
    assert statuses() == ["ok"] * 14
    assert refused < 12
