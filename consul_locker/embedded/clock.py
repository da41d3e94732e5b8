"""A clock that moves only when it is told to, for tests that run hours of TTLs in milliseconds."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["ManualClock"]


class ManualClock:
    """A clock that the caller moves, in seconds.

    An agent that is given one uses it for everything: TTLs, lock-delays, the waits of blocking queries.

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
        """Move the clock forward. Returns after everything that became due has happened.

        Args:
            seconds: how far, in seconds; not negative.

        Returns:
            The new time, in seconds.

        Raises:
            ValueError: ``seconds`` is negative.
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
        """Call ``listener`` each time the clock was moved, in the thread of `advance`."""
        with self._mutex:
            self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """Do not call a listener any more."""
        with self._mutex:
            self._listeners.remove(listener)
