"""Waiting for a state of a Locker, on threads; for asyncio that is in `consul_locker.aio.state_waits`."""

from __future__ import annotations

from collections.abc import Callable

from .wakeups import Sleepers

__all__ = ["StateWaits"]


class _Wish:
    """A state that a thread waits for."""

    __slots__ = ("reached", "state")

    def __init__(self, state: str) -> None:
        self.state = state
        self.reached = False


class StateWaits:
    """The threads that wait for states of one Locker.

    Attributes:
        then: called after each change of the state.
    """

    def __init__(self) -> None:
        self.then: Callable[[], object] = bool
        self._wishes: set[_Wish] = set()
        self._sleepers = Sleepers()  # the threads that have these wishes
        self._ended = False  # the state will not change any more

    def wait(self, state: str, present: Callable[[], str], limit: float | None) -> bool | None:
        """Wait for a state, even if the Locker is in it only for a moment.

        Args:
            state: which.
            present: tells the present one.
            limit: how long to wait, in seconds; None: without a limit.

        Returns:
            True; False when the Locker will not change its state any more; None when the time was over first.
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
        self.then()

    def end(self) -> None:
        """Wake all that wait: the Locker will not change its state any more."""
        self._ended = True
        self._sleepers.wake()
