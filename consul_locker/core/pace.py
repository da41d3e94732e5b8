"""The pace of a Locker's requests: as they come; or, while Consul does not answer, one at a time, with pauses between.

One timer for each Locker. Renewals, destroys and watches go out at any time, and so do users' questions.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from .outage import Outage
from .step import Outbox

__all__ = ["Flow", "Pace"]


class Flow(Enum):
    """Whether requests go out."""

    OPEN = "as they come"
    PAUSING = "Consul did not answer: none does"
    NEXT = "the pause is over: the next one does, as an attempt"
    TRYING = "the attempt is under way: no other does"
    HELD = "a renewal was refused: none does before one is answered"

    __hash__ = object.__hash__  # there is one of each, and Enum's own is slow


class _News(Enum):
    SENT = "a request goes out"
    FAILED = "Consul did not answer a request"
    PAUSE_OVER = "the pause is over"
    ANSWERED = "Consul has answered a request"
    REFUSED = "Consul refused a renewal"
    RENEWED = "Consul has answered a renewal"
    NOT_URGENT = "nothing else waits to be sent"

    __hash__ = object.__hash__


#: The flow after some news; a pair that is not here leaves it unchanged.
_AFTER = {
    (Flow.OPEN, _News.FAILED): Flow.PAUSING,
    (Flow.OPEN, _News.REFUSED): Flow.HELD,
    (Flow.PAUSING, _News.PAUSE_OVER): Flow.NEXT,
    (Flow.PAUSING, _News.ANSWERED): Flow.OPEN,  # one that was sent before
    (Flow.PAUSING, _News.REFUSED): Flow.HELD,
    (Flow.PAUSING, _News.RENEWED): Flow.OPEN,
    (Flow.NEXT, _News.SENT): Flow.TRYING,
    (Flow.NEXT, _News.NOT_URGENT): Flow.OPEN,
    (Flow.NEXT, _News.FAILED): Flow.PAUSING,  # one that was sent before
    (Flow.NEXT, _News.ANSWERED): Flow.OPEN,
    (Flow.NEXT, _News.REFUSED): Flow.HELD,
    (Flow.NEXT, _News.RENEWED): Flow.OPEN,
    (Flow.TRYING, _News.FAILED): Flow.PAUSING,
    (Flow.TRYING, _News.ANSWERED): Flow.OPEN,
    (Flow.TRYING, _News.REFUSED): Flow.HELD,
    (Flow.TRYING, _News.RENEWED): Flow.OPEN,
    (Flow.HELD, _News.RENEWED): Flow.OPEN,
}


class Pace:
    """When the requests of one Locker go out.

    Args:
        outbox: of the Locker.
        outage: of the Locker; it says how long a pause is.

    Attributes:
        flow: whether requests go out now.
        due: when the pause is over, on the clock of the steps; None when there is none.
        on_closed: called when requests go out no longer as they come; set once.
    """

    __slots__ = ("_later", "_out", "_outage", "due", "flow", "on_closed")

    def __init__(self, outbox: Outbox, outage: Outage) -> None:
        self._out = outbox
        self._outage = outage
        self.flow = Flow.OPEN
        self.due: float | None = None
        self.on_closed: Callable[[], None]
        self._later: dict[Callable[[], None], None] = {}

    @property
    def pausing(self) -> bool:
        """Whether requests do not go out as they come."""
        return self.flow is not Flow.OPEN

    @property
    def may_send(self) -> bool:
        """Whether a request may go out now. Whoever sends one says so: `sent`."""
        return self.flow is Flow.OPEN or self.flow is Flow.NEXT

    def sent(self) -> None:
        """A request goes out."""
        self._hear(_News.SENT)

    def failed(self) -> None:
        """Consul did not answer a request."""
        self._hear(_News.FAILED)

    def answered(self) -> None:
        """Consul has answered a request."""
        self._hear(_News.ANSWERED)

    def hold_for_renewal(self) -> None:
        """Consul refused a renewal: all other requests of this Locker wait for one that is answered."""
        self._hear(_News.REFUSED)

    def renewed(self) -> None:
        """Consul has answered a renewal."""
        self._hear(_News.RENEWED)

    def when_open(self, then: Callable[[], None]) -> bool:
        """Have something done that is not urgent once requests go out as they come.

        Returns:
            Whether they do now. Then ``then`` is not called.
        """
        self._hear(_News.NOT_URGENT)  # what is urgent goes out as soon as the pause is over
        if self.flow is Flow.OPEN:
            return True
        self._later[then] = None
        return False

    def settle(self) -> None:
        """A step is over, and what is urgent was sent: after a pause without that, the rest is done."""
        if self._later:
            self._hear(_News.NOT_URGENT)

    def end(self) -> None:
        """The session is over, or a stop begins: nothing is repeated any more."""
        self._later.clear()
        self._become(Flow.OPEN)

    def _hear(self, news: _News) -> None:
        self._become(_AFTER.get((self.flow, news), self.flow))

    def _become(self, flow: Flow) -> None:
        before, self.flow = self.flow, flow
        if before is flow:
            return
        if before is Flow.PAUSING:
            self.due = None
            self._out.cancel(("pause",))
        if flow is Flow.PAUSING:
            self.due = self._out.now + self._outage.pause()
            self._out.timer(("pause",), self.due, self._pause_over)
        if before is Flow.OPEN:
            self.on_closed()
        elif flow is Flow.OPEN:
            later, self._later = self._later, {}
            for then in later:
                then()

    def _pause_over(self) -> None:
        self._hear(_News.PAUSE_OVER)
