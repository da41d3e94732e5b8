"""Sends HTTP requests to Consul from threads that wait for the answer.

Connections are kept alive in a pool; the deadline of a request covers everything, from waiting for a
connection to the last byte of the answer. No proxies, no redirects, no cookies.
"""

from __future__ import annotations

import os
import threading
import time

from ..config import ClientOptions
from ..errors import ConsulUnavailable
from .connection import Connection, Resolver
from .requests import HttpRequest, HttpResponse
from .wire import WireError, repeatable, tls_context, unavailable

__all__ = ["BlockingTransport"]


class BlockingTransport:
    """Connections to one Consul agent, for threads. Opens none before the first request.

    Args:
        options: where to, and how.
        limit: how many connections at once, in place of ``options.max_connections``.

    Raises:
        ConfigurationError: the certificates of the options cannot be used.
    """

    def __init__(self, options: ClientOptions, limit: int | None = None) -> None:
        self._options = options
        self._context = tls_context(options)
        self._resolver = Resolver(options.host, options.port)
        self._pid = os.getpid()
        self._changed = threading.Condition(threading.Lock())
        # all below are guarded by _changed; idle connections and free places together never exceed the limit
        self._free = limit or options.max_connections
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._closed = False

    def send(self, request: HttpRequest, timeout: float | None = None) -> HttpResponse:
        """Send a request and wait for the whole answer, whatever its status.

        Args:
            request: what to send.
            timeout: the limit on all of it in seconds; None for that of the options.

        Raises:
            ConsulUnavailable: there is no answer; ``sent`` says whether Consul may have got the request.
            ConfigurationError: the request cannot be written as HTTP.
            RuntimeError: this process is a fork of the one that made the transport.
        """
        if os.getpid() != self._pid:  # nothing may be said on the parent's connections
            raise RuntimeError("a transport cannot be used after a fork; make a new factory in the child process")
        deadline = time.monotonic() + (self._options.timeout if timeout is None else timeout)
        keep = None
        connection = self._borrow(request, deadline)
        try:
            if connection is None:
                connection = self._open(request, deadline)
            try:
                answer = connection.send(request, deadline)
            except (OSError, WireError) as error:
                if not repeatable(request, error, used=connection.used, sent=connection.sent, wire=connection.wire):
                    raise self._failure(request, connection, error) from error
                self._forget(connection)
                connection = self._open(request, deadline)
                try:
                    answer = connection.send(request, deadline)
                except (OSError, WireError) as again:
                    raise self._failure(request, connection, again) from again
            keep = connection
            return answer
        finally:
            self._give_back(connection, keep)

    def close(self) -> None:
        """Close all connections. Requests under way fail, and so does each one after."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
            self._changed.notify_all()
        for connection in idle:
            connection.close()
        for connection in busy:
            connection.abort()  # its thread closes it

    def _borrow(self, request: HttpRequest, deadline: float) -> Connection | None:
        """Take a place, and an idle connection with it where there is one that can be used."""
        unwanted: list[Connection] = []
        try:
            with self._changed:
                while not self._closed and not self._free:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        raise unavailable(self._options, request, "no connection became free in time", sent=False)
                if self._closed:
                    raise unavailable(self._options, request, "the connections are closed", sent=False)
                self._free -= 1
                while self._idle:
                    connection = self._idle.pop()  # the one used last is the one most likely alive
                    if not connection.stale:
                        self._busy.add(connection)
                        return connection
                    unwanted.append(connection)
                return None
        finally:
            for connection in unwanted:
                connection.close()

    def _open(self, request: HttpRequest, deadline: float) -> Connection:
        try:
            connection = Connection.open(self._options, self._context, self._resolver, deadline)
        except OSError as error:
            raise unavailable(self._options, request, "no connection to Consul", sent=False, cause=error) from error
        with self._changed:
            self._busy.add(connection)
            closed = self._closed
        if closed:
            self._forget(connection)
            raise unavailable(self._options, request, "the connections are closed", sent=False)
        return connection

    def _forget(self, connection: Connection) -> None:
        with self._changed:
            self._busy.discard(connection)
        connection.close()

    def _give_back(self, connection: Connection | None, keep: Connection | None) -> None:
        """Free the place; ``keep`` is the connection when its request was answered."""
        with self._changed:
            self._free += 1
            if connection is not None:
                self._busy.discard(connection)
            if keep is not None and keep.wire.reusable and not self._closed:
                self._idle.append(keep)
                connection = None
            self._changed.notify()
        if connection is not None:
            connection.close()

    def _failure(self, request: HttpRequest, connection: Connection, error: Exception) -> ConsulUnavailable:
        return unavailable(self._options, request, "no answer from Consul", sent=connection.sent, cause=error)
