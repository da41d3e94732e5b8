"""Waiting for a state of a Locker, on threads; on asyncio that is in `consul_locker.aio.runtime`."""

from __future__ import annotations

from collections.abc import Callable

from .wakeups import Sleepers

__all__ = ["StateWaits"]


class _Wish:
    """A state that somebody waits for."""

    __slots__ = ("reached", "state")

    def __init__(self, state: str) -> None:
        self.state = state
        self.reached = False


class StateWaits:
    """Those who wait for states of one Locker."""

    def __init__(self) -> None:
        self._wishes: set[_Wish] = set()
        self._sleepers = Sleepers()  # those whose wishes they are
        self._ended = False  # no state will change any more

    def wait(self, state: str, present: Callable[[], str], limit: float | None) -> bool | None:
        """Wait for a state, be it there for a moment.

        Args:
            state: which.
            present: tells the present one.
            limit: how long to wait, in seconds; None waits as long as it takes.

        Returns:
            True; False when no state will come any more; None when the time was over first.
        """
        wish = _Wish(state)
        self._wishes.add(wish)
        try:
            self._sleepers.wait(lambda: wish.reached or self._ended or present() == state, limit)
        finally:
            self._wishes.discard(wish)
        if wish.reached or present() == state:
            return True
        return False if self._ended else None

    def reached(self, state: str) -> None:
        """The Locker came to a state."""
        for wish in self._wishes.copy():
            if wish.state == state:
                wish.reached = True
        self._sleepers.wake()

    def end(self) -> None:
        """Set everybody going: no state will come any more."""
        self._ended = True
        self._sleepers.wake()
