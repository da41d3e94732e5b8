"""Looks up the addresses of a host, within a limit. Shared by both transports."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

__all__ = ["Resolver", "remaining"]


def remaining(deadline: float) -> float:
    """Seconds until the deadline, more than 0.

    Raises:
        TimeoutError: it has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for the request is over")
    return left


class Resolver:
    """Looks up the host's addresses. Shared by the connections of a transport, on threads and on an event loop.

    ``getaddrinfo`` cannot be given a limit, so names are looked up on a thread that lives for one
    look-up; a slow one is shared by all requests that need it, so there is never more than one such thread. It is
    a daemon: an executor's threads, asyncio's too, are waited for when the interpreter exits. IP
    addresses need none.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self._port = port
        self._guard = threading.Lock()
        self._running: Future[list[Any]] | None = None
        self._last: list[Any] = []  # what was found last
        try:
            ipaddress.ip_address(host)
            self._numeric = True
        except ValueError:
            self._numeric = False

    def addresses(self, deadline: float) -> list[Any]:
        """What ``socket.getaddrinfo`` answers.

        Raises:
            OSError: the name cannot be resolved, or not in time.
        """
        left = remaining(deadline)
        try:
            return self.look_up().result(left)
        except FutureTimeout:
            raise self.late() from None

    def look_up(self) -> Future[list[Any]]:
        """Begin what `addresses` waits for, or join it; never waits itself.

        The future has an OSError when the name cannot be resolved. All requests share it, so it cannot be cancelled.
        """
        if self._numeric:
            lookup: Future[list[Any]] = Future()
            self._look_up(lookup, socket.AI_NUMERICHOST)
            return lookup
        with self._guard:
            if self._running is None:
                lookup = Future()
                lookup.set_running_or_notify_cancel()
                thread = threading.Thread(target=self._look_up, args=(lookup, 0), name="consul_locker-dns", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # there are too many; or, on Python 3.12, the interpreter is going down
                    if self._last:  # sessions are destroyed at exit, over new connections
                        lookup.set_result(self._last)
                    else:
                        lookup.set_exception(OSError(f"the name {self.host} cannot be looked up: {error}"))
                    return lookup
                self._running = lookup
            return self._running

    def late(self) -> TimeoutError:
        """The error of a look-up that takes too long."""
        return TimeoutError(f"the name {self.host} was not resolved in time")

    def _look_up(self, lookup: Future[list[Any]], flags: int) -> None:
        outcome: Any
        try:
            outcome = socket.getaddrinfo(self.host, self._port, type=socket.SOCK_STREAM, flags=flags)
        except Exception as error:  # whatever it is: those that wait must be told, or they wait for ever
            outcome = error
        with self._guard:
            self._running = None  # before it is told: a request that comes now begins a new look-up
        if isinstance(outcome, Exception):
            lookup.set_exception(outcome)
        else:
            self._last = outcome
            lookup.set_result(outcome)
