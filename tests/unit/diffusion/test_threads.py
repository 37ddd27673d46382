"""OpenMP's waiting threads: they sleep beside other programs, and the results stay the same."""

import os
import subprocess
import sys
import threading
import time

import psutil
import pytest
import torch

from pttfaces.diffusion import threads

linux = pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP")
BUSY = "while True: pass"


TEAMS = """
import time, psutil, torch
from pttfaces.diffusion import threads

def wait_for(count):
    deadline = time.monotonic() + 60
    while psutil.Process().num_threads() != count:
        assert time.monotonic() < deadline, psutil.Process().num_threads()
        time.sleep(0.01)

torch.ones(1 << 20).add_(1)  # this thread's own team
before, spare = psutil.Process().num_threads(), threads.SpareTeams(2)
for _ in range(2):
    spare.hold()
    spare.hold()
    wait_for(before + 2 * torch.get_num_threads())
    spare.release()
    wait_for(before)
print(torch.get_num_threads())
"""


@linux
def test_spare_teams_add_threads_to_openmp_and_take_them_away_again() -> None:
    """As many for each team as this thread's own has, of which OpenMP counts all but the owner."""
    done = subprocess.run(
        [sys.executable, "-c", TEAMS],
        env={**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout.split() == [b"2"]


@linux
def test_other_load_counts_a_busy_program_and_not_this_one() -> None:
    """On a core of their own, where a test machine has other work, too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        load = threads.OtherLoad()
        with subprocess.Popen([sys.executable, "-c", BUSY]) as busy:
            try:
                time.sleep(2)
                others = load.measure()
            finally:
                busy.kill()
        assert others > 0.3
        own = time.process_time()
        started = time.monotonic()
        while time.process_time() - own < 0.5:
            pass
        others_s = load.measure() * (time.monotonic() - started)
        assert others_s < time.monotonic() - started - 0.4
    finally:
        os.sched_setaffinity(0, before)


def test_yield_to_others_changes_no_bit_of_a_result_and_not_the_threads() -> None:
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(1))
    count, expected = torch.get_num_threads(), x @ x.T
    spare = threads.SpareTeams(1)
    with threads.yield_to_others():
        spare.hold()
        assert torch.equal(x @ x.T, expected)
        assert torch.get_num_threads() == count
        spare.release()
    assert torch.equal(x @ x.T, expected)


def test_yield_to_others_leaves_the_choice_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert threads._teams_needed() == 0


@linux
def test_teams_needed_outnumber_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for cores, computing, needed in ((2, 2, 1), (16, 8, 2), (16, 16, 1), (64, 2, 0), (8, 1, 0)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        monkeypatch.setattr(torch, "get_num_threads", lambda computing=computing: computing)
        assert threads._teams_needed() == needed
        counted = computing + needed * (computing - 1)
        assert counted > cores or needed == 0


@linux
def test_watch_where_the_load_is_hidden_ends_without_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hidden(percpu: bool) -> list[object]:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(psutil, "cpu_times", hidden)
    threads._watch(1, threading.Event())
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [])
    threads._watch(1, threading.Event())
    assert capsys.readouterr().err == ""
