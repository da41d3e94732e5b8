"""When the ``timeout`` of calls is over: one timer for all of them, for the next moment.

Nearly every call is answered long before, so none sets a timer and cancels it again. The timer goes on when its call
is answered; then it is set for the next one that has no answer yet. Only numbers are kept of answered calls: a call
keeps its caller's frames by the error that it was answered with.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from .calls import Call
from .step import Outbox

__all__ = ["Deadlines"]

#: The numbers of so many answered calls are kept at least, before a look finds them: fewer are no burden.
KEPT = 256


class Deadlines:
    """The deadlines of the calls of one Locker.

    Args:
        outbox: of the Locker.
        over: answers a call whose time is over.
    """

    __slots__ = ("_heap", "_look_at", "_out", "_over")

    def __init__(self, outbox: Outbox, over: Callable[[Call], None]) -> None:
        self._out = outbox
        self._over = over
        self._heap: list[tuple[float, int]] = []  # deadline and order of each call
        self._look_at = KEPT  # of this length it is looked through for calls that are answered

    def add(self, call: Call, timeout: float) -> None:
        """A call came. ``timeout``: in seconds."""
        heap = self._heap
        call.deadline = self._out.now + timeout
        self._out.limited[call.order] = call
        heappush(heap, (call.deadline, call.order))
        if heap[0][1] == call.order:
            self._out.timer(("calls",), call.deadline, self._due)
        if len(heap) > self._look_at:
            self.look()

    def look(self) -> None:
        """Forget the calls that are answered."""
        heap = self._heap
        heap[:] = [each for each in heap if each[1] in self._out.limited]
        heapify(heap)
        self._look_at = max(KEPT, 2 * len(heap))  # so each call is looked at twice at most, all in all
        self._set()

    def _due(self) -> None:
        heap, limited = self._heap, self._out.limited
        while heap and (heap[0][1] not in limited or heap[0][0] <= self._out.now):
            call = limited.pop(heappop(heap)[1], None)
            if call is not None:
                self._over(call)
        self._set()

    def _set(self) -> None:
        if self._heap:
            self._out.timer(("calls",), self._heap[0][0], self._due)
        else:
            self._out.cancel(("calls",))
