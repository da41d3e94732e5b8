"""When the ``timeout`` of calls is over: one timer for all of them, for the next moment.

Nearly every call is answered long before, so none sets a timer and cancels it again. The timer goes on when its call
is answered; then it is set for the next one that has no answer yet.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from .calls import Call
from .step import Outbox

__all__ = ["Deadlines"]

#: So many calls that are answered are kept at least, before a look finds them: fewer are no burden.
KEPT = 256


class Deadlines:
    """The deadlines of the calls of one Locker.

    Args:
        outbox: of the Locker.
        over: answers a call whose time is over.
    """

    __slots__ = ("_calls", "_look_at", "_out", "_over")

    def __init__(self, outbox: Outbox, over: Callable[[Call], None]) -> None:
        self._out = outbox
        self._over = over
        self._calls: list[tuple[float, int, Call]] = []  # a heap: deadline, order, call
        self._look_at = KEPT  # of this length it is looked through for calls that are answered

    def add(self, call: Call, timeout: float) -> None:
        """A call came. ``timeout``: in seconds."""
        calls = self._calls
        call.deadline = self._out.now + timeout
        heappush(calls, (call.deadline, call.order, call))
        if calls[0][2] is call:
            self._out.timer(("calls",), call.deadline, self._due)
        if len(calls) > self._look_at:
            self.look()

    def look(self) -> None:
        """Forget the calls that are answered."""
        calls = self._calls
        calls[:] = [each for each in calls if not each[2].settled]
        heapify(calls)
        self._look_at = max(KEPT, 2 * len(calls))  # so each call is looked at twice at most, all in all
        self._set()

    def _due(self) -> None:
        calls = self._calls
        while calls and (calls[0][2].settled or calls[0][0] <= self._out.now):
            call = heappop(calls)[2]
            if not call.settled:
                self._over(call)
        self._set()

    def _set(self) -> None:
        if self._calls:
            self._out.timer(("calls",), self._calls[0][0], self._due)
        else:
            self._out.cancel(("calls",))
