"""Delivery of signals to observers: in order, one observer at a time, in a thread of its own.

An observer is the user's code: it may raise, block, or call the Locker. So signals are put into a queue in the order
in which they happened, and one thread of the factory calls the observers:

- each observer is called on its own: if one raises, that is logged, and the others are called all the same;
- a slow observer delays the signals behind it, but never an operation or a renewal;
- when a call returns, its own signals have been delivered, unless that takes longer than `DELIVERY_LIMIT`.

A log handler is the user's code, too: the thread writes the lines of the log, in order with the signals, but no call
waits for them.

The asyncio face delivers signals on its event loop, by the same rules (`consul_locker.aio.observers`).
"""

from __future__ import annotations

import inspect
import logging
import queue
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from ..may_wait import THIS_THREAD
from ..runtime.delivery import DELIVERY_LIMIT, log_failure, receivers

__all__ = [
    "ObserverThread",
    "write",
]


_LOGGER = logging.getLogger("consul_locker")


def write(job: Callable[..., object], *args: Any, **more: Any) -> None:
    """Write to the log on a thread of ours: what a log handler raises, SystemExit say, must not end the thread.

    Args:
        job: writes; it is called with the other arguments.
    """
    try:
        job(*args, **more)
    except BaseException:
        with suppress(BaseException):  # as `logging` does with a handler's error
            traceback.print_exc()


class ObserverThread:
    """The thread that calls the observers of a factory's Lockers. It starts with its first job."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._guard = threading.RLock()  # a finalizer may run in the same thread, and call `settle`
        self._closed = False

    def put(self, job: Callable[[], None]) -> None:
        """Add a job, to be done after all that were put before. Never waits, so it may be called under a mutex.

        `wake` must follow, outside the mutex.
        """
        self._queue.put(job)

    def log(self, level: int, text: str, error: BaseException | None = None) -> None:
        """Add a line for the log, as `put` adds a job; `wake` must follow.

        Args:
            level: of `logging`.
            text: the line.
            error: its traceback follows the line; None for none.
        """
        self.put(partial(write, _LOGGER.log, level, "%s", text, exc_info=error))

    def report(self, text: str, error: BaseException | None, level: int = logging.ERROR) -> None:
        """Something went wrong, mostly on the I/O thread. This thread writes it into the log."""
        self.log(level, text, error)
        self.wake()

    def settle(self, job: Callable[[], None]) -> None:
        """Add a job as `put` does; if there can be no thread, do it here and now. Not under a mutex."""
        with self._guard:
            if not self._closed and self._start():
                self._queue.put(job)
                return
        self._do(job)

    def wake(self) -> None:
        """Start the thread, if there is something to do and it does not run. Not under a mutex."""
        if self._thread is None and not self._queue.empty():
            with self._guard:
                self._start()

    def _start(self) -> bool:
        if self._thread is None:
            # Set before the thread runs: `here` must be true for its first job.
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter ends; Python 3.12 starts no thread then
                _LOGGER.debug("the last signals are not delivered: the interpreter ends", exc_info=True)
                self._thread = None
        return self._thread is not None

    @property
    def here(self) -> bool:
        """Whether this thread is the one that calls observers."""
        return self._thread is not None and self._thread is threading.current_thread()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was put so far is done.

        Args:
            timeout: how long to wait, in seconds; None: `DELIVERY_LIMIT`.

        Returns:
            False when the time was over first.
        """
        done = threading.Event()
        self.settle(done.set)
        return done.wait(DELIVERY_LIMIT if timeout is None else timeout)

    def close(self, timeout: float) -> None:
        """End the thread after all that was put so far; wait for that, but no longer than ``timeout`` seconds."""
        with self._guard:
            self._closed = True
            self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        THIS_THREAD.calls_observers = True
        try:
            while (job := self._queue.get()) is not None:
                self._do(job)
                del job  # it knows the Locker, and the next one may come late
        except BaseException:
            # No job raises here, but futures wait for what is in the queue. So another thread goes on, whatever it was.
            with self._guard:
                self._thread = None
                self._start()
            raise

    @staticmethod
    def _do(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException:  # a listener of the Fsm raised it; errors of observers are caught in `tell`
            write(_LOGGER.exception, "a callback failed")

    @staticmethod
    def tell(signal: str, sender: Any, facts: dict[str, Any]) -> None:
        """Call the observers of a signal, each on its own."""
        for receiver in receivers(signal, sender):
            try:
                result = receiver(sender, **facts)
                if inspect.iscoroutine(result):
                    result.close()  # it has not begun
                    raise TypeError("a coroutine function cannot observe a threaded Locker; use consul_locker.aio")
            except BaseException:  # SystemExit and the like would end the thread, and so all delivery
                write(log_failure, signal, receiver)
