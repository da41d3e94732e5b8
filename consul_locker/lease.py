"""The lease of the threaded Locker, for whose end threads can wait; that of asyncio is in `consul_locker.aio`."""

from __future__ import annotations

import threading
from concurrent.futures import Future, TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any, NoReturn

from .types import BaseLease, no_context_manager, seconds

__all__ = ["Lease", "observing"]

#: Has ``here`` in the threads that call observers, where nothing may wait (`consul_locker.delivery`).
observing = threading.local()


class Lease(BaseLease):
    """A lease of the threaded Locker. See `BaseLease`."""

    __slots__ = ("_guard", "_waiters")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._guard = threading.RLock()  # a signal handler or a finalizer of this thread may end the lease in between
        self._waiters: list[Future[str]] = []

    def wait_lost(self, timeout: float | None = None) -> str | None:
        """Wait until the lease is over.

        Args:
            timeout: how long to wait, in seconds; None waits as long as it takes.

        Returns:
            The reason it ended, or None when the time was over first.
        """
        limit = seconds("timeout", timeout)
        if self._reason is not None:
            return self._reason
        if hasattr(observing, "here"):
            raise RuntimeError("this call would wait inside an observer of a signal; let one of lock_lost hear of it")
        waiter: Future[str] = Future()
        with self._guard:
            self._waiters.append(waiter)
        try:
            if self._reason is not None:  # it may have ended before the waiter was there to be told
                return self._reason
            return waiter.result(limit)
        except FutureTimeout:
            return self.reason
        finally:
            with self._guard:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    if not TYPE_CHECKING:  # pragma: no branch - to a type checker it is no context manager, and its words are enough

        def __enter__(self, *_: object) -> NoReturn:
            raise TypeError(no_context_manager(self, "with"))

        __exit__ = __enter__

    def wake(self) -> None:
        """For the runtime: set everyone going who waits in `wait_lost`."""
        with self._guard:
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.set_result(self._reason or "over")
