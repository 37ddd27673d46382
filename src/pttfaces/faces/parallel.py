"""The same work on many pictures, on all cores, with results in the order of the pictures.

Threads are enough: Pillow, OpenCV and torch let go of Python's lock while they work.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AHEAD = 4  # items under way a worker: enough to keep all busy, few enough to stay small


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[tuple[_Item, _Result]]:
    """Yields (item, function(item)) in the order of `items`, holding only a few at once.

    OpenCV's own threads are off meanwhile: pictures side by side use the cores better, and some of
    its results would come in an order that depends on the threads.
    """
    workers, threads_before = cores(), cv2.getNumThreads()
    under_way: deque[tuple[_Item, Future[_Result]]] = deque()
    cv2.setNumThreads(1)
    executor = ThreadPoolExecutor(workers, thread_name_prefix="faces")
    try:
        for item in items:
            under_way.append((item, executor.submit(function, item)))
            if len(under_way) >= workers * _AHEAD:
                first, future = under_way.popleft()
                yield first, future.result()
        while under_way:
            first, future = under_way.popleft()
            yield first, future.result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(threads_before)
