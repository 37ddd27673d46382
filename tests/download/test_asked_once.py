"""What a repository once had of a host it does not ask for again: real DVC, real processes, and a
server that counts.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hostile.site import Request, Site, image_bytes, options
from repository import SMALL, Repository, make_repository, put

from pttfaces import elsewhere, files, workdir
from pttfaces.demo import encode
from pttfaces.demo.board import Picture, make_world
from pttfaces.demo.site import serve
from pttfaces.denylist import DenyList
from pttfaces.download import DownloadSummary, download

LINKS = [
    {"article": "M.1", "position": at, "posted": url, "url": url, "place": "body"}
    for at, url in enumerate(f"http://{'ab'[at % 2]}.test/{at}.jpg" for at in range(12))
]
HOSTS = ("a.test", "b.test")


async def numbered(request: Request) -> None:
    number = int("".join(filter(str.isdigit, request.path)))
    await request.answer(200, image_bytes("JPEG", number, (16, 16)))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of git and DVC with nothing in it."""
    made = Repository(tmp_path_factory.mktemp("empty"))
    made.ok("git", "init", "--quiet")
    made.ok("dvc", "init", "--quiet")
    made.ok("dvc", "config", "cache.type", "hardlink,copy")
    return made.path


@pytest.fixture
def repository(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A copy of it, in which the test runs."""
    shutil.copytree(empty, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return Repository(tmp_path)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(dict.fromkeys(HOSTS, numbered)) as running:
        yield running


def get(
    site: Site, links: list[dict[str, object]] = LINKS, deny: Iterable[str] = ()
) -> DownloadSummary:
    copies = partial(elsewhere.copies, "data/raw")
    return download(links, site.hosts(), "web", options(), DenyList.of(deny), copies=copies)


def raw() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("data/raw").rglob("*") if path.is_file()}


def there(repository: Repository, site: Site) -> dict[str, bytes]:
    """All links' pictures, as DVC has them; then most of them are left out, as DVC has that."""
    get(site)
    found = raw()
    repository.ok("dvc", "add", "--quiet", "data/raw")
    get(site, LINKS[:2])
    repository.ok("dvc", "add", "--quiet", "data/raw")
    assert len(found) == 12
    assert len(raw()) == 2
    return found


def objects() -> dict[str, Path]:
    """The objects of DVC's cache that are pictures, by digest."""
    paths = [path for path in Path(".dvc/cache/files/md5").rglob("*") if path.is_file()]
    return {files.digest_file(path): path for path in paths if path.suffix != ".dir"}


# --- there and back


@pytest.mark.parametrize("cache", ["", "aside/objects"])
def test_what_was_left_out_for_a_while_comes_back_without_its_host(
    repository: Repository, site: Site, cache: str
) -> None:
    if cache:
        repository.ok("dvc", "config", "--local", "cache.dir", str(Path(cache).resolve()))
    found = there(repository, site)
    assert Path(cache or ".dvc/cache").is_dir()
    summary = get(site)
    assert (summary.requested, summary.brought_back) == (0, 10)
    assert "0 URLs asked in this run, 10 taken from DVC's cache" in summary.sentence
    assert raw() == found
    assert set(site.asked.values()) == {1}
    assert get(site).brought_back == 0


def test_a_clone_without_this_one_s_notes_is_led_by_the_ledger(
    repository: Repository, site: Site
) -> None:
    get(site)
    found = raw()
    repository.ok("dvc", "add", "--quiet", "data/raw")
    shutil.rmtree(".cache")
    shutil.rmtree("data/raw")
    assert get(site).requested == 0
    assert raw() == found


def test_an_experiment_in_a_folder_of_its_own_uses_the_main_repository_s_cache(
    repository: Repository, empty: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = there(repository, site)
    shutil.copytree(empty, ASIDE)
    monkeypatch.setenv("DVC_ROOT", str(repository.path))
    monkeypatch.chdir(ASIDE)
    assert get(site).requested == 0
    assert raw() == found


def test_an_experiment_takes_what_the_main_folder_has_and_dvc_has_not_yet(
    repository: Repository, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(site)
    ASIDE.mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(repository.path))
    monkeypatch.chdir(ASIDE)
    assert get(site).requested == 0
    assert len(raw()) == 12


def test_damaged_and_absent_objects_are_asked_for_again(repository: Repository, site: Site) -> None:
    found = there(repository, site)
    kept = objects()
    lost = [kept[digest] for digest in sorted(kept.keys() - {Path(name).stem for name in raw()})]
    flipped = bytearray(lost[0].read_bytes())
    flipped[len(flipped) // 2] ^= 1
    for path, content in ((lost[0], flipped), (lost[1], lost[1].read_bytes()[:9])):
        path.chmod(0o644)
        path.write_bytes(content)
    files.remove_file(lost[2])
    files.remove_file(lost[3])
    lost[3].mkdir()
    summary = get(site)
    assert (summary.requested, summary.brought_back) == (4, 6)
    assert raw() == found


def test_a_damaged_list_of_a_folder_leads_to_nothing(repository: Repository, site: Site) -> None:
    found = there(repository, site)
    listings = list(Path(".dvc/cache/files/md5").rglob("*.dir"))
    names = {entry["relpath"] for path in listings for entry in json.loads(path.read_bytes())}
    oids = ("", "../../../../secret", "a\0" * 16)
    wrong = [{"md5": oid, "relpath": name} for name in sorted(names) for oid in oids]
    damages = ["", "[", "{}", "[1]", '[{"md5": 1}]', json.dumps(wrong), "[" * 10**6]
    for count, damage in enumerate(damages, 2):
        for listing in listings:
            listing.chmod(0o644)
            listing.write_text(damage)
        get(site, LINKS[:2])
        assert get(site).requested == 10
        assert max(site.asked.values()) == count
    assert raw() == found


def test_without_a_cache_or_a_repository_the_hosts_are_asked(
    repository: Repository, site: Site
) -> None:
    found = there(repository, site)
    shutil.rmtree(".dvc/cache")
    assert get(site).requested == 10
    get(site, LINKS[:2])
    shutil.rmtree(".dvc")
    summary = get(site)
    assert (summary.requested, summary.brought_back) == (10, 0)
    assert raw() == found


def test_nothing_is_looked_for_elsewhere_where_nothing_is_lost(
    repository: Repository, site: Site
) -> None:
    def never(names: Collection[str]) -> Iterable[tuple[str, Path]]:
        raise AssertionError(names)

    for links in (LINKS[:4], LINKS[:4], LINKS, LINKS[:2]):
        download(links, site.hosts(), "web", options(), DenyList(), copies=never)


def test_who_is_denied_does_not_come_back(repository: Repository) -> None:
    """By digest, by address, and by the address that a link has led to."""

    async def leads_on(request: Request) -> None:
        await request.answer(302, Location=f"http://b.test{request.path}")

    with Site({"a.test": leads_on, "b.test": numbered}) as site:
        get(site)
        pictures = {number: image_bytes("JPEG", number, (16, 16)) for number in range(12)}
        deny = [
            f"sha256:{files.digest_bytes(pictures[0])}",
            "url:http://b.test/1.jpg",
            "url:http://b.test/2.jpg",
        ]
        repository.ok("dvc", "add", "--quiet", "data/raw")
        asked = dict(site.asked)
        looked_for: list[str] = []

        def noted(names: Collection[str]) -> Iterable[tuple[str, Path]]:
            looked_for.extend(names)
            return elsewhere.copies("data/raw", names)

        shutil.rmtree("data/raw")
        for _ in range(2):
            summary = download(
                LINKS, site.hosts(), "web", options(), DenyList.of(deny), copies=noted
            )
            assert summary.requested == 0
            assert set(raw().values()) == {pictures[number] for number in range(3, 12)}
        denied = {files.digest_bytes(pictures[number]) for number in range(3)}
        assert not denied & {Path(name).stem for name in looked_for}
        assert dict(site.asked) == asked


# --- two at once

WAITING = "download: another run is at work on the same; waiting for it.\n"
QUEUED, ASIDE = Path(".dvc/tmp/exps/tmp1"), Path(".dvc/tmp/exps/standalone/tmp2")  # dvc's clones
CHILD = """
import json, sys
from functools import partial
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from hostile.site import options
from pttfaces import elsewhere
from pttfaces.denylist import DenyList
from pttfaces.http import LoopbackHosts
from pttfaces.download import downloader as download
links, door = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
copies = partial(elsewhere.copies, "data/raw")
slow = options(per_host=1, timeout_s=30)
print(download(links, LoopbackHosts(door), "web", slow, DenyList(), copies=copies).requested)
"""


class Gate:
    """A handler that answers the first four pictures, and the others when it is open."""

    def __init__(self) -> None:
        self.open = threading.Event()

    async def __call__(self, request: Request) -> None:
        number = int("".join(filter(str.isdigit, request.path)))
        while number >= 4 and not self.open.is_set():
            await asyncio.sleep(0.01)
        await numbered(request)


@contextmanager
def experiments(
    root: Path, site: Site, clones: Iterable[Path] = (ASIDE, QUEUED)
) -> Iterator[list[subprocess.Popen[str]]]:
    """Two downloads of one repository, each in a folder of its own; the second starts when the
    first one's first four pictures have come."""
    order, child = root / "order.json", root / "child.py"
    order.write_text(json.dumps([LINKS, dict(site.hosts().local)]))
    child.write_text(CHILD)
    paths = os.pathsep.join([str(Path(files.__file__).parents[1]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "DVC_ROOT": str(root)}
    command = [sys.executable, str(child), str(Path(__file__).parents[1]), str(order)]
    started: list[subprocess.Popen[str]] = []
    try:
        for clone in clones:
            clone.mkdir(parents=True)
            pipe = subprocess.PIPE
            started.append(
                subprocess.Popen(
                    command, cwd=clone, env=environment, text=True, stdout=pipe, stderr=pipe
                )
            )
            deadline = time.monotonic() + 60
            while sum(map(pictures_in, clones)) < 4:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        yield started
    finally:
        for one in started:
            one.kill()
            one.communicate()


def pictures_in(clone: Path) -> int:
    return len(list(clone.glob("data/raw/??/*")))


@pytest.mark.parametrize("clones", [(QUEUED, ASIDE), (ASIDE, QUEUED)])
def test_a_second_download_waits_and_takes_what_the_first_has(
    repository: Repository, clones: tuple[Path, Path]
) -> None:
    gate = Gate()
    with (
        Site(dict.fromkeys(HOSTS, gate)) as site,
        experiments(repository.path, site, clones) as (first, second),
    ):
        assert second.stderr is not None
        assert second.stderr.readline() == WAITING
        gate.open.set()
        assert first.communicate(timeout=60)[0] == "12\n"
        assert second.communicate(timeout=60)[0] == "0\n"
    assert set(site.asked.values()) == {1}
    ledgers = [(clone / "data/ledger.csv").read_bytes() for clone in clones]
    assert ledgers[0] == ledgers[1]
    assert pictures_in(clones[1]) == 12


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_download_holds_up_no_other_and_its_pictures_are_taken(
    repository: Repository,
) -> None:
    gate = Gate()
    with (
        Site(dict.fromkeys(HOSTS, gate)) as site,
        experiments(repository.path, site) as (first, second),
    ):
        assert second.stderr is not None
        assert second.stderr.readline() == WAITING
        first.send_signal(signal.SIGKILL)
        first.wait()
        gate.open.set()
        assert second.communicate(timeout=60)[0] == "8\n"
    asked_twice = {name for name, count in site.asked.items() if count > 1}
    assert asked_twice <= {"a.test/4.jpg", "b.test/5.jpg"}  # they were on their way
    assert pictures_in(QUEUED) == 12


def test_a_run_that_has_all_waits_for_none(repository: Repository, site: Site) -> None:
    get(site)
    with workdir.exclusive("test", f"download-{files.digest_json('web')[:16]}"):
        assert get(site, LINKS[:5]).requested == 0


# --- as stages of the line

WORLD = make_world(1, 8, "Beauty", 2024)


@pytest.fixture(scope="module")
def drawn() -> Counter[int]:
    """How often each picture of the demo's board was handed out."""
    return Counter()


@pytest.fixture(scope="module")
def line(
    tmp_path_factory: pytest.TempPathFactory, drawn: Counter[int]
) -> Iterator[tuple[Repository, dict[str, str]]]:
    """A small project, and what leads its stages to a demo board that counts."""
    made = make_repository(tmp_path_factory.mktemp("line"), SMALL | {"demo.articles": 8})
    (made.path / "data/inbox/own.jpg").write_bytes(image_bytes("JPEG", 99))
    made.ok("dvc", "add", "--quiet", "data/inbox")
    made.commit("a picture of one's own")
    lock = threading.Lock()

    def draw(one: Picture, seed: int) -> bytes:
        with lock:
            drawn[one.number] += 1
        time.sleep(0.4)
        return encode.picture_bytes(one, seed)

    with serve(WORLD, draw=draw) as port:
        yield made, {"PTTFACES_DEMO_PORT": str(port)}


@pytest.mark.timeout(600)
def test_two_experiments_at_once_ask_for_each_picture_once(
    line: tuple[Repository, dict[str, str]], drawn: Counter[int]
) -> None:
    made, environment = line
    said: list[str] = []

    def run(max_mib: int) -> None:
        command = ["dvc", "exp", "run", "--temp", "-S", f"download.max_mib={max_mib}", "download"]
        ended = made.run(*command, **environment)
        said.append(ended.stdout + ended.stderr)
        assert ended.returncode == 0, said[-1]

    runs = [threading.Thread(target=run, args=(max_mib,)) for max_mib in (40, 41)]
    for one in runs:
        one.start()
    for one in runs:
        one.join()
    assert len(said) == 2
    assert any(WAITING.strip() in one or "taken from" in one for one in said), said
    assert len(drawn) > 10
    addresses = Counter(one.number for one in WORLD.pictures.values())
    assert drawn <= addresses


@pytest.mark.timeout(600)
def test_another_source_or_other_days_there_and_back_ask_for_no_picture_again(
    line: tuple[Repository, dict[str, str]], drawn: Counter[int]
) -> None:
    made, environment = line
    made.ok("dvc", "repro", "download", **environment)
    ledger = (made.path / "data/ledger.csv").read_bytes()
    before = Counter(drawn)
    for away in ({"source": "inbox"}, {"board.dates": '["0101", "0430"]'}):
        back = {"source": "demo", "board.dates": '["0101", "1231"]'}
        put(made.path / "params.yaml", away)
        made.ok("dvc", "repro", "download", **environment)
        assert (made.path / "data/ledger.csv").read_bytes() != ledger
        put(made.path / "params.yaml", back)
        output = made.ok("dvc", "repro", "download", **environment)
        assert "taken from DVC's cache" in output
        assert (made.path / "data/ledger.csv").read_bytes() == ledger
    assert drawn == before
