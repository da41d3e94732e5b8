"""How long calls wait for a lock (`Waits`), and what a line of such calls is to the rest of the core (`Line`).

There are two kinds of line: line.py, where whoever is fastest gets the lock, and fair_line.py, in the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Protocol

from ..errors import ConsulLockerError
from .calls import Call, LockCall, Obstacle, TakePlaces, Wait
from .key import LockWork, Slot
from .outage import Outage
from .step import Outbox

__all__ = ["Line", "Locks", "Waits", "rider_of"]


class Line(Protocol):
    """The calls of one Locker that wait for locks."""

    def ask(self, call: LockCall, slots: tuple[Slot, ...]) -> None:
        """A call wants its locks from Consul: it tries now (`Locks.want`), or waits until it may."""

    def overtakes(self, call: LockCall, slot: Slot) -> bool:
        """Whether a hold would overtake another call of this Locker that waits for a key."""

    def wait(self, call: LockCall, slot: Slot, obstacle: Obstacle, error: ConsulLockerError | None = None) -> None:
        """A call could not have a lock, and waits for it. ``error``: why its last attempt failed."""

    def leave(self, call: LockCall) -> None:
        """A call waits no longer."""

    def blocked_at(self, call: LockCall) -> Slot | None:
        """The lock that a call waits for; None while it does not wait."""

    def serve(self, slot: Slot) -> None:
        """Nothing is under way at a key: whoever waits for it and can go on does."""

    def flush(self) -> None:
        """Send what may be sent, at the end of a step."""

    def stop(self) -> tuple[list[LockCall], list[Slot]]:
        """A stop begins: no call waits any more. Returns those that did, and the places that they had in queues."""

    def end_generation(self) -> None:
        """The session is over: watches and timers end. The calls are answered by `Endings`."""


class Locks(Protocol):
    """What a line needs of `Grants`."""

    def lock(self, call: LockCall) -> None:
        """Try once more: perhaps this Locker has the lock by now."""

    def want(
        self,
        call: LockCall,
        slots: tuple[Slot, ...],
        places: tuple[Slot, ...] = (),
        unless: tuple[str, ...] = (),
        granted: Callable[[LockWork], None] | None = None,
    ) -> None:
        """Have the locks of a call asked for. ``places``, ``unless`` and ``granted``: see `LockWork`."""


def rider_of(call: Call) -> Call:
    """The call of a user's that rides over an outage, for a call in a transaction."""
    return call.call if isinstance(call, TakePlaces) else call


class Waits:
    """How long the calls of one Locker wait for a lock.

    Args:
        outbox: of the Locker.
        outage: of the Locker.

    Attributes:
        over: called when the ``wait`` of a call is over; set once.
    """

    __slots__ = ("_out", "_outage", "over")

    def __init__(self, outbox: Outbox, outage: Outage) -> None:
        self._out = outbox
        self._outage = outage
        self.over: Callable[[LockCall], None]

    def may_wait(self, call: LockCall) -> bool:
        """Whether a refused call has time left to wait for another holder (not only for a former session)."""
        if call.wait == 0.0 or call.waiting is None:
            return call.wait != 0.0
        return self._out.now < call.waiting.until

    def begin(self, call: LockCall, obstacle: Obstacle, error: ConsulLockerError | None = None) -> None:
        """A call has to wait. Its ``wait`` counts from the first time that it has to."""
        if call.waiting is None:
            call.waiting = Wait(inf if call.wait is None else self._out.now + call.wait)
            if call.wait is not None:
                self.limit(call, call.waiting.until)
        call.waiting.obstacle = obstacle
        call.waiting.error = error

    def limit(self, call: LockCall, at: float) -> None:
        """Set the moment at which a call waits no longer."""
        self._out.timer(("wait", call), at, partial(self.over, call))

    def end(self, call: LockCall) -> None:
        """A call waits no longer."""
        if call.waiting is not None:
            self._out.cancel(("wait", call))

    def rides(
        self, call: Call, since: float, error: ConsulLockerError | None = None, *, sent: bool = False
    ) -> bool:
        """A call meets an outage: see `Outage.ride`. One that waits for a lock has to wait from now on.

        If it does not, whoever asks answers it: see `refused_by`.
        """
        rider = rider_of(call)
        if isinstance(rider, LockCall):
            if rider.wait != 0.0 and rider.waiting is None:
                self.begin(rider, Obstacle.FAILED)
            if self.refused_by(rider) is not None:
                return False
        return self._outage.ride(rider, since, error, sent=sent)

    def refused_by(self, call: LockCall) -> Obstacle | None:
        """What Consul refused a call for whose ``wait`` is over: then it is refused, outage or not. Else None."""
        waiting = call.waiting
        if waiting is None or waiting.obstacle is Obstacle.FAILED or self._out.now < waiting.until:
            return None
        return waiting.obstacle
