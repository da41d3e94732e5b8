"""What ``hold(…, cancel_on_loss=True)`` does on asyncio: it cancels the body when a lease is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from .lease import Lease

__all__ = ["CancelOnLoss"]

#: Whether a task counts who has cancelled it: Python 3.11 and later.
COUNTED = hasattr(asyncio.Task, "uncancel")


class CancelOnLoss:
    """Cancels the task that made this, once, when one of the leases is over before `end`.

    The cancellation comes in a later round of the loop, when the task waits in the body; never while the task runs. So
    a body that is left before that is not cancelled any more, and one that is cancelled gets it there and nowhere else.
    """

    def __init__(self, leases: Iterable[Lease]) -> None:
        task = asyncio.current_task()
        assert task is not None, "the call for the lock was awaited"
        self._task = task
        # Before Python 3.11 what cancels a task can only be told by the message, which no other has.
        self._message = object()
        self._before: int = getattr(task, "cancelling", int)()
        self._over = False
        self._has_cancelled = False
        self._waiters = [(lease, lease._when_over()) for lease in leases]
        for _, waiter in self._waiters:
            waiter.add_done_callback(self._lost)

    def _lost(self, _: object) -> None:
        if not self._over and not self._has_cancelled:
            self._has_cancelled = self._task.cancel(self._message)

    def end(self, error: BaseException | None) -> bool:
        """The body is over.

        Args:
            error: with what it ended, if any.

        Returns:
            Whether the error is the cancellation that was made here, and nobody else has cancelled the task.
        """
        self._over = True
        for lease, waiter in self._waiters:
            lease._forget(waiter)
        if not self._has_cancelled:
            return False
        if COUNTED:
            alone: bool = self._task.uncancel() <= self._before  # type: ignore[attr-defined] # Python 3.11
        else:
            alone = error is not None and error.args[:1] == (self._message,)
        return alone and isinstance(error, asyncio.CancelledError)
