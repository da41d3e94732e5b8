"""A clock that moves only when it is told to, for tests that run hours of TTLs in milliseconds."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["ManualClock"]


class ManualClock:
    """A clock of the caller's own, in seconds.

    Agents that are given one take it for everything: TTLs, lock-delays, the waits of blocking queries.

    Args:
        start: the time to begin at, in seconds.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._mutex = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> float:
        """The present time, in seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Move on, and return the new time once everything that became due has happened.

        Args:
            seconds: how far, in seconds; not negative.

        Raises:
            ValueError: for a negative number.
        """
        if seconds < 0:
            raise ValueError(f"a clock cannot go back: advance({seconds!r})")
        with self._mutex:
            self._now += seconds
            now, listeners = self._now, list(self._listeners)
        for listener in listeners:
            listener()
        return now

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called, in the thread of `advance`, each time the clock was moved."""
        with self._mutex:
            self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """Take a listener back."""
        with self._mutex:
            self._listeners.remove(listener)
