"""Sends HTTP requests to Consul from threads that wait for the answer.

Connections are kept alive in a pool; the deadline of a request covers everything, from waiting for a
connection to the last byte of the answer. No proxies, no redirects, no cookies.
"""

from __future__ import annotations

import os
import threading
import time
from weakref import WeakSet

from ..config.options import ClientOptions
from ..errors import ConsulUnavailable
from .allowance import Allowance
from .connection import Connection
from .debug import logged
from .dns import Resolver
from .encode import HttpRequest, HttpResponse
from .http import WireError, repeatable, unavailable
from .tls import closed_in_handshake, tls_context

__all__ = ["BlockingTransport"]


#: A thread that waits for a place looks again after so long, in seconds: of a place that the garbage collector frees
#: no thread is told.
LOOK_AGAIN = 1.0


class _Place:
    """The right of one request to a connection.

    Attributes:
        connection: the one that it has, if any.
        keeps: whether the connection may serve others after it.
    """

    __slots__ = ("__weakref__", "connection", "keeps")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.keeps = False


class BlockingTransport:
    """Connections to one Consul agent, for threads. Opens none before the first request.

    Args:
        options: where to, and how.
        limit: how many connections at once, in place of ``options.max_connections``.
        allowance: the factory's; None for one of its own.

    Raises:
        ConfigurationError: the certificates of the options cannot be used.
    """

    def __init__(self, options: ClientOptions, limit: int | None = None, allowance: Allowance | None = None) -> None:
        self._options = options
        self._context = tls_context(options)
        self._resolver = Resolver(options.host, options.port)
        self._pid = os.getpid()
        self._changed = threading.Condition(threading.Lock())
        self._whole = limit or options.max_connections
        self._allowance = allowance or Allowance(self._whole)
        self._allowance.share(lambda: len(self._idle) + len(self._places))
        self._allowance.on_lowered(self._close_idle)
        # All below are guarded by _changed; idle connections and places together never exceed the limit. A place that
        # its thread was kept from giving back, by a signal handler that raised, is free once no thread has it any more.
        self._idle: list[Connection] = []
        self._places: WeakSet[_Place] = WeakSet()
        self._closed = False

    @logged
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
        place = _Place()
        try:
            connection = self._borrow(place, request, deadline) or self._open(place, request, deadline)
            try:
                answer = self._ask(connection, request, deadline)
            except (OSError, WireError) as error:
                if not repeatable(request, error, used=connection.used, sent=connection.sent, wire=connection.wire):
                    raise self._failure(request, connection, error) from error
                self._forget(place)
                connection = self._open(place, request, deadline)
                try:
                    answer = self._ask(connection, request, deadline)
                except (OSError, WireError) as again:
                    raise self._failure(request, connection, again) from again
            place.keeps = True
            return answer
        finally:
            self._give_back(place)

    def _ask(self, connection: Connection, request: HttpRequest, deadline: float) -> HttpResponse:
        """Send on a connection, and learn from it whether Consul accepts new ones."""
        begun = self._allowance.begun(new=not connection.used)
        try:
            answer = connection.send(request, deadline)
        except (OSError, WireError) as error:
            self._allowance.failed(begun, error, connection.wire)
            raise
        self._allowance.answered(begun)
        return answer

    @property
    def _limit(self) -> int:
        """How many connections at present."""
        return self._allowance.part(self._whole, 1)

    def _close_idle(self) -> None:
        """Fewer connections are allowed now: those that are idle beyond that end."""
        with self._changed:
            left = max(0, self._limit - len(self._places))
            unwanted, self._idle = self._idle[left:], self._idle[:left]
        for connection in unwanted:
            connection.close()

    def close(self) -> None:
        """Close all connections. Requests under way fail, and so does each one after."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = [place.connection for place in self._places if place.connection is not None]
            self._changed.notify_all()
        for connection in idle:
            connection.close()
        for connection in busy:
            connection.abort()  # its thread closes it

    def _borrow(self, place: _Place, request: HttpRequest, deadline: float) -> Connection | None:
        """Take a place, and an idle connection with it where there is one that can be used."""
        unwanted: list[Connection] = []
        try:
            with self._changed:
                while not self._closed and len(self._places) >= self._limit:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise unavailable(self._options, request, "no connection became free in time", sent=False)
                    self._changed.wait(min(left, LOOK_AGAIN))
                if self._closed:
                    raise unavailable(self._options, request, "the connections are closed", sent=False, outage=False)
                self._places.add(place)
                while self._idle:
                    connection = self._idle.pop()  # the one used last is the one most likely alive
                    if not connection.stale:
                        place.connection = connection
                        return connection
                    unwanted.append(connection)
                return None
        finally:
            for connection in unwanted:
                connection.close()

    def _open(self, place: _Place, request: HttpRequest, deadline: float) -> Connection:
        try:
            connection = Connection.open(self._options, self._context, self._resolver, deadline)
        except OSError as error:
            if self._context is not None and closed_in_handshake(error):
                self._allowance.refused()
            raise unavailable(self._options, request, "no connection to Consul", sent=False, cause=error) from error
        with self._changed:
            place.connection = connection
            closed = self._closed
        if closed:
            self._forget(place)
            raise unavailable(self._options, request, "the connections are closed", sent=False, outage=False)
        return connection

    def _forget(self, place: _Place) -> None:
        with self._changed:
            connection, place.connection = place.connection, None
        assert connection is not None  # what is forgotten was opened, or borrowed
        connection.close()

    def _give_back(self, place: _Place) -> None:
        """Free the place; its connection is kept when its request was answered."""
        with self._changed:
            connection, place.connection = place.connection, None
            room = len(self._idle) + len(self._places) <= self._limit and not self._closed
            if place.keeps and connection is not None and connection.wire.reusable and room:
                self._idle.append(connection)
                connection = None
        if connection is not None:
            connection.close()  # before its place is free: else there is one too many for a moment
        with self._changed:
            self._places.discard(place)
            self._changed.notify()

    def _failure(self, request: HttpRequest, connection: Connection, error: Exception) -> ConsulUnavailable:
        return unavailable(self._options, request, "no answer from Consul", sent=connection.sent, cause=error)
