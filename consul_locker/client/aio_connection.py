"""One connection to Consul on an event loop, and how it is reached: what `connection` does, without threads."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, Union, cast

from .addresses import Peer
from .credentials import Credentials
from .encode import HttpRequest, HttpResponse
from .http import READ_SIZE, Wire, WireError
from .tls import server_name

__all__ = ["AsyncConnection", "Heard", "Place", "connect", "discard", "give_up", "joined", "places_of", "reach", "wake"]

T = TypeVar("T")

#: What a connection tells of a request: its answer, or how it failed.
Heard = Union[HttpResponse, Exception]


class AsyncConnection(asyncio.BufferedProtocol):
    """An open connection: its HTTP, and who waits for the answer.

    It reads into a buffer of its own. Else asyncio asks the system for 256 KB for each answer, and gives them back.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer  #: whom it leads to
        self._loop = asyncio.get_running_loop()
        self._then: Callable[[Heard], None] | None = None
        self._buffer = memoryview(bytearray(READ_SIZE))
        self.wire = Wire(peer.options.authority, peer.options.path)
        self.used = False  #: whether it served a request before the present one
        self.sent = False  #: whether the last request was handed to the network
        self._end: Exception | None = None
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
            if not self.used and self._transport.get_extra_info("ssl_object") is not None:
                # The server may refuse our certificate when the handshake is over here: its words come with the end.
                await asyncio.wait({self.lost}, timeout=deadline - self._loop.time())
            raise self._end or WireError("the connection was closed")
        if self._loop.time() >= deadline:  # a timer alone would let the request out first
            raise TimeoutError("the time for the request is over")
        answer: asyncio.Future[HttpResponse] = self._loop.create_future()
        timer = self._loop.call_at(deadline, self._fail, TimeoutError("the time for the request is over"))
        try:
            self.begin(data, partial(_settle, answer))
            return await answer
        finally:
            timer.cancel()
            self.forget()

    def begin(self, data: bytes, then: Callable[[Heard], None]) -> None:
        """Send a request now, without a look at whether the connection is still open.

        Args:
            data: what its `wire` has made of the request.
            then: called once, on the loop, with the answer or the failure. There is no time limit on that.
        """
        self.sent = True
        self._then = then
        self._transport.write(data)

    def forget(self) -> None:
        """Nobody waits for an answer any more."""
        self._then = None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio puts what came."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Some bytes came: of the answer, or else the connection is closed."""
        self._received(bytes(self._buffer[:nbytes]))

    def _received(self, data: bytes) -> None:
        if self._then is None:  # bytes that no request asked for are no answer to the next
            self.abort()
            return
        try:
            response = self.wire.feed(data)
        except WireError as error:
            self._fail(error)
        else:
            if response is not None:
                self.used = True
                then, self._then = self._then, None
                then(response)

    def eof_received(self) -> None:
        """The peer sends no more, so no further request can be answered."""
        self._received(b"")  # the end of an answer that says no length, or a failure
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed: an answer that is still waited for will not come."""
        self._end = error
        try:
            self._fail(error or WireError("the connection was closed without an answer"))
        finally:  # whoever is told may raise
            self.lost.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._then is not None:
            then, self._then = self._then, None
            then(error)

    @property
    def stale(self) -> bool:
        """Whether it was closed, from whichever side."""
        return self._transport.is_closing()

    def abort(self) -> None:
        """Close it without waiting for anything."""
        if not self._loop.is_closed():  # of a closed loop nothing is left to do: the socket goes with its object
            self._transport.abort()


def _settle(answer: asyncio.Future[HttpResponse], heard: Heard) -> None:
    if answer.done():  # cancelled in this very round of the loop
        return
    if isinstance(heard, Exception):
        answer.set_exception(heard)
    else:
        answer.set_result(heard)


class Place:
    """The right of one request to a connection.

    Attributes:
        connection: the one that it has, if any.
        keeps: whether the connection may serve others after it.
    """

    __slots__ = ("connection", "keeps")

    def __init__(self) -> None:
        self.connection: AsyncConnection | None = None
        self.keeps = False


async def places_of(peer: Peer, deadline: float) -> list[Any]:
    """What the resolver finds; nothing of it where there is a path.

    The loop's own ``getaddrinfo`` would leave the name to its executor, for whose threads a program waits at exit.
    """
    if peer.options.unix_path is not None:
        return []
    return await joined(peer.resolver.look_up(), deadline, peer.resolver.late())


async def connect(peer: Peer, places: list[Any], deadline: float, credentials: Credentials) -> AsyncConnection:
    """A new connection to a peer, at one of the places that `places_of` has found."""
    options, loop = peer.options, asyncio.get_running_loop()

    def connection() -> AsyncConnection:
        return AsyncConnection(peer)

    try:
        if options.unix_path is not None:
            return (await loop.create_unix_connection(connection, options.unix_path))[1]
        sock = await reach(places, deadline)
        context = credentials.context() if peer.secure else None
        name = None if context is None else server_name(options)
        return (await loop.create_connection(connection, sock=sock, ssl=context, server_hostname=name))[1]
    except RuntimeError as error:
        # With its loop closed this is thrown away; asyncio then cannot close what it has opened, and says nothing.
        raise (GeneratorExit() if loop.is_closed() else error) from None


def discard(opening: asyncio.Task[AsyncConnection]) -> None:
    """The end of a connect that no request waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().abort()


async def reach(places: list[Any], deadline: float) -> socket.socket:
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
        loop.add_writer(sock, wake, turn)
        timer = loop.call_at(deadline, give_up, turn, TimeoutError("the connection was not answered in time"))
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


async def joined(shared: Future[T], deadline: float, late: Exception) -> T:
    """What a thread finds for all that wait for it; raises ``late`` after the deadline."""
    if not shared.done():
        loop = asyncio.get_running_loop()
        turn = loop.create_future()

        def found(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(wake, turn)

        shared.add_done_callback(found)
        timer = loop.call_at(deadline, give_up, turn, late)
        try:
            await turn
        finally:
            timer.cancel()
    return shared.result()


def wake(turn: asyncio.Future[None]) -> None:
    """End a wait, unless it has ended: two callbacks of one round of the loop may both want to."""
    if not turn.done():
        turn.set_result(None)


def give_up(turn: asyncio.Future[None], error: Exception) -> None:
    """The same, with an error."""
    if not turn.done():
        turn.set_exception(error)
