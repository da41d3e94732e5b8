"""Sends HTTP requests to Consul from threads that wait for the answer.

Connections are kept alive in a pool; the deadline of a request covers everything, from waiting for a
connection to the last byte of the answer. No proxies, no redirects, no cookies.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import TimeoutError as FutureTimeout
from weakref import WeakSet

from ..config.options import ClientOptions
from ..errors import ConsulUnavailable
from .addresses import Addresses, Peer, Way
from .allowance import Allowance
from .connection import Connection
from .credentials import TOKEN_LATE, Credentials, Found, NoToken, tokenless, unknown_token, with_token
from .debug import logged
from .encode import HttpRequest, HttpResponse
from .http import WireError, repeatable, unavailable
from .tls import closed_in_handshake

__all__ = ["BlockingTransport"]


#: A thread that waits for a place looks again after so long, in seconds: of a place that the garbage collector frees
#: no thread is told.
LOOK_AGAIN = 1.0


class _Place:
    """The right to a connection: of one request, or of nobody while the connection is idle.

    Attributes:
        connection: the one that it has, if any.
        keeps: whether the connection may serve others after the present request.
    """

    __slots__ = ("__weakref__", "connection", "keeps")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.keeps = False


class BlockingTransport:
    """Connections to Consul, for threads. Opens none before the first request.

    Args:
        options: where to, and how.
        limit: how many connections at once, in place of ``options.max_connections``.
        allowance, addresses, credentials: the factory's; None for its own.

    Raises:
        ConfigurationError: the certificates of the options cannot be used.
    """

    def __init__(
        self,
        options: ClientOptions,
        limit: int | None = None,
        allowance: Allowance | None = None,
        addresses: Addresses | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._options = options
        self._credentials = credentials or Credentials(options)
        self._addresses = addresses or Addresses(options)
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)  # whose own `with` takes longer
        self._whole = limit or options.max_connections
        self._allowance = allowance or Allowance(self._whole)
        self._allowance.share(lambda: len(self._places))
        self._allowance.on_lowered(self._close_idle)
        # All below are guarded by _guard; there are never more places than the limit. One that its thread was kept from
        # giving back, by a signal handler that raised, is gone once no thread has it any more.
        self._places: WeakSet[_Place] = WeakSet()
        self._idle: list[_Place] = []  # those with a connection that serves nobody now
        self._waiting = 0  # how many threads wait for one; too large by those that a signal handler interrupted
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
        token = self._token(self._credentials.token(), request, deadline)
        answer = self._exchange(with_token(request, token), deadline)
        if not unknown_token(answer):
            return answer
        another = self._token(self._credentials.another(token), request, deadline)
        return answer if another == token else self._exchange(with_token(request, another), deadline)

    def _token(self, found: Found, request: HttpRequest, deadline: float) -> str:
        if isinstance(found, str):
            return found
        outcome: str | NoToken
        try:
            outcome = found.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeout:
            outcome = NoToken(TOKEN_LATE)
        if isinstance(outcome, str):
            return outcome
        raise tokenless(self._addresses.current.options, request, outcome)

    def _exchange(self, request: HttpRequest, deadline: float) -> HttpResponse:
        """Send a request with its token, to one address or, where it may go again, to the next ones."""
        place = self._take(request, deadline)
        try:
            way = Way(self._addresses, request)
            while True:
                try:
                    answer = self._send_to(way, place, request, deadline)
                except ConsulUnavailable as error:
                    if self._closed:
                        raise
                    way.failed(error, over=time.monotonic() >= deadline)
                else:
                    if way.accepts(answer):
                        place.keeps = True
                        return answer
                self._disconnect(place)
        finally:
            self._give_back(place)

    def _send_to(self, way: Way, place: _Place, request: HttpRequest, deadline: float) -> HttpResponse:
        """Send to one address."""
        connection = self._usable(place, way.peer) or self._open(place, way, request, deadline)
        try:
            return self._ask(connection, request, deadline)
        except (OSError, WireError) as error:
            if not repeatable(request, error, used=connection.used, sent=connection.sent, wire=connection.wire):
                raise _failure(request, connection, error) from error
        self._disconnect(place)
        connection = self._open(place, way, request, deadline)
        try:
            return self._ask(connection, request, deadline)
        except (OSError, WireError) as again:
            raise _failure(request, connection, again) from again

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
        with self._guard:
            unwanted = []
            while self._idle and len(self._places) > self._limit:
                unwanted.append(self._idle.pop(0))  # the one not used for longest
                self._places.discard(unwanted[-1])
        for place in unwanted:
            self._disconnect(place)

    def close(self) -> None:
        """Close all connections. Requests under way fail, and so does each one after."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
            for place in idle:
                self._places.discard(place)
            busy = [place.connection for place in self._places if place.connection is not None]
            self._changed.notify_all()
        for place in idle:
            self._disconnect(place)
        for connection in busy:
            connection.abort()  # its thread closes it

    def _take(self, request: HttpRequest, deadline: float) -> _Place:
        """Take a place, as soon as there is one; with a connection, if one is idle."""
        with self._guard:
            while not self._closed:
                if self._idle:
                    return self._idle.pop()  # the one used last is the one most likely alive
                if len(self._places) < self._limit:
                    place = _Place()
                    self._places.add(place)
                    return place
                left = deadline - time.monotonic()
                if left <= 0:
                    raise unavailable(self._options, request, "no connection became free in time", sent=False)
                self._waiting += 1
                self._changed.wait(min(left, LOOK_AGAIN))
                self._waiting -= 1
        raise unavailable(self._options, request, "the connections are closed", sent=False, outage=False)

    def _usable(self, place: _Place, peer: Peer) -> Connection | None:
        """The connection of a place, or another idle one, if it can be used; those to other peers are closed."""
        while (connection := place.connection) is not None:
            if connection.peer is peer and not connection.stale:
                return connection
            self._disconnect(place)
            with self._guard:
                if self._idle:
                    other = self._idle.pop()
                    place.connection, other.connection = other.connection, None
                    self._places.discard(other)
        return None

    def _open(self, place: _Place, way: Way, request: HttpRequest, deadline: float) -> Connection:
        peer = way.peer
        try:
            context = self._credentials.context() if peer.secure else None
            connection = Connection.open(peer, context, way.connect_until(time.monotonic(), deadline))
        except OSError as error:
            if peer.secure and closed_in_handshake(error):
                self._allowance.refused()
            raise unavailable(peer.options, request, "no connection to Consul", sent=False, cause=error) from error
        with self._guard:
            place.connection = connection
            closed = self._closed
        if closed:
            raise unavailable(peer.options, request, "the connections are closed", sent=False, outage=False)
        return connection

    @staticmethod
    def _disconnect(place: _Place) -> None:
        connection, place.connection = place.connection, None
        if connection is not None:  # it may not have been opened
            connection.close()

    def _give_back(self, place: _Place) -> None:
        """Free the place; with its connection, if its request was answered."""
        connection = place.connection
        if place.keeps and connection is not None and connection.wire.reusable:
            place.keeps = False
            with self._guard:
                room = not (self._allowance.lowered and len(self._places) > self._limit)
                if room and not self._closed and connection.peer is self._addresses.current:
                    self._idle.append(place)
                    self._tell()
                    return
        self._disconnect(place)  # before its place is free: else there is one too many for a moment
        with self._guard:
            self._places.discard(place)
            self._tell()

    def _tell(self) -> None:
        """Under the mutex: there is a place for another one."""
        if self._waiting:
            self._changed.notify()


def _failure(request: HttpRequest, connection: Connection, error: Exception) -> ConsulUnavailable:
    what = "no answer from Consul"
    return unavailable(connection.peer.options, request, what, sent=connection.sent, cause=error)
