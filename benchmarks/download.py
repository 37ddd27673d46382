"""Our download against the plain aiohttp loop, img2dataset and gallery-dl, in turn in one run.

    python -m venv ../peers/img2dataset && ../peers/img2dataset/bin/pip install img2dataset
    python -m venv ../peers/gallery-dl && ../peers/gallery-dl/bin/pip install gallery-dl
    python benchmarks/download.py --peers ../peers

Each peer needs an environment of its own; a missing one is left out, with a message. The server is
a separate process on loopback: it waits 50 ms before each answer and serves JPEG files of 5 to 500
KB, other bytes for each number. Every contestant is a new process, with its own memory and CPU
time; the rate counts from the first request to the last file on disk.

`--scratch /dev/shm` takes the disk out of the measurement: ext4 creates files up to ten times more
slowly in a block group where many were deleted within minutes (`recently_deleted` in its
`ialloc.c`), as the runs before do, and which contestant's folder is in such a group is chance.

Bounds: no fewer files a second than the fastest peer at the same concurrency; with everything there
at least 20,000 links a second; one dead host among ten costs at most 10 %; a host with 10 % dead
links takes at most 1.3 times the time of one without; from 100 to 5,000 hosts the time of 10,000
links grows by what their connections cost the plain loop; at most 400 MB of memory at 50,000 links.
"""

import argparse
import asyncio
import io
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LATENCY_S = 0.05
SMALLEST, LARGEST = 5_000, 500_000
TRIES, TIMEOUT_S = 3, 60
HERE = Path(__file__).resolve()


# --- the server, a process of its own


def images(smallest: int, largest: int, count: int = 48) -> list[bytes]:
    """JPEG files of noise whose sizes are spread evenly over the orders of magnitude."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0)

    def drawn(side: int) -> bytes:
        buffer = io.BytesIO()
        pixels = noise.integers(0, 255, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG", quality=75)
        return buffer.getvalue()

    a_pixel = len(drawn(512)) / 512**2  # bytes
    sizes = [smallest * (largest / smallest) ** (at / (count - 1)) for at in range(count)]
    return [drawn(round((size / a_pixel) ** 0.5)) for size in sizes]


class Serving(asyncio.Protocol):
    """Answers `GET /<number>.jpg` LATENCY_S later with an image of that number's own bytes."""

    bodies: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._buffer = transport, b""
        self._loop = asyncio.get_running_loop()
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            path = head[head.index(b"/") + 1 : head.index(b".jpg")]
            answer = self._refuse if path.startswith(b"dead") else self._answer
            self._loop.call_later(LATENCY_S, answer, int(path.removeprefix(b"dead")))

    def _refuse(self, _: int) -> None:
        self._transport.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    def _answer(self, number: int) -> None:
        body = self.bodies[number % len(self.bodies)]
        comment = b"\xff\xd8\xff\xfe\x00\x0a%08d" % number  # a comment makes every file another
        length = len(body) - 2 + len(comment)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % length
        self._transport.write(head + comment)
        self._transport.write(memoryview(body)[2:])


async def serve(smallest: int, largest: int) -> None:
    """Serves until the standard input ends; writes the port first."""
    Serving.bodies = images(smallest, largest)
    loop = asyncio.get_running_loop()
    # All of 127.0.0.0/8, where a host of its own is wanted for each link.
    server = await loop.create_server(Serving, "0.0.0.0", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def server(smallest: int = SMALLEST, largest: int = LARGEST) -> Iterator[int]:
    """The port of a running server."""
    child = subprocess.Popen(
        [sys.executable, HERE, "--part", "server", json.dumps([smallest, largest])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin
    assert child.stdout
    try:
        yield int(child.stdout.readline())
    finally:
        child.stdin.close()
        child.wait()


# --- the contestants; each runs in a process and a folder of its own and returns its seconds


async def plain(urls: Sequence[str], concurrency: int) -> None:
    """The loop that the original describes: aiohttp, three tries, save."""
    import aiohttp

    folder = Path("images")
    folder.mkdir()
    slots = asyncio.Semaphore(concurrency)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=concurrency)

    async def fetch(session: aiohttp.ClientSession, number: int, url: str) -> None:
        async with slots:
            for _ in range(TRIES):
                try:
                    async with session.get(url) as response:
                        if response.status == 200:
                            content = await response.read()
                            (folder / f"{number}.jpg").write_bytes(content)
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(fetch(session, number, url) for number, url in enumerate(urls)))


def download_links(order: dict[str, Any]) -> dict[str, Any]:
    """`pttfaces.download` with all its checks, from links to ledger."""
    from pttfaces.config import Download
    from pttfaces.denylist import DenyList
    from pttfaces.download import download
    from pttfaces.http import LoopbackHosts
    from pttfaces.tables import Link

    links = [
        Link(f"M.{number // 10}.A", number, url, (url,), "body")
        for number, url in enumerate(order["urls"])
    ]
    options = Download(
        concurrency=order["concurrency"],
        per_host=order["concurrency"],
        rate_per_host=10_000,
        attempts=TRIES,
        timeout_s=TIMEOUT_S,
        max_mib=50,
        max_megapixels=100,
        keep_truncated=False,
        placeholders=[],
        allow_networks=[],
    )
    started = time.perf_counter()
    summary = download(links, LoopbackHosts(order["hosts"]), "web", options, DenyList())
    return {
        "seconds": time.perf_counter() - started,
        "files": summary.metrics["status"]["ok"],
        "failed": summary.metrics["links"] - summary.metrics["status"]["ok"],
        "requested": summary.requested,
    }


def part(name: str, order: Any) -> None:
    """What a child process of this script does."""
    if name == "server":
        asyncio.run(serve(*order))
    elif name == "plain":
        import aiohttp  # noqa: F401 (not within its seconds)

        started = time.perf_counter()
        asyncio.run(plain(order["urls"], order["concurrency"]))
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "files": count("images")}))
    else:
        print(json.dumps(download_links(order)))


# --- the runs


@dataclass
class Result:
    """What a contestant did: files, seconds of work, of the whole process and of CPU; MB."""

    files: int
    seconds: float
    whole: float
    cpu: float
    peak: float
    failed: int = 0
    requested: int = 0

    @property
    def rate(self) -> float:
        return self.files / self.seconds


def measured(command: Sequence[str], folder: Path, text: str = "") -> tuple[str, Any, float]:
    """Output, resource usage (with that of its own children) and wall seconds of a process."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src")}
    environment["NO_ALBUMENTATIONS_UPDATE"] = "1"  # img2dataset's would ask the network
    started = time.perf_counter()
    with (folder / "stdout").open("w+") as out, (folder / "stderr").open("w+") as errors:
        child = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=out, stderr=errors, env=environment
        )
        assert child.stdin
        child.stdin.write(text.encode())
        child.stdin.close()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        out.seek(0)
        errors.seek(0)
        if child.returncode:
            raise SystemExit(f"{command[0]} failed:\n{errors.read()[-3000:]}")
        return out.read(), usage, seconds


def megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def count(folder: str | Path) -> int:
    return sum(path.suffix == ".jpg" for path in Path(folder).rglob("*"))


def run_part(name: str, folder: Path, **order: Any) -> Result:
    command = [sys.executable, str(HERE), "--part", name, "-"]
    output, usage, whole = measured(command, folder, json.dumps(order))
    found = json.loads(output.splitlines()[-1])
    cpu = usage.ru_utime + usage.ru_stime
    return Result(whole=whole, cpu=cpu, peak=megabytes(usage), **found)


def run_img2dataset(program: Path, folder: Path, urls: Sequence[str], concurrency: int) -> Result:
    """Threads as many as our requests, no resizing or re-encoding; its own seconds."""
    (folder / "urls.txt").write_text("\n".join(urls))
    options = {
        "url_list": "urls.txt",
        "output_folder": "images",
        "output_format": "files",
        "processes_count": 1,
        "thread_count": concurrency,
        "resize_mode": "no",
        "disable_all_reencoding": True,
        "retries": TRIES - 1,
        "timeout": TIMEOUT_S,
        "enable_wandb": False,
        "number_sample_per_shard": len(urls),
    }
    command = [str(program), *(f"--{name}={value}" for name, value in options.items())]
    _, usage, whole = measured(command, folder)
    shards = [json.loads(path.read_text()) for path in folder.glob("images/*_stats.json")]
    seconds = max(s["end_time"] for s in shards) - min(s["start_time"] for s in shards)
    cpu = usage.ru_utime + usage.ru_stime
    return Result(count(folder / "images"), seconds, whole, cpu, megabytes(usage))


def run_gallery_dl(program: Path, folder: Path, urls: Sequence[str]) -> Result:
    """One at a time: it knows no other way."""
    (folder / "urls.txt").write_text("\n".join(urls))
    options = ["--config-ignore", "-q", "-R", str(TRIES - 1), "-D", "images", "-i", "urls.txt"]
    _, usage, whole = measured([str(program), *options], folder)
    cpu = usage.ru_utime + usage.ru_stime
    return Result(count(folder / "images"), whole, whole, cpu, megabytes(usage))


@contextmanager
def scratch(parent: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def show(name: str, result: Result) -> None:
    print(
        f"{name:28} {result.rate:8.0f} files/s  {result.files / result.whole:8.0f} as a whole "
        f"process  {1000 * result.cpu / result.files:6.2f} ms of CPU a file  {result.peak:5.0f} MB",
        flush=True,
    )


def against_peers(options: argparse.Namespace, concurrency: int) -> None:
    files = options.files
    print(f"\n{files} files, {concurrency} at once, median of {options.rounds}:")
    results: dict[str, list[Result]] = {}
    with server() as port:
        urls = [f"http://127.0.0.1:{port}/{at}.jpg" for at in range(files)]
        names = [f"http://images.test/{at}.jpg" for at in range(files)]
        hosts = {"images.test": port}
        for _ in range(options.rounds):
            with scratch(options.scratch) as folder:
                result = run_part("plain", folder, urls=urls, concurrency=concurrency)
                results.setdefault("plain aiohttp loop", []).append(result)
            with scratch(options.scratch) as folder:
                result = run_part("ours", folder, urls=names, hosts=hosts, concurrency=concurrency)
                results.setdefault("ours", []).append(result)
            program = options.peers / "img2dataset/bin/img2dataset"
            if program.exists():
                with scratch(options.scratch) as folder:
                    result = run_img2dataset(program, folder, urls, concurrency)
                    results.setdefault("img2dataset", []).append(result)
        program = options.peers / "gallery-dl/bin/gallery-dl"
        if program.exists() and options.gallery_dl:
            with scratch(options.scratch) as folder:
                result = run_gallery_dl(program, folder, urls[: options.gallery_dl])
                results[f"gallery-dl ({options.gallery_dl} files)"] = [result]
    assert all((mine.files, mine.failed) == (files, 0) for mine in results["ours"])
    for name, rounds in results.items():
        show(name, sorted(rounds, key=lambda result: result.rate)[(len(rounds) - 1) // 2])
    for name, rounds in results.items():
        if name != "ours":  # round by round, since a machine's speed changes within minutes
            ratios = [
                mine.rate / its.rate for mine, its in zip(results["ours"], rounds, strict=False)
            ]
            each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"ours over {name}: {statistics.median(ratios):.2f} times (rounds: {each})")
    for peer in ("img2dataset", "gallery-dl"):
        if not any(name.startswith(peer) for name in results):
            print(f"{peer} was left out; it is looked for in {options.peers / peer}")


def second_run(options: argparse.Namespace) -> None:
    links = options.links
    print(f"\n{links} links, small images, 128 at once, and the same run again:")
    with server(3_000, 6_000) as port, scratch(options.scratch) as folder:
        urls = [f"http://images.test/{at}.jpg" for at in range(links)]
        order = {"urls": urls, "hosts": {"images.test": port}, "concurrency": 128}
        first = run_part("ours", folder, **order)
        show("ours, from nothing", first)
        again = run_part("ours", folder, **order)
        assert not again.requested
        show("ours, again", again)
    print(f"again: {again.rate:.0f} links/s (bound: at least 20000)")
    print(f"memory: {max(first.peak, again.peak):.0f} MB (bound: at most 400)")


def dead_host(options: argparse.Namespace, concurrency: int) -> None:
    """Nine hosts that answer and a tenth whose port is closed; then the nine alone."""
    files = options.files
    print(f"\n{files} files, {concurrency} at once, nine hosts, median of {options.rounds}:")
    with socket.socket() as closed, server() as port:
        closed.bind(("127.0.0.1", 0))  # bound, so that no one else gets it; nothing listens
        hosts = {f"h{at}.test": port for at in range(9)} | {"h9.test": closed.getsockname()[1]}
        urls = [f"http://h{at % 10}.test/{at}.jpg" for at in range(files * 10 // 9)]
        alive = [url for url in urls if "h9.test" not in url]
        ratios = []
        for _ in range(options.rounds):
            pair = []
            for asked in (alive, urls):
                with scratch(options.scratch) as folder:
                    order = {"urls": asked, "hosts": hosts, "concurrency": concurrency}
                    pair.append(run_part("ours", folder, **order))
            ratios.append((pair[1].seconds / pair[0].seconds, pair))
    ratio, (without, with_it) = sorted(ratios, key=lambda item: item[0])[(len(ratios) - 1) // 2]
    print(f"without the dead host {without.seconds:6.1f} s, {without.files} files")
    print(f"with it               {with_it.seconds:6.1f} s, {with_it.files} files")
    print(f"{100 * (ratio - 1):+.1f} % (bound: at most +10 %)")


def dead_links(options: argparse.Namespace, concurrency: int) -> None:
    """One host of whose links each tenth answers 403 for ever; then the same without them."""
    files = options.files
    print(f"\n{files} links of one host, {concurrency} at once, median of {options.rounds}:")
    ratios = []
    with server() as port:
        good = [f"http://images.test/{at}.jpg" for at in range(files)]
        mixed = [
            url if at % 10 else url.replace("test/", "test/dead") for at, url in enumerate(good)
        ]
        for _ in range(options.rounds):
            pair = []
            for asked in (good, mixed):
                with scratch(options.scratch) as folder:
                    hosts = {"images.test": port}
                    order = {"urls": asked, "hosts": hosts, "concurrency": concurrency}
                    pair.append(run_part("ours", folder, **order))
            assert pair[1].files == sum("dead" not in url for url in mixed)
            ratios.append(pair[1].seconds / pair[0].seconds)
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    ratio = statistics.median(ratios)
    print(f"with 10 % dead links {ratio:.2f} times the time (rounds: {each}; bound: at most 1.3)")


def many_hosts(options: argparse.Namespace) -> None:
    """10,000 links on 100 and on 5,000 hosts, by us and by the plain loop."""
    links = 10_000
    print(f"\n{links} links, small images, 32 at once:")
    seconds: dict[tuple[str, int], float] = {}
    with server(3_000, 6_000) as port:
        for hosts in (100, 5_000):
            names = [f"h{at % hosts}.test" for at in range(links)]
            urls = [f"http://{name}/{at}.jpg" for at, name in enumerate(names)]
            # For the plain loop, each address of 127.0.0.0/8 is another host.
            local = [f"127.0.{at % hosts // 250}.{at % hosts % 250 + 1}" for at in range(links)]
            plain_urls = [f"http://{name}:{port}/{at}.jpg" for at, name in enumerate(local)]
            with scratch(options.scratch) as folder:
                order = {"urls": urls, "hosts": dict.fromkeys(names, port), "concurrency": 32}
                seconds["ours", hosts] = run_part("ours", folder, **order).seconds
            if sys.platform == "linux":
                with scratch(options.scratch) as folder:
                    result = run_part("plain", folder, urls=plain_urls, concurrency=32)
                    seconds["plain aiohttp loop", hosts] = result.seconds
    for (name, hosts), took in seconds.items():
        print(f"{name:28} {hosts:5} hosts {took:6.1f} s  {took / seconds[name, 100]:5.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--links", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--peers", type=Path, default=Path("peers"), help="their environments")
    parser.add_argument(
        "--gallery-dl", type=int, default=200, help="files it gets; 0 leaves it out"
    )
    parser.add_argument("--scratch", type=Path, help="where the images go meanwhile")
    parts = ["peers", "again", "dead", "dead-links", "hosts"]
    parser.add_argument("--only", choices=parts, help="one part")
    parser.add_argument("--part", nargs=2, metavar=("NAME", "ORDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, order = options.part
        part(name, json.load(sys.stdin) if order == "-" else json.loads(order))
        return
    options.peers = options.peers.resolve()
    if options.only in (None, "peers"):
        for concurrency in options.concurrency:
            against_peers(options, concurrency)
    if options.only in (None, "again"):
        second_run(options)
    if options.only in (None, "dead"):
        for concurrency in options.concurrency:
            dead_host(options, concurrency)
    if options.only in (None, "dead-links"):
        for concurrency in options.concurrency:
            dead_links(options, concurrency)
    if options.only in (None, "hosts"):
        many_hosts(options)


if __name__ == "__main__":
    main()
