"""Calls a function for many images on the machines of a Ray cluster.

The cluster is RAY_ADDRESS, or, without it, one that Ray starts on this machine. The machines need
the packages of requirements.lock; our own code and all data come from here, so they share no disk.
"""

import logging
import os
import platform
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import cv2

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports to its makers
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import pttfaces
from pttfaces.errors import DataError, ParamsError, first_line
from pttfaces.faces.detectors.base import Detector

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_QUEUED_A_WORKER = 2
_MAX_DEATHS = 5  # of workers that had the same call; one that only waited is not to blame
_CONNECT_S = 10
_START_S = 120  # for all workers to start
_PACKAGES = ("numpy", "opencv-python", "pillow", "torch", "face-crop-plus")


@contextmanager
def connect() -> Iterator["RayEngine"]:
    """The cluster's engine. ParamsError: there is no cluster at RAY_ADDRESS."""
    address = os.environ.get("RAY_ADDRESS", "")
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
    try:
        yield RayEngine()
    finally:
        ray.shutdown()


class RayEngine:
    """Workers on the nodes that are there at the start: one per core, or one per GPU or node.

    A call whose worker dies goes to another one; it costs its images a second computation.
    DataError: no worker is left, or several have died with one call.
    """

    items_per_call = 8

    def __init__(self) -> None:
        self._has_gpu = ray.cluster_resources().get("GPU", 0) >= 1

    def batch_size(self, detector: Detector) -> int:
        on_gpu = detector.uses_device and self._has_gpu
        return detector.options.batch_size if on_gpu else 1

    def ordered_map(
        self,
        function: Callable[[_Item], _Result],
        items: Iterable[_Item],
        whole_device: bool = False,
    ) -> Iterator[tuple[_Item, _Result]]:
        """See `parallel.Engine`."""
        pool = _Pool(function, _shares(whole_device, self._has_gpu))
        pending: deque[_Call] = deque()
        try:
            for item in items:
                pending.append(pool.start(item))
                if len(pending) >= pool.size * _QUEUED_A_WORKER:
                    yield pool.finish(pending.popleft())
            while pending:
                yield pool.finish(pending.popleft())
        finally:
            pool.close()


def _shares(whole_device: bool, has_gpu: bool) -> Iterator[tuple[str, dict[str, int]]]:
    """(id of its node, its resources there) of every worker."""
    for node in ray.nodes():
        available = node["Resources"] if node["Alive"] else {}
        cores, gpus = int(available.get("CPU", 0)), int(available.get("GPU", 0))
        if not whole_device:
            shares = [{"num_cpus": 1}] * cores
        elif has_gpu:
            shares = [{"num_cpus": 1, "num_gpus": 1}] * gpus
        else:
            shares = [{"num_cpus": cores}] * min(cores, 1)
        yield from ((node["NodeID"], share) for share in shares)


class _Worker:
    """Holds the function on a machine of the cluster, and with it the detector."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        cv2.setNumThreads(1)
        self._function = function

    def environment(self) -> dict[str, str]:
        return _environment()

    def call(self, item: Any) -> Any:
        return self._function(item)


def _environment() -> dict[str, str]:
    """What decides the results beside our own code."""
    return {"CPU": platform.machine(), **{name: version(name) for name in _PACKAGES}}


@dataclass
class _Call:
    """A call that is under way, or waits for its worker. deaths: of workers that had it."""

    item: Any
    worker: Any
    result: Any
    deaths: int = 0


class _Pool:
    """Workers that hold `function`. ParamsError: one has other packages than this process."""

    def __init__(
        self, function: Callable[[Any], Any], shares: Iterable[tuple[str, dict[str, int]]]
    ) -> None:
        shared, worker_class = ray.put(function), ray.remote(_Worker)
        self._calls: dict[Any, int] = {}  # worker → how many calls it has
        for node, share in shares:
            where = NodeAffinitySchedulingStrategy(node, soft=False)
            options = worker_class.options(scheduling_strategy=where, **share)
            self._calls[options.remote(shared)] = 0
        self._drop_missing_workers()

    @property
    def size(self) -> int:
        return len(self._calls)

    def start(self, item: Any) -> _Call:
        """Gives the item to the worker that has the fewest calls."""
        call = _Call(item, None, None)
        self._assign(call)
        return call

    def finish(self, call: _Call) -> tuple[Any, Any]:
        """Waits for the result, from another worker if one dies."""
        while True:
            try:
                result = ray.get(call.result)
            except RayTaskError as error:  # the function's own
                raise error.cause from None
            except RayError:  # the worker or its node died, or the result with it
                self._drop(call.worker)
                call.deaths += 1
                if call.deaths == _MAX_DEATHS:
                    raise DataError(
                        f"{call.deaths} workers of the Ray cluster died with the same images; "
                        "look at the cluster's logs (memory?), then run the same command to resume."
                    ) from None
                self._assign(call)
            else:
                if call.worker in self._calls:
                    self._calls[call.worker] -= 1
                return call.item, result

    def close(self) -> None:
        """Ends the workers."""
        for worker in list(self._calls):
            self._drop(worker)

    def _assign(self, call: _Call) -> None:
        if not self._calls:
            raise DataError(
                "the Ray cluster has no worker left; run the same command to resume when it has."
            )
        call.worker = min(self._calls, key=self._calls.__getitem__)
        self._calls[call.worker] += 1
        call.result = call.worker.call.remote(call.item)

    def _drop(self, worker: Any) -> None:
        if self._calls.pop(worker, None) is not None:
            ray.kill(worker)

    def _drop_missing_workers(self) -> None:
        """Leaves the workers that start in time: others' work may keep a node's cores busy."""
        answers = {worker.environment.remote(): worker for worker in self._calls}
        started, late = ray.wait(list(answers), num_returns=len(answers), timeout=_START_S)
        reason = "its cores are busy"
        for answer in late:
            self._drop(answers[answer])
        for answer in started:
            try:
                _check_environment(ray.get(answer))
            except RayError as error:
                reason = str(error).strip().splitlines()[-1]
                self._drop(answers[answer])
        if not self._calls:
            raise ParamsError(
                f"no worker starts on the Ray cluster ({reason}); its machines need the packages "
                "of requirements.lock and requirements-cluster.lock, and a free core."
            )


def _check_environment(found: dict[str, str]) -> None:
    """ParamsError: a worker has another processor or other packages than this process."""
    for name, expected in _environment().items():
        if found[name] != expected:
            raise ParamsError(
                f"a machine of the Ray cluster has {name} {found[name]}, this one {expected}; "
                "install requirements.lock on all of them."
            )
