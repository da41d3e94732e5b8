"""Delivery of signals to observers on an event loop: in order, one observer at a time, in a task of its own.

The rules are those of `consul_locker.threads.observers`. An observer may be a coroutine function: it is awaited before
the next observer is called. A plain function blocks the loop while it runs, so it should be short. Nothing waits for a
task that an observer starts, even if the observer returns it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ..runtime.delivery import DELIVERY_LIMIT, log_failure, receivers

__all__ = ["ObserverTask", "refuse_wait"]

_LOGGER = logging.getLogger("consul_locker")

#: These end a program, or a task whose loop was closed; they are no failure of the observer that raises them.
_ENDS = (GeneratorExit, KeyboardInterrupt, SystemExit)

#: The tasks that call observers. A task that an observer starts is not among them.
_OBSERVING: weakref.WeakSet[asyncio.Task[None]] = weakref.WeakSet()


class _Call:
    """A call of an observer.

    Attributes:
        delivery: calls it.
        over: whether the observer has returned.
    """

    __slots__ = ("delivery", "over")

    def __init__(self, delivery: ObserverTask) -> None:
        self.delivery = delivery
        self.over = False


#: The call of an observer in which this code runs; also in a task that the observer started.
_WITHIN: ContextVar[_Call | None] = ContextVar("consul_locker_observer", default=None)


def refuse_wait() -> None:
    """Refuse a call that would wait in a task that calls observers: it might wait for itself.

    Raises:
        RuntimeError: the running task is such a task.
    """
    if asyncio.current_task() in _OBSERVING:
        raise RuntimeError("this call would wait inside an observer of a signal; start a task for it there")


class ObserverTask:
    """The task that calls the observers of a factory's Lockers. It exists while there is something to do."""

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], object]] = deque()
        self._put = 0  # how many jobs were put so far: the number of the last one
        self._done = 0  # how many of them are done
        self._flushing: set[tuple[int, asyncio.Future[None]]] = set()
        self._task: asyncio.Task[None] | None = None

    def put(self, job: Callable[[], object]) -> int:
        """Add a job, to be done after all that were put before; if it returns an awaitable, that is awaited.

        Returns:
            The number of the job, for `flush`.
        """
        self._jobs.append(job)
        self._put += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="consul_locker-signals")
            _OBSERVING.add(self._task)
        return self._put

    async def flush(self, number: int) -> None:
        """Wait until the jobs up to that number are done, but no longer than `DELIVERY_LIMIT`.

        A task that an observer started does not wait while the observer runs: the observer may be waiting for the task
        (``asyncio.wait_for`` starts one before Python 3.12), and all later jobs wait for the observer.
        """
        within = _WITHIN.get()
        if within is not None and within.delivery is self and not within.over:
            return
        if self._done < number:
            entry = number, asyncio.get_running_loop().create_future()
            self._flushing.add(entry)
            try:
                await asyncio.wait({entry[1]}, timeout=DELIVERY_LIMIT)
            finally:
                self._flushing.discard(entry)

    async def close(self) -> None:
        """End the task. What it has not done after `DELIVERY_LIMIT` is dropped."""
        await self.flush(self._put)
        if self._task is not None:
            self._jobs.clear()
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=DELIVERY_LIMIT)  # an observer can ignore its cancellation

    async def _run(self) -> None:
        """Work until nothing is left; the next job starts a new task."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(0)  # an eager task begins within `put`, where no user's code may be called
            while self._jobs:
                await self._do(self._jobs.popleft())
                self._done += 1
                self._wake()
        finally:
            # Cancelled, with the loop or by `close`: the present job counts as done, the rest is for the next task.
            self._task = None
            self._done = self._put - len(self._jobs)
            if not loop.is_closed():  # else no task of it waits any more
                self._wake()

    def _wake(self) -> None:
        for number, waiter in self._flushing:
            if number <= self._done and not waiter.done():
                waiter.set_result(None)

    @staticmethod
    async def _do(job: Callable[[], object]) -> None:
        try:
            result = job()
            if inspect.isawaitable(result):
                await result
        except (asyncio.CancelledError, *_ENDS):
            raise
        except BaseException:  # a listener of the Fsm raised it; the errors of observers are caught in `call`
            _LOGGER.exception("a callback failed")

    async def call(self, signal: str, sender: Any, facts: dict[str, Any]) -> None:
        """Call the observers of a signal, each on its own: a job for `put`."""
        for receiver in receivers(signal, sender):
            call = _Call(self)
            _WITHIN.set(call)
            try:
                result = receiver(sender, **facts)
                if inspect.isawaitable(result) and not asyncio.isfuture(result):
                    await result  # a task or another future that it started goes on by itself
            except asyncio.CancelledError:
                # Was this task cancelled, or something that the observer waited for? Python 3.10 cannot tell.
                if getattr(asyncio.current_task(), "cancelling", lambda: 1)():
                    raise
                log_failure(signal, receiver)
            except _ENDS:
                raise
            except BaseException:
                log_failure(signal, receiver)
            finally:
                call.over = True
