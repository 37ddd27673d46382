"""Calls a function for many images on the machines of a Ray cluster.

The cluster is RAY_ADDRESS, or, without it, one that Ray starts on this machine. The machines need
the packages of requirements.lock; our own code and all data come from here, so they share no disk.
"""

import functools
import logging
import os
import platform
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import cv2

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports to its makers
import ray
from ray.exceptions import RayError, RayTaskError

import pttfaces
from pttfaces.errors import DataError, ParamsError, first_line
from pttfaces.faces.detectors.base import Detector

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_QUEUED_A_WORKER = 2
_CONNECT_S = 10
_PACKAGES = ("numpy", "opencv-python", "pillow", "torch", "face-crop-plus")


@contextmanager
def connect() -> Iterator["RayEngine"]:
    """The cluster's engine. ParamsError: no cluster responds at RAY_ADDRESS, or it has no core."""
    address = os.environ.get("RAY_ADDRESS", "")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdecimal():  # Ray itself would wait for minutes
            socket.create_connection((host, int(port)), _CONNECT_S).close()
        ray.init(
            runtime_env={"py_modules": [str(Path(pttfaces.__file__).parent)]},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise ParamsError(
            f"the Ray cluster at RAY_ADDRESS {address!r} does not respond ({reason}); start it, or "
            "unset RAY_ADDRESS to use this machine."
            if address
            else f"Ray does not start on this machine ({reason}); unset PTTFACES_ENGINE to use "
            "threads."
        ) from None
    for number, handler in handlers.items():  # Ray's own one would abort the process
        signal.signal(number, handler)
    try:
        yield RayEngine()
    finally:
        ray.shutdown()


class RayEngine:
    """Runs each call as a task of Ray on a core, a GPU or, without GPUs, all cores of a node.

    Ray gives the task to a node with room, also to one that has joined since, and up to three times
    to another one when its worker or node dies.
    """

    items_per_call = 8

    def __init__(self) -> None:
        if not _cluster_total("CPU"):
            raise ParamsError("the Ray cluster has no core for this work; add a node to it.")
        self._has_gpu = _cluster_total("GPU") > 0

    def batch_size(self, detector: Detector) -> int:
        on_gpu = detector.uses_device and self._has_gpu
        return detector.options.batch_size if on_gpu else 1

    def ordered_map(
        self,
        function: Callable[[_Item], _Result],
        items: Iterable[_Item],
        whole_device: bool = False,
    ) -> Iterator[tuple[_Item, _Result]]:
        """See `parallel.Engine`.

        DataError: several workers died with the same item. ParamsError: a machine has other
        packages than this one.
        """
        on_gpu = whole_device and self._has_gpu
        cores = _fewest_cores() if whole_device and not on_gpu else 1
        # max_calls: a worker stays, with the function that it has unpickled.
        task = ray.remote(max_calls=0, num_cpus=cores, num_gpus=int(on_gpu))(_call)
        held = [ray.put(function)]  # in a list, or Ray would unpickle it for every call
        environment = _environment()
        pending: deque[tuple[_Item, Any]] = deque()
        for item in items:
            pending.append((item, task.remote(held, environment, item)))
            at_once = _cluster_total("GPU") if on_gpu else _cluster_total("CPU") // cores
            if len(pending) >= at_once * _QUEUED_A_WORKER:
                first, result = pending.popleft()
                yield first, _wait(result)
        while pending:
            first, result = pending.popleft()
            yield first, _wait(result)


def _cluster_total(name: str) -> int:
    """How many CPUs or GPUs the cluster has at the moment."""
    return int(ray.cluster_resources().get(name, 0))


def _fewest_cores() -> int:
    """Of a node, so that each node has room for a call that takes so many."""
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return min(filter(None, cores))


def _wait(result: Any) -> Any:
    try:
        return ray.get(result)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RayError) or "failed to import on the worker" in str(cause):
            raise ParamsError(
                f"a machine of the Ray cluster cannot load this project ({_last_line(cause)}); "
                "install requirements.lock and requirements-cluster.lock on all of them."
            ) from None
        raise cause from None  # the function's own
    except RayError as error:  # the worker or its node died, or the result with it
        raise DataError(
            f"several workers of the Ray cluster died with the same images ({first_line(error)}); "
            "look at the cluster's logs (memory?), then run the same command to resume."
        ) from None


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def _call(held: list[Any], environment: dict[str, str], item: Any) -> Any:
    """In a worker. environment: of the process that gives out the calls."""
    return _unpickled(held[0], tuple(environment.items()))(item)


@functools.lru_cache(maxsize=1)
def _unpickled(function: Any, environment: tuple[tuple[str, str], ...]) -> Callable[[Any], Any]:
    """The function, and with it the detector, which a worker keeps from call to call.

    ParamsError: this machine has another processor or other packages.
    """
    for name, expected in environment:
        found = _environment()[name]
        if found != expected:
            raise ParamsError(
                f"a machine of the Ray cluster has {name} {found}, this one {expected}; "
                "install requirements.lock on all of them."
            )
    cv2.setNumThreads(1)
    return ray.get(function)


def _environment() -> dict[str, str]:
    """What decides the results beside our own code."""
    return {"CPU": platform.machine(), **{name: version(name) for name in _PACKAGES}}
