"""Runs a function over many images on all cores, with results in the order of the images.

With threads: Pillow, OpenCV and torch release Python's lock while they work.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_QUEUED_A_WORKER = 4  # enough to keep all workers busy, few enough to need little memory


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[tuple[_Item, _Result]]:
    """Yields (item, function(item)) in the order of `items`, holding only a few at once.

    OpenCV's own threads are off meanwhile: several images at once use the cores better, and the
    order of some of its results depends on its threads.
    """
    workers, threads_before = _cores(), cv2.getNumThreads()
    pending: deque[tuple[_Item, Future[_Result]]] = deque()
    cv2.setNumThreads(1)
    executor = ThreadPoolExecutor(workers, thread_name_prefix="faces")
    try:
        for item in items:
            pending.append((item, executor.submit(function, item)))
            if len(pending) >= workers * _QUEUED_A_WORKER:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(threads_before)
