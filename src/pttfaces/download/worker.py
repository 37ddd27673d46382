"""Does an event loop's slow work in batches, in a worker thread.

The loop's thread and this one wait for each other wherever one of them uses the disk or the
network. At a thousand images a second the waits cost more than the work, and a second thread, or
handing over every item through an executor, adds to them: so items are collected for a moment, and
their results come back together.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

_Item = TypeVar("_Item")
_Output = TypeVar("_Output")
_Callback: TypeAlias = Callable[[_Output | Exception], None]
_COLLECT_S = 0.01
_BATCH_SIZE = 32
_MAX_PENDING = 128


class Worker(Generic[_Item, _Output]):
    """Calls `function` on every item, in a thread that `close` ends. Needs a running event loop."""

    def __init__(self, function: Callable[[_Item], _Output]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self._pending, self._batch_done = 0, asyncio.Event()
        self._batch: list[tuple[_Item, _Callback[_Output]]] = []
        self._batches: queue.SimpleQueue[list[tuple[_Item, _Callback[_Output]]]] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, item: _Item, callback: _Callback[_Output]) -> None:
        """Has `callback` called in the loop with what the function returns or raises."""
        if not self._batch:
            self._loop.call_later(_COLLECT_S, self._send)
        self._pending += 1
        self._batch.append((item, callback))
        if len(self._batch) == _BATCH_SIZE:
            self._send()

    def _send(self) -> None:
        if self._batch:
            self._batches.put(self._batch)
            self._batch = []

    @property
    def full(self) -> bool:
        """Whether so many items are pending that no new work should start."""
        return self._pending >= _MAX_PENDING

    async def wait_until_free(self) -> None:
        """Waits until it is no longer `full`."""
        while self.full:
            self._batch_done.clear()
            await self._batch_done.wait()

    async def close(self) -> None:
        """Finishes all items, then ends the thread."""
        self._send()
        self._batches.put([])
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while batch := self._batches.get():
            outputs = [(callback, self._call(item)) for item, callback in batch]
            self._loop.call_soon_threadsafe(self._return, outputs)

    def _call(self, item: _Item) -> _Output | Exception:
        try:
            return self._function(item)
        except Exception as error:
            return error

    def _return(self, outputs: list[tuple[_Callback[_Output], _Output | Exception]]) -> None:
        self._pending -= len(outputs)
        self._batch_done.set()
        for callback, output in outputs:
            callback(output)
