"""A thread that does an event loop's slow work, many pieces a turn.

The loop's thread and this one wait for each other wherever one of them goes to the disk or to the
network. At a thousand pictures a second the waits cost more than the work, and a second thread, or
an executor's hand-over of every piece, only adds to them: so pieces are gathered for a moment, and
what came of them is handed back together. Knows nothing of pictures.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

_Piece = TypeVar("_Piece")
_Result = TypeVar("_Result")
_Done: TypeAlias = Callable[[_Result | Exception], None]
_GATHERED_S = 0.01
_A_TURN = 32  # pieces at most
_ENOUGH = 128


class Keeper(Generic[_Piece, _Result]):
    """Calls `work` for every piece, in a thread that `close` ends. Made within a running loop."""

    def __init__(self, work: Callable[[_Piece], _Result]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._waiting, self._eased = 0, asyncio.Event()
        self._given: list[tuple[_Piece, _Done[_Result]]] = []
        self._turns: queue.SimpleQueue[list[tuple[_Piece, _Done[_Result]]]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def give(self, piece: _Piece, done: _Done[_Result]) -> None:
        """Has `done` called in the loop with what `work` returned or raised for the piece."""
        if not self._given:
            self._loop.call_later(_GATHERED_S, self._send)
        self._waiting += 1
        self._given.append((piece, done))
        if len(self._given) == _A_TURN:
            self._send()

    def _send(self) -> None:
        if self._given:
            self._turns.put(self._given)
            self._given = []

    @property
    def full(self) -> bool:
        """Whether so much is waiting that no more should be begun before there is `room`."""
        return self._waiting >= _ENOUGH

    async def room(self) -> None:
        """Waits until no longer `full`."""
        while self.full:
            self._eased.clear()
            await self._eased.wait()

    async def close(self) -> None:
        """Ends the thread; what it was given is done first."""
        self._send()
        self._turns.put([])
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while turn := self._turns.get():
            results = [(done, self._do(piece)) for piece, done in turn]
            self._loop.call_soon_threadsafe(self._hand_over, results)

    def _do(self, piece: _Piece) -> _Result | Exception:
        try:
            return self._work(piece)
        except Exception as error:
            return error

    def _hand_over(self, results: list[tuple[_Done[_Result], _Result | Exception]]) -> None:
        self._waiting -= len(results)
        self._eased.set()
        for done, result in results:
            done(result)
