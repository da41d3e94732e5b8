"""Waiting for something on threads, so that no wake-up is missed.

A condition, or a future, wakes those who sleep already. But a signal handler, or a finalizer, can bring about what a
thread waits for in that very thread, between its last look and its sleep. So each sleeper has a lock that it holds:
released before the sleep, the sleep is over at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Sleepers"]


class Sleepers:
    """Those who wait for one thing."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: set[threading.Lock] = set()  # each is held by its sleeper; no mutex: a handler may come in between

    def wait(self, over: Callable[[], bool], limit: float | None) -> bool:
        """Sleep until something is so; it is looked at first, and after each `wake`.

        Args:
            over: whether it is so.
            limit: how long to wait, in seconds; None waits as long as it takes.

        Returns:
            Whether it is so. False: the time was over first.
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
        """Let all of them look again; more than once does no harm."""
        for lock in self._locks.copy():
            try:
                lock.release()
            except RuntimeError:  # it is awake already
                pass

    def __len__(self) -> int:
        return len(self._locks)
