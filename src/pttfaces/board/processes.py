"""Runs a function over many items in processes on all cores: BeautifulSoup holds Python's lock."""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_MIN_ITEMS = 500  # pages that take longer to parse than the processes to start
_ITEMS_AT_ONCE = 16  # handed to a process, which an interrupted stage waits for
_MAX_PROCESSES = 8


def map_on_cores(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
    """Yields function(item) for all items, in order; a few items are left to this process.

    So are the remaining ones where a process dies (out of memory). function: at the top level of a
    module, which the processes import; so a script needs its `if __name__ == "__main__"`.
    """
    done = 0
    if len(items) >= _MIN_ITEMS:
        with (
            suppress(BrokenProcessPool),
            ProcessPoolExecutor(
                min(os.cpu_count() or 1, _MAX_PROCESSES),
                multiprocessing.get_context("spawn"),  # fork is unsafe beside threads
                _start_process,
            ) as pool,
        ):
            for result in pool.map(function, items, chunksize=_ITEMS_AT_ONCE):
                yield result
                done += 1
    yield from map(function, items[done:])


def _start_process() -> None:
    # A terminal sends Ctrl-C to all processes, some systems SIGTERM. The main one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_main_process, daemon=True).start()
    # A page is some 10,000 objects: a fifth of the time goes to looking for garbage among them.
    gc.set_threshold(100_000)


def _end_with_main_process() -> None:
    """Ends this process when the main one is gone, also by SIGKILL; else it would wait for ever."""
    if main := multiprocessing.parent_process():
        main.join()
    os._exit(1)
