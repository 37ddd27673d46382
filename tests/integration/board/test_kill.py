"""The stages crawl and links, killed with SIGKILL at random moments and run again.

PTTFACES_KILLS: the number of kills for each stage, by default 3.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from repository import PROJECT, put
from small_site import Answer, server, thirty_years, without_gate

import crawl
import links
from pttfaces.board.client import CONCURRENCY

MOMENTS = int(os.environ.get("PTTFACES_KILLS", "3"))
OUTPUTS = {
    "crawl": ["data/articles.jsonl"],
    "links": ["data/links.jsonl", "data/articles_read.csv"],
}


class Site:
    """A board of 300 pages; kills a process while it waits for the answer to its n-th request."""

    def __init__(self) -> None:
        self.board = thirty_years(20 * 300)
        self.board.posts = [
            replace(post, lines=(f"https://i.imgur.com/{index:07}.jpg",))
            for index, post in enumerate(self.board.posts)
        ]
        self.respond = without_gate(self.board)
        self.victim: subprocess.Popen[bytes] | None = None
        self.fatal = 0

    def answer(self, path: str) -> Answer:
        if self.victim:
            self.fatal -= 1
            if self.fatal == 0:
                time.sleep(random.uniform(0, 0.02))
                self.victim.kill()
        return self.respond(path)


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Site, str, list[tuple[str, float, str]]]]:
    site = Site()
    with server(site.answer) as (base, asked):
        yield site, base, asked


def stage(name: str, folder: Path) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    script = PROJECT / "src" / f"{name}.py"
    return subprocess.Popen(
        [sys.executable, str(script)], cwd=folder, env=environment, stderr=subprocess.DEVNULL
    )


@pytest.mark.parametrize("name", ["crawl", "links"])
def test_stage_killed_at_any_moment_resumes_to_the_same_outputs(
    name: str,
    site: tuple[Site, str, list[tuple[str, float, str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board, base, asked = site
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def run_to_the_end(folder: Path, *stages: str) -> list[str]:
        monkeypatch.chdir(folder)
        for each in stages:
            asked.clear()
            {"crawl": crawl, "links": links}[each].main()
        return [path for path, _, _ in asked]

    def outputs(folder: Path) -> list[bytes]:
        return [(folder / output).read_bytes() for output in OUTPUTS[name]]

    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    shutil.copy(PROJECT / "presets/demo.yaml", undisturbed / "params.yaml")
    settings = {"base_url": base, "name": "Test", "year": 2024, "rate_per_s": 1000}
    put(undisturbed / "params.yaml", {f"board.{key}": value for key, value in settings.items()})
    put(undisturbed / "params.yaml", {"source": "ptt"})
    pages = run_to_the_end(undisturbed, *list(OUTPUTS)[: list(OUTPUTS).index(name) + 1])
    assert max(Counter(pages).values()) == 1
    expected = outputs(undisturbed)
    assert run_to_the_end(undisturbed, name) == []  # from the cache

    for moment in range(MOMENTS):
        folder = tmp_path / f"killed-{moment}"
        (folder / "data").mkdir(parents=True)
        shutil.copy(undisturbed / "params.yaml", folder)
        if name == "links":
            shutil.copy(undisturbed / "data/articles.jsonl", folder / "data")
        asked.clear()
        board.fatal = random.randrange(2, len(pages) + 1)
        board.victim = stage(name, folder)
        assert board.victim.wait(120) != 0
        board.victim = None
        before = {path for path, _, _ in asked}
        after = run_to_the_end(folder, name)
        assert outputs(folder) == expected
        twice = before & set(after) - {"/robots.txt"}
        assert len(twice) <= CONCURRENCY  # only what was in flight
        assert before | set(after) == set(pages)
