"""Lets torch's waiting threads sleep while other programs need the cores, too.

A thread of GNU's OpenMP that waits for the others of its team spins for milliseconds before it
sleeps. Alone on its cores, it thus starts the next piece of work at once. Beside another program it
burns the time in which the thread that it waits for could run: training on two cores makes a third
of its images or fewer beside one busy program. The variable OMP_WAIT_POLICY chooses between the
two, once and for all, when the library is loaded. But where OpenMP counts more threads than cores,
it hardly spins (do_spin in libgomp's config/linux/wait.h). So a second team of threads, which does
nothing, has the same effect, for as long as it lives. The number of threads that compute stays the
same, and so does every bit of the result.
"""

import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from pttfaces.diffusion import distributed

_CHOSEN_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_INTERVAL_S = 2.0
_FIRST_INTERVAL_S = 0.2
# Cores' worth of work that other programs do beyond what torch's threads leave free.
_CROWDED, _QUIET = 0.25, 0.1
_MAX_TEAMS = 8
_PARALLEL = 1 << 20  # elements of an operation that torch divides among its threads


@contextmanager
def yield_to_others() -> Iterator[None]:
    """In the block, torch's threads sleep while they wait, as long as other programs are busy.

    It looks at the load of the cores that this process may use every two seconds. Without effect
    on a GPU, with one thread, with another OpenMP library than GNU's, as on macOS and Windows, and
    where the user has chosen (OMP_WAIT_POLICY, GOMP_SPINCOUNT).
    """
    teams, done = _teams_needed(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(teams, done), name="load", daemon=True)
    if teams:
        watcher.start()
    try:
        yield
    finally:
        done.set()
        if teams:
            watcher.join()


def _teams_needed() -> int:
    """How many more teams OpenMP has to count before it has more threads than cores; 0 where that
    has no effect or takes too many."""
    threads = torch.get_num_threads()
    if (
        sys.platform != "linux"
        or threads < 2
        or distributed.state().device.type != "cpu"
        or not torch.backends.openmp.is_available()
        or any(name in os.environ for name in _CHOSEN_BY_USER)
    ):
        return 0
    cores = len(os.sched_getaffinity(0))
    needed = max(1, math.ceil((cores - threads + 1) / (threads - 1)))
    return needed if needed <= _MAX_TEAMS else 0


def _watch(teams: int, done: threading.Event) -> None:
    """Keeps the teams while the cores are crowded, until `done`."""
    spare, interval_s = SpareTeams(teams), _FIRST_INTERVAL_S
    try:
        load = OtherLoad()
        while not done.wait(interval_s):
            interval_s = _INTERVAL_S
            excess = load.measure() - load.free_cores
            if excess > _CROWDED:
                spare.hold()
            elif excess < _QUIET:
                spare.release()
    except (OSError, psutil.Error, IndexError):
        pass  # a container that hides the load, or shows other cores than it has: as if alone
    finally:
        spare.release()


class OtherLoad:
    """Measures the work of other programs on the cores that this process may use."""

    def __init__(self) -> None:
        self._cores = sorted(os.sched_getaffinity(0))
        self._own = psutil.Process()
        self.free_cores = max(0, len(self._cores) - torch.get_num_threads())
        self._last = self._read()

    def measure(self) -> float:
        """Cores that other programs kept busy since the last call, as a mean over that time."""
        before, self._last = self._last, self._read()
        wall_s, others_s = (now - then for now, then in zip(self._last, before, strict=True))
        return max(0.0, others_s / wall_s) if wall_s > 0 else 0.0

    def _read(self) -> tuple[float, float]:
        """The time, and the CPU time of others so far, both in seconds."""
        times = psutil.cpu_times(percpu=True)
        busy_s = sum(times[core].user + times[core].system for core in self._cores)
        # Of programs that asked for less than others (nice), too: they take the time all the same.
        busy_s += sum(getattr(times[core], "nice", 0.0) for core in self._cores)
        own = self._own.cpu_times()
        return time.monotonic(), busy_s - own.user - own.system


class SpareTeams:
    """Teams of OpenMP threads that do nothing but count; each belongs to a thread that waits."""

    def __init__(self, count: int) -> None:
        self._count, self._stop = count, threading.Event()
        self._threads: list[threading.Thread] = []

    def hold(self) -> None:
        """Starts the teams, if they are not there."""
        while len(self._threads) < self._count:
            self._threads.append(threading.Thread(target=self._own_a_team, daemon=True))
            self._threads[-1].start()

    def release(self) -> None:
        """Ends the teams; OpenMP no longer counts the threads of one whose owner has ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads = []
        self._stop.clear()

    def _own_a_team(self) -> None:
        torch.ones(_PARALLEL).add_(1)  # the first parallel operation of a thread makes its team
        self._stop.wait()
