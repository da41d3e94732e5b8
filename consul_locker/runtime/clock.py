"""The clocks of a factory: the system's, and one that a test moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

__all__ = [
    "Clock",
    "Manual",
    "SystemClock",
]


class Clock(Protocol):
    """A clock, in seconds; it never goes back."""

    def now(self) -> float:
        """The time."""
        ...


class Manual(Clock, Protocol):
    """A clock that a test moves: `consul_locker.embedded.ManualClock`."""

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called after each move."""
        ...

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """No longer."""
        ...


class SystemClock:
    """A clock that goes on while the machine is suspended, where the system has one (rule 3).

    A lease must be over when the machine wakes up after its deadline; CLOCK_MONOTONIC stands still
    meanwhile on Linux.
    """

    def __init__(self) -> None:
        self._id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now(self) -> float:
        """Seconds since the system started."""
        return time.clock_gettime(self._id)
