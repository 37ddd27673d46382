"""Calls a function for many images in parallel, with results in the order of the images.

Either on this machine's threads (Pillow, OpenCV and torch release Python's lock while they work),
or on a Ray cluster. The environment chooses, since the results are the same.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

import cv2

from pttfaces.errors import ParamsError
from pttfaces.faces.detectors.base import Detector

ENGINE = "PTTFACES_ENGINE"
"""The variable that names the engine: threads (the default) or ray."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_QUEUED_A_WORKER = 4  # enough to keep all workers busy, few enough to need little memory


class Engine(Protocol):
    """What runs the function.

    items_per_call: how many images are worth a call.
    """

    items_per_call: int

    def batch_size(self, detector: Detector) -> int:
        """How many images the detector takes at once where it runs."""
        ...

    def ordered_map(
        self,
        function: Callable[[_Item], _Result],
        items: Iterable[_Item],
        whole_device: bool = False,
    ) -> Iterator[tuple[_Item, _Result]]:
        """Yields (item, function(item)) in the order of `items`, holding only a few at once.

        whole_device: a call keeps a GPU, or all cores of a machine, busy by itself. Function,
        items and results can be pickled.
        """
        ...


class Threads:
    """Runs the function on threads of this process, one per core."""

    items_per_call = 1

    def batch_size(self, detector: Detector) -> int:
        return detector.batch_size

    def ordered_map(
        self,
        function: Callable[[_Item], _Result],
        items: Iterable[_Item],
        whole_device: bool = False,
    ) -> Iterator[tuple[_Item, _Result]]:
        # Of two calls one can prepare while the other one has the device.
        return ordered_map(function, items, workers=2 if whole_device else _cores())


@contextmanager
def connect_engine() -> Iterator[Engine]:
    """The engine that the environment names, for as long as the block runs.

    ParamsError: an unknown name, Ray is not installed, or its cluster does not respond.
    """
    match os.environ.get(ENGINE, "threads"):
        case "threads":
            yield Threads()
        case "ray":
            try:
                from pttfaces.faces import ray_engine
            except ModuleNotFoundError as missing:
                raise ParamsError(
                    f"{ENGINE} is ray, but {missing.name} is not installed; run "
                    "`pip install -r requirements-cluster.lock`."
                ) from None
            with ray_engine.connect() as engine:
                yield engine
        case other:
            raise ParamsError(f"{ENGINE} is {other!r}; expected threads or ray.")


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int | None = None
) -> Iterator[tuple[_Item, _Result]]:
    """Yields (item, function(item)) in the order of `items`, holding only a few at once.

    workers: number of threads, by default one per core. OpenCV's own threads are off meanwhile:
    several images at once use the cores better, and the order of some of its results depends on
    its threads.
    """
    workers, threads_before = workers or _cores(), cv2.getNumThreads()
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
