"""How many connections a factory may have: as many as its options say, or fewer while Consul refuses more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .http import Wire

__all__ = ["Allowance"]

#: A connection closed without a byte of an answer so soon after its first request was refused, in seconds. Consul does
#: it at once when a client address has more than ``http_max_conns_per_client`` (measured); later it is another fault.
REFUSED_WITHIN = 1.0
#: One such connection may be any fault; so many, with no other new one answered in between, mean that there are too
#: many. The next renewal of a Locker comes 0.5 s after one that failed, so this is known early in its TTL.
REFUSALS = 2
#: How long fewer are used then, in seconds: at first, and at most. It doubles each time that connections are refused
#: soon after it was over: a fault that looks like a limit is over soon, and each look for a limit fails two requests.
LOWERED_FOR, LOWERED_FOR_MAX = 30.0, 480.0


class Allowance:
    """What the transports of one factory learn from each other about refused connections. For any thread.

    Args:
        limit: how many connections the factory may have at most, of all transports.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._guard = threading.RLock()  # a signal handler may come in between
        # Read without the mutex: each is one value, and a reader of an old one does what was right a moment before.
        self._lowered = limit
        self._until = float("-inf")
        self._lasts = LOWERED_FOR
        self._refusals = 0
        self._counts: list[Callable[[], int]] = []
        self._listeners: list[Callable[[], object]] = []

    def share(self, opened: Callable[[], int]) -> None:
        """A transport has a part of it; ``opened`` tells, in any thread, how many connections it has."""
        self._counts.append(opened)

    def on_lowered(self, listener: Callable[[], object]) -> None:
        """Have ``listener`` called, in any thread, when the allowance was lowered."""
        self._listeners.append(listener)

    @property
    def lowered(self) -> bool:
        """Whether Consul refuses connections now."""
        return self._until > time.monotonic()

    def part(self, whole: int, least: int) -> int:
        """How many connections a transport may have now.

        Args:
            whole: its part as long as Consul refuses none.
            least: what it cannot do without.
        """
        if self._until <= time.monotonic():
            return whole
        return max(least, whole * self._lowered // self._limit)

    def begun(self, new: bool) -> float | None:
        """A request begins; what this returns is for `failed` or `answered`: when, on a connection that is new."""
        return time.monotonic() if new else None

    def answered(self, begun: float | None) -> None:
        """A request was answered. On a new connection: so Consul accepts more."""
        if begun is not None:
            self._refusals = 0

    def failed(self, begun: float | None, error: Exception, wire: Wire) -> None:
        """A request was not answered. Looks like a refused connection: then the allowance may be lowered.

        Args:
            begun: what `begun` has returned.
            error: how it failed.
            wire: its connection's.
        """
        if begun is None or wire.started or isinstance(error, TimeoutError):
            return
        if time.monotonic() - begun <= REFUSED_WITHIN:
            self.refused()

    def refused(self, counted: int = 1) -> None:
        """A new connection was closed at once, without a byte of an answer.

        Args:
            counted: 1 when it is among those that its transport counts, else 0.
        """
        with self._guard:
            others = sum(count() for count in self._counts) - counted
            if others < 1:
                return  # no server is there, or none accepts us: fewer connections would not help
            self._refusals += 1
            if self._refusals < REFUSALS:
                return
            now = time.monotonic()
            if now >= self._until:
                again = now < self._until + LOWERED_FOR_MAX
                self._lasts = min(2 * self._lasts, LOWERED_FOR_MAX) if again else LOWERED_FOR
                self._lowered = self._limit
            # Some of the others may be about to be refused, too. Then this is done again, with those that are left.
            self._lowered = min(others, self._lowered)
            self._until = now + self._lasts
        for listener in self._listeners:
            listener()
