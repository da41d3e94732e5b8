"""Sends HTTP requests to Consul from tasks of one event loop: what `transport` does, without threads."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, cast

from ..config import ClientOptions
from ..errors import ConsulUnavailable
from .connection import Resolver
from .requests import HttpRequest, HttpResponse
from .wire import Wire, WireError, repeatable, server_name, tls_context, unavailable

__all__ = ["AsyncTransport"]


class _Connection(asyncio.Protocol):
    """An open connection: its HTTP, and the future of the answer that is waited for."""

    def __init__(self, authority: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[HttpResponse] | None = None
        self.wire = Wire(authority)
        self.used = False  #: whether it served a request before the present one
        self.sent = False  #: whether the last request was handed to the network
        self.lost = self._loop.create_future()  #: done when the connection is closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open, with TLS where that is used."""
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def send(self, request: HttpRequest, deadline: float) -> HttpResponse:
        """Send a request and wait for its whole answer. Any failure leaves the connection unusable."""
        data = self.wire.request(request)
        self.sent = False
        if self.stale:
            raise WireError("the connection was closed")
        if self._loop.time() >= deadline:  # a timer alone would let the request out first
            raise TimeoutError("the time for the request is over")
        self.sent = True
        answer: asyncio.Future[HttpResponse] = self._loop.create_future()
        self._answer = answer
        timer = self._loop.call_at(deadline, self._fail, TimeoutError("the time for the request is over"))
        try:
            self._transport.write(data)
            return await answer
        finally:
            timer.cancel()
            self._answer = None

    def data_received(self, data: bytes) -> None:
        """Some bytes came: of the answer, or else the connection is closed."""
        if self._answer is None or self._answer.done():  # what nobody asked for is no answer to the next request
            self.abort()
            return
        try:
            response = self.wire.feed(data)
        except WireError as error:
            self._fail(error)
        else:
            if response is not None:
                self.used = True
                self._answer.set_result(response)

    def eof_received(self) -> None:
        """The peer sends no more; so nothing can be asked any more either."""
        self.data_received(b"")  # the end of an answer that says no length, or a failure
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed: an answer that is still waited for will not come."""
        self._fail(error or WireError("the connection was closed without an answer"))
        self.lost.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    @property
    def stale(self) -> bool:
        """Whether it was closed, from whichever side."""
        return self._transport.is_closing()

    def abort(self) -> None:
        """Close it without waiting for anything."""
        if not self._loop.is_closed():  # of a closed loop nothing is left to do: the socket goes with its object
            self._transport.abort()


class AsyncTransport:
    """Connections to one Consul agent, for tasks of one event loop. Opens none before the first request.

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
        # idle connections and free places together never exceed the limit
        self._free = limit or options.max_connections
        self._queue: deque[asyncio.Future[None]] = deque()
        self._idle: list[_Connection] = []
        self._open_ones: set[_Connection] = set()
        self._lanes: list[AsyncTransport] = []
        self._closed = False

    def reserve(self) -> AsyncTransport:
        """A lane: one more connection, which does not count among this transport's and is closed with it.

        For renewals, which must not wait until others are done.
        """
        lane = AsyncTransport.__new__(type(self))
        lane.__dict__.update(self.__dict__)  # options, context and resolver are shared, all else is the lane's own
        lane._free, lane._queue, lane._idle, lane._open_ones, lane._lanes = 1, deque(), [], set(), []
        self._lanes.append(lane)
        return lane

    async def send(self, request: HttpRequest, timeout: float | None = None, *, fresh: bool = False) -> HttpResponse:
        """Send a request and wait for the whole answer, whatever its status.

        Cancelled, it closes its connection: the request may take effect all the same.

        Args:
            request: what to send.
            timeout: the limit on all of it in seconds; None for that of the options.
            fresh: over a new connection, not one used before.

        Raises:
            ConsulUnavailable: there is no answer; ``sent`` says whether Consul may have got the request.
            ConfigurationError: the request cannot be written as HTTP.
        """
        deadline = asyncio.get_running_loop().time() + (self._options.timeout if timeout is None else timeout)
        await self._take_place(request, deadline)
        keep = None
        connection = self._pick(fresh)
        try:
            if connection is None:
                connection = await self._open(request, deadline)
            try:
                answer = await connection.send(request, deadline)
            except (OSError, WireError) as error:
                if not repeatable(request, error, used=connection.used, sent=connection.sent, wire=connection.wire):
                    raise self._failure(request, connection, error) from error
                connection.abort()
                connection = await self._open(request, deadline)
                try:
                    answer = await connection.send(request, deadline)
                except (OSError, WireError) as again:
                    raise self._failure(request, connection, again) from again
            keep = connection
            return answer
        finally:
            self._give_back(connection, keep)

    def close(self) -> None:
        """Close all connections at once. Requests under way fail, and so does each one after."""
        self._closed = True
        for connection in list(self._open_ones):
            connection.abort()
        self._idle.clear()
        while self._hand_over():  # who waits for a place finds the transport closed
            pass
        for lane in self._lanes:
            lane.close()

    async def wait_closed(self) -> None:
        """After `close`: wait until the event loop has let go of all connections."""
        for transport in (self, *self._lanes):
            while transport._open_ones:
                # `wait`, since whoever awaits a future and is cancelled cancels it.
                await asyncio.wait({connection.lost for connection in transport._open_ones})
                await asyncio.sleep(0)  # its callback takes it out of the set

    async def _take_place(self, request: HttpRequest, deadline: float) -> None:
        """Wait for a free place, first come first served."""
        if self._closed:
            raise unavailable(self._options, request, "the connections are closed", sent=False)
        if self._free:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        timer = loop.call_at(deadline, _give_up, turn, TimeoutError())
        self._queue.append(turn)
        try:
            await turn  # whoever wakes it hands its place over
        except TimeoutError:
            raise unavailable(self._options, request, "no connection became free in time", sent=False) from None
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:
                self._release()  # the place was this task's already
            raise
        finally:
            timer.cancel()
            if turn in self._queue:
                self._queue.remove(turn)
        if self._closed:
            raise unavailable(self._options, request, "the connections are closed", sent=False)

    def _hand_over(self) -> bool:
        """Give a place to the first who waits; False when nobody does."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return True
        return False

    def _release(self) -> None:
        if not self._hand_over():
            self._free += 1

    def _pick(self, fresh: bool) -> _Connection | None:
        """An idle connection that can be used."""
        if fresh:
            for oldest in self._idle[:1]:
                oldest.abort()  # the new one takes its place
            del self._idle[:1]
            return None
        while self._idle:
            connection = self._idle.pop()  # the one used last is the one most likely alive
            if not connection.stale:
                return connection
        return None

    async def _open(self, request: HttpRequest, deadline: float) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            places = await self._places(deadline)
        except OSError as error:
            raise unavailable(self._options, request, "no connection to Consul", sent=False, cause=error) from error
        opening = loop.create_task(self._connect(places, deadline))
        try:
            await asyncio.wait({opening}, timeout=max(0.0, deadline - loop.time()))
            if not opening.done():
                late = TimeoutError("the time for the request is over")
                raise unavailable(self._options, request, "no connection to Consul", sent=False, cause=late)
        except GeneratorExit:  # the loop was closed with this under way: no task of it can be ended any more
            raise
        except BaseException:
            opening.add_done_callback(_discard)
            opening.cancel()
            await asyncio.wait({opening})  # a cancelled connect ends in the next rounds of the loop
            raise
        try:
            connection = opening.result()
        except (OSError, UnicodeError) as error:
            raise unavailable(self._options, request, "no connection to Consul", sent=False, cause=error) from error
        self._open_ones.add(connection)
        connection.lost.add_done_callback(lambda _: self._open_ones.discard(connection))
        if self._closed:
            connection.abort()
            raise unavailable(self._options, request, "the connections are closed", sent=False)
        return connection

    async def _places(self, deadline: float) -> list[Any]:
        """What the resolver finds; nothing of it where there is a path.

        The loop's own ``getaddrinfo`` would leave the name to its executor, for whose threads a program waits at exit.
        """
        if self._options.unix_path is not None:
            return []
        lookup = self._resolver.look_up()
        if not lookup.done():
            loop = asyncio.get_running_loop()
            turn = loop.create_future()

            def found(_: Future[list[Any]]) -> None:
                with suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(_wake, turn)

            lookup.add_done_callback(found)
            timer = loop.call_at(deadline, _give_up, turn, self._resolver.late())
            try:
                await turn
            finally:
                timer.cancel()
        return lookup.result()

    async def _connect(self, places: list[Any], deadline: float) -> _Connection:
        options, loop = self._options, asyncio.get_running_loop()

        def connection() -> _Connection:
            return _Connection(options.authority)

        if options.unix_path is not None:
            return (await loop.create_unix_connection(connection, options.unix_path))[1]
        sock = await _reach(places, deadline)
        name = None if self._context is None else server_name(options)
        return (await loop.create_connection(connection, sock=sock, ssl=self._context, server_hostname=name))[1]

    def _give_back(self, connection: _Connection | None, keep: _Connection | None) -> None:
        """Free the place; ``keep`` is the connection when its request was answered."""
        if keep is not None and keep.wire.reusable and not self._closed:
            self._idle.append(keep)
        elif connection is not None:
            connection.abort()
            # Its place is free when it is closed, and not before: else there is one too many for a moment.
            connection.lost.add_done_callback(lambda _: self._release())
            return
        self._release()

    def _failure(self, request: HttpRequest, connection: _Connection, error: Exception) -> ConsulUnavailable:
        return unavailable(self._options, request, "no answer from Consul", sent=connection.sent, cause=error)


async def _reach(places: list[Any], deadline: float) -> socket.socket:
    """Connect to the first of some addresses that answers."""
    loop = asyncio.get_running_loop()
    for number, (family, _kind, protocol, _name, place) in enumerate(places):
        others = len(places) - number - 1
        # an address that swallows packets must leave time for the others
        share = (deadline - loop.time()) / (others + 1)
        try:
            return await _reach_one(family, protocol, place, loop.time() + share)
        except OSError:
            if not others:
                raise
    raise OSError("the name has no addresses")


async def _reach_one(family: int, protocol: int, place: Any, deadline: float) -> socket.socket:
    """Connect to an address. (The loop's ``sock_connect`` looks it up first, whereby uvloop loses an IPv6 zone.)"""
    loop = asyncio.get_running_loop()
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.connect(place)
        turn = loop.create_future()
        loop.add_writer(sock, _wake, turn)
        timer = loop.call_at(deadline, _give_up, turn, TimeoutError("the connection was not answered in time"))
        try:
            await turn
        finally:
            timer.cancel()
            loop.remove_writer(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        return sock
    except BaseException:
        sock.close()
        raise


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _give_up(turn: asyncio.Future[None], error: Exception) -> None:
    if not turn.done():
        turn.set_exception(error)


def _discard(opening: asyncio.Task[_Connection]) -> None:
    """The end of a connect that nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().abort()
