"""The lease of the threaded Locker, for whose end threads can wait; that of asyncio is in `consul_locker.aio`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NoReturn

from .inside import INSIDE
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
        self._waiters: set[threading.Lock] = set()  # each is held by who sleeps on it, until `wake` releases it

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
        if hasattr(observing, "here"):
            raise RuntimeError("this call would wait inside an observer of a signal; let one of lock_lost hear of it")
        if INSIDE.stepping or INSIDE.serves:
            raise RuntimeError(
                "this call would wait for the call of this thread that it came in between, from a signal handler, an "
                "object's finalizer, or a strategy; let another thread do it"
            )
        # A lock, since it remembers a release that comes before the sleep: a signal handler of this very thread may end
        # the lease right before, and what only notifies those who sleep already (a Future) would be missed.
        waiter = threading.Lock()
        waiter.acquire()
        with self._guard:
            self._waiters.add(waiter)
        try:
            if self._reason is None:  # else it ended before the waiter was there to be told
                waiter.acquire(timeout=-1 if limit is None else min(limit, threading.TIMEOUT_MAX))
            return self.reason
        finally:
            with self._guard:
                self._waiters.discard(waiter)

    if not TYPE_CHECKING:  # pragma: no branch - to a type checker it is no context manager, and its words are enough

        def __enter__(self, *_: object) -> NoReturn:
            raise TypeError(no_context_manager(self, "with"))

        __exit__ = __enter__

    def wake(self) -> None:
        """For the runtime: set everyone going who waits in `wait_lost`."""
        with self._guard:
            waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.release()
