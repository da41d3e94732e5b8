"""The lease of the asyncio face, whose end can be awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from ..arguments import seconds
from ..lease import BaseLease, SessionLife, no_context_manager
from .observers import refuse_wait

__all__ = [
    "Lease",
]


class Lease(BaseLease):
    """A lease of the asyncio Locker. See `BaseLease`."""

    __slots__ = ()

    def __init__(self, id: str, life: SessionLife, fence: int, now: float, exclusive: bool) -> None:
        super().__init__(id, life, fence, now, exclusive)
        life.loop = asyncio.get_running_loop()

    async def wait_lost(self, timeout: float | None = None) -> str | None:
        """Wait until the lease is over.

        Args:
            timeout: how long to wait, in seconds; None: without a limit.

        Returns:
            The reason it ended, or None when the time was over first.

        Raises:
            ConfigurationError: ``timeout`` is not valid.
            RuntimeError: the lease is not over yet, and the call is in an observer or on another event loop.
        """
        limit = seconds("timeout", timeout)
        if self.live:
            if asyncio.get_running_loop() is not self._life.loop:
                raise RuntimeError("a lease belongs to the event loop of its Locker; wait for its end there")
            refuse_wait()
            waiter = self._when_over()
            try:
                await asyncio.wait({waiter}, timeout=limit)
            finally:
                self._forget(waiter)
        return self.reason

    def _when_over(self) -> asyncio.Future[None]:
        """For the library, on the lease's loop: a future that is done once the lease is over; then `_forget` it."""
        waiter: asyncio.Future[None] = self._life.loop.create_future()
        if self.live:
            self._life.jobs.setdefault(self, []).append(waiter)
        else:
            waiter.set_result(None)
        return waiter

    def _forget(self, waiter: asyncio.Future[None]) -> None:
        """A future of `_when_over` is of no use any more."""
        jobs = self._life.jobs
        waiters = [other for other in jobs.pop(self, ()) if other is not waiter]
        if waiters:
            jobs[self] = waiters

    if not TYPE_CHECKING:  # pragma: no branch - a type checker reports `with` by itself if there is no such method

        async def __aenter__(self, *_: object) -> NoReturn:
            raise TypeError(no_context_manager(self, "async with"))

        __aexit__ = __aenter__

    def wake(self) -> None:
        """For the runtime: wake all tasks that wait in `wait_lost`."""
        for waiter in self._life.jobs.pop(self, ()):
            waiter.set_result(None)
