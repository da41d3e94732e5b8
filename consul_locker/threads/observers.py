"""Delivery of signals to observers: in order, one observer at a time, never on the runtime's time.

For the threads of the runtime an observer is a stranger: it may raise, block, or call back. So signals
are put into a queue in the order in which they happened, and one thread of the factory calls the
observers:

- each receiver is called on its own: one that raises is logged and changes nothing for the others;
- a slow observer delays the signals behind it, never an operation or a renewal;
- a call's own signals have been delivered when it returns, unless that takes longer than `PATIENCE`.

A handler of the log is such a stranger too: lines for the log are written by this thread, in order with the signals,
but no call waits for them.

The asyncio face has its own delivery on its loop, with the same rules.
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

from ..may_wait import INSIDE
from ..runtime.delivery import PATIENCE, failed, receivers

__all__ = [
    "Delivery",
    "write",
]


_LOGGER = logging.getLogger("consul_locker")


def write(job: Callable[..., object], *args: Any, **more: Any) -> None:
    """Write to the log, on a thread of ours: what a handler raises, SystemExit say, must not end it.

    Args:
        job: writes, given the rest.
    """
    try:
        job(*args, **more)
    except BaseException:
        with suppress(BaseException):  # as `logging` does with a handler's error
            traceback.print_exc()


class Delivery:
    """The thread that calls the observers of a factory's Lockers. It starts with the first thing to do."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._guard = threading.RLock()  # a finalizer may come in between, and settle something
        self._closed = False

    def put(self, job: Callable[[], None]) -> None:
        """Add something to do, after all that was put before. Never waits, so it may be under a mutex.

        `wake` has to follow, outside the mutex.
        """
        self._queue.put(job)

    def log(self, level: int, text: str, error: BaseException | None = None) -> None:
        """Have a line written to the log, after all that was put before. As `put`; `wake` has to follow.

        Args:
            level: of `logging`.
            text: the line.
            error: whose traceback follows.
        """
        self.put(partial(write, _LOGGER.log, level, "%s", text, exc_info=error))

    def settle(self, job: Callable[[], None]) -> None:
        """Have something done after all that was put before; without a thread, here and now. Not under a mutex."""
        with self._guard:
            if not self._closed and self._start():
                self._queue.put(job)
                return
        self._do(job)

    def wake(self) -> None:
        """See to it that a thread is at work, if there is anything to do. Not under a mutex."""
        if self._thread is None and not self._queue.empty():
            with self._guard:
                self._start()

    def _start(self) -> bool:
        if self._thread is None:
            # Known before it runs: `here` has to be true for its first job.
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is going down; Python 3.12 starts no thread then
                _LOGGER.debug("nobody hears the last signals", exc_info=True)
                self._thread = None
        return self._thread is not None

    @property
    def here(self) -> bool:
        """Whether this thread is the one that calls observers."""
        return self._thread is threading.current_thread()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was put so far is done.

        Args:
            timeout: at most so long, in seconds; None: `PATIENCE`.

        Returns:
            False when that took too long.
        """
        done = threading.Event()
        self.settle(done.set)
        return done.wait(PATIENCE if timeout is None else timeout)

    def close(self, timeout: float) -> None:
        """End the thread, after all that was put so far, or leave it behind when that takes too long."""
        with self._guard:
            self._closed = True
            self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        INSIDE.observes = True
        try:
            while (job := self._queue.get()) is not None:
                self._do(job)
        except BaseException:
            # No job can do that. Whatever it was: futures wait for what is in the queue, so another thread goes on.
            with self._guard:
                self._thread = None
                self._start()
            raise

    @staticmethod
    def _do(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException:  # a listener of the Fsm; observers and callbacks of futures are caught one by one
            write(_LOGGER.exception, "a callback failed")

    @staticmethod
    def tell(signal: str, sender: Any, facts: dict[str, Any]) -> None:
        """Call the observers of a signal, each on its own."""
        for receiver in receivers(signal, sender):
            try:
                result = receiver(sender, **facts)
                if inspect.iscoroutine(result):
                    result.close()  # it was never begun
                    raise TypeError("a coroutine function cannot observe a threaded Locker; use consul_locker.aio")
            except BaseException:  # SystemExit and its like would end the thread, and with it all delivery
                write(failed, signal, receiver)
