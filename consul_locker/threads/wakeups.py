"""Waiting on threads so that no wake-up is missed.

A condition, or a future, wakes only threads that sleep already. But a signal handler, or a finalizer, can run in the
waiting thread itself, between its last check and its sleep, and make true what the thread waits for. So each sleeper
has a lock, which it acquires to sleep: if the lock is released before the sleep, the sleep ends at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Sleepers"]


class Sleepers:
    """The threads that wait for one condition."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: set[threading.Lock] = set()  # each held by its sleeper; no mutex, as a handler may run here

    def wait(self, over: Callable[[], bool], limit: float | None) -> bool:
        """Sleep until a condition is true. It is checked first, and after each `wake`.

        Args:
            over: the condition.
            limit: how long to wait, in seconds; None: without a limit.

        Returns:
            Whether it is true. False: the time was over first.
        """
        end = None if limit is None else time.monotonic() + limit
        lock = threading.Lock()
        lock.acquire()
        self._locks.add(lock)
        try:
            while not over():
                left = -1.0 if end is None else min(max(0.0, end - time.monotonic()), threading.TIMEOUT_MAX)
                if not lock.acquire(timeout=left):
                    return over()
            return True
        finally:
            self._locks.discard(lock)

    def wake(self) -> None:
        """Let all of them check their condition; more than once does no harm."""
        for lock in self._locks.copy():
            try:
                lock.release()
            except RuntimeError:  # it is awake already
                pass

    def __len__(self) -> int:
        return len(self._locks)
