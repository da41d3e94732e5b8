"""The lease of the threaded Locker, for whose end threads can wait; that of asyncio is in `consul_locker.aio`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ..arguments import seconds
from ..lease import BaseLease, no_context_manager
from ..may_wait import INSIDE
from .wakeups import Sleepers

__all__ = ["Lease"]


class Lease(BaseLease):
    """A lease of the threaded Locker. See `BaseLease`."""

    __slots__ = ("_sleepers",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._sleepers = Sleepers()

    def wait_lost(self, timeout: float | None = None) -> str | None:
        """Wait until the lease is over.

        Args:
            timeout: how long to wait, in seconds; None waits as long as it takes.

        Returns:
            The reason it ended, or None when the time was over first.

        Raises:
            ConfigurationError: ``timeout`` cannot be meant.
            RuntimeError: the lease is not over yet, and this is an observer or within a step of this thread.
        """
        limit = seconds("timeout", timeout)
        if self._reason is not None:
            return self._reason
        INSIDE.refuse(INSIDE.observes, "let one of lock_lost hear of it, or another thread wait")
        self._sleepers.wait(lambda: self._reason is not None, limit)
        return self.reason

    if not TYPE_CHECKING:  # pragma: no branch - to a type checker it is no context manager, and its words are enough

        def __enter__(self, *_: object) -> NoReturn:
            raise TypeError(no_context_manager(self, "with"))

        __exit__ = __enter__

    def wake(self) -> None:
        """For the runtime: set everyone going who waits in `wait_lost`."""
        self._sleepers.wake()
