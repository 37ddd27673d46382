"""Work on all cores, and processes that are killed or interrupted meanwhile."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pttfaces.board.processes import map_on_cores

MANY = 2000  # enough for processes


def process_of(_: int) -> int:
    return os.getpid()


def die_elsewhere(item: int) -> int:
    if multiprocessing.parent_process() and item > MANY // 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return -item


def wait_a_little(_: int) -> int:
    time.sleep(0.02)
    return os.getpid()


def test_map_on_cores_of_many_items_uses_other_processes() -> None:
    assert os.getpid() not in set(map_on_cores(process_of, range(MANY)))
    assert set(map_on_cores(process_of, range(3))) == {os.getpid()}


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_map_on_cores_when_processes_are_killed_computes_the_rest() -> None:
    assert list(map_on_cores(die_elsewhere, range(MANY))) == [-item for item in range(MANY)]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL and SIGINT")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_map_on_cores_when_main_process_is_ended_leaves_no_process(name: str) -> None:
    """SIGINT goes to the whole group, as a terminal sends it; main alone reports it."""
    program = subprocess.Popen(
        [sys.executable, __file__],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout
    working = int(program.stdout.readline())
    send = os.killpg if name == "SIGINT" else os.kill
    send(program.pid, getattr(signal, name))
    _, said = program.communicate()
    assert program.returncode
    assert said.count("Traceback") == (name == "SIGINT")
    while psutil.pid_exists(working):  # pytest's own limit ends this
        time.sleep(0.05)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    for number, process in enumerate(map_on_cores(wait_a_little, range(MANY))):
        if number == 100:
            print(process, flush=True)
