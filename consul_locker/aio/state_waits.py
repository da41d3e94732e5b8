"""Waiting for a state of a Locker, on an event loop; for threads that is in `consul_locker.threads.state_waits`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["StateWaits"]


class StateWaits:
    """The tasks that wait for states of one Locker.

    Attributes:
        then: called after each change of the state.
    """

    __slots__ = ("_waiters", "then")

    def __init__(self) -> None:
        self.then: Callable[[], object] = bool
        self._waiters: list[tuple[str, asyncio.Future[bool]]] = []  # True: it is reached; False: it never will be

    async def wait(self, state: str, limit: float | None) -> bool | None:
        """Wait for a state that the Locker is not in, even if it is there only for a moment.

        Args:
            state: which.
            limit: how long to wait, in seconds; None: without a limit.

        Returns:
            True; False when the Locker will not change its state any more; None when the time was over first.
        """
        entry = state, asyncio.get_running_loop().create_future()
        self._waiters.append(entry)
        try:
            done, _ = await asyncio.wait({entry[1]}, timeout=limit)
        finally:
            self._waiters.remove(entry)
        return entry[1].result() if done else None

    def reached(self, state: str) -> None:
        """The Locker came to a state."""
        self._wake(state)
        self.then()

    def end(self) -> None:
        """Wake all that wait: the Locker will not change its state any more."""
        self._wake(None)

    def _wake(self, state: str | None) -> None:
        """Wake the tasks that wait for a state; None: all of them, in vain."""
        for wanted, waiting in self._waiters:
            if state in (wanted, None) and not waiting.done():
                waiting.set_result(state is not None)
