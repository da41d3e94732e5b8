"""The lease of the threaded Locker: a thread can wait for its end. That of asyncio is in `consul_locker.aio.lease`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from ..arguments import seconds
from ..lease import BaseLease, no_context_manager
from ..may_wait import THIS_THREAD
from .wakeups import Sleepers

__all__ = ["Lease"]


class Lease(BaseLease):
    """A lease of the threaded Locker. See `BaseLease`."""

    __slots__ = ()

    def wait_lost(self, timeout: float | None = None) -> str | None:
        """Wait until the lease is over.

        Args:
            timeout: how long to wait, in seconds; None: without a limit.

        Returns:
            The reason it ended, or None when the time was over first.

        Raises:
            ConfigurationError: ``timeout`` is no time limit.
            RuntimeError: the lease is not over yet, and this is an observer or within a step of this thread.
        """
        limit = seconds("timeout", timeout)
        if self._reason is not None:
            return self._reason
        THIS_THREAD.refuse_wait(THIS_THREAD.calls_observers, "observe lock_lost instead, or let another thread wait")
        sleepers = Sleepers()  # of this call alone: nobody waits for the end of most leases
        jobs = self._life.jobs.setdefault(self, [])
        jobs.append(sleepers.wake)
        try:
            sleepers.wait(lambda: self._reason is not None, limit)
        finally:
            jobs.remove(sleepers.wake)
            if self._reason is not None:
                self.wake()  # perhaps the jobs came after the core had looked for some
        return self.reason

    if not TYPE_CHECKING:  # pragma: no branch - a type checker reports `with` by itself if there is no such method

        def __enter__(self, *_: object) -> NoReturn:
            raise TypeError(no_context_manager(self, "with"))

        __exit__ = __enter__

    def _when_over(self, job: Callable[[], None]) -> None:
        """For the library: do something once the lease is over, outside every mutex; perhaps more than once."""
        self._life.jobs.setdefault(self, []).append(job)
        if not self.live:  # perhaps before the job was there
            job()
            self.wake()

    def wake(self) -> None:
        """For the runtime: wake all threads that wait in `wait_lost`."""
        for job in tuple(self._life.jobs.pop(self, ())):
            job()
