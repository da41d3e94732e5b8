"""The clocks that a factory can have: the system's, or one that a test moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
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
        """Call ``listener`` after each move."""
        ...

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """Do not call ``listener`` any more."""
        ...


class SystemClock:
    """A clock that goes on while the machine is suspended, if the system has one (rule 3).

    A lease must be over if its deadline passes while the machine is suspended. On Linux CLOCK_MONOTONIC stops
    meanwhile, CLOCK_BOOTTIME does not.
    """

    def __init__(self) -> None:
        # No method of the class: every call for a lock asks for the time, and a function of Python's doubles the cost.
        #: Seconds since the system started.
        self.now: Callable[[], float] = partial(
            time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        )
