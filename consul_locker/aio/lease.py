"""The lease of the asyncio face, whose end can be awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from ..arguments import seconds
from ..lease import BaseLease, no_context_manager
from .observers import refuse_wait

__all__ = [
    "Lease",
]


class Lease(BaseLease):
    """A lease of the asyncio Locker. See `BaseLease`."""

    __slots__ = ("_loop", "_waiters")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._loop = asyncio.get_running_loop()
        self._waiters: list[asyncio.Future[None]] | None = None  # nobody waits for the end of most leases

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
            if asyncio.get_running_loop() is not self._loop:
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
        waiter = self._loop.create_future()
        if self.live:
            self._waiters = [*(self._waiters or ()), waiter]
        else:
            waiter.set_result(None)
        return waiter

    def _forget(self, waiter: asyncio.Future[None]) -> None:
        """A future of `_when_over` is of no use any more."""
        self._waiters = [other for other in self._waiters or () if other is not waiter] or None

    if not TYPE_CHECKING:  # pragma: no branch - a type checker reports `with` by itself if there is no such method

        async def __aenter__(self, *_: object) -> NoReturn:
            raise TypeError(no_context_manager(self, "async with"))

        __aexit__ = __aenter__

    @property
    def awaited(self) -> bool:
        """For the core: whether somebody waits for the end of the lease."""
        return self._waiters is not None

    def wake(self) -> None:
        """For the runtime: wake all tasks that wait in `wait_lost`."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            waiter.set_result(None)
