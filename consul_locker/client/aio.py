"""Sends HTTP requests to Consul from tasks of one event loop: what `blocking` does, without threads.

The threaded face has one in its I/O thread. It also keeps connections for renewals alone (`AsyncTransport.reserve`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from ..config.options import ClientOptions
from ..errors import ConsulUnavailable
from .aio_connection import AsyncConnection, give_up, reach, wake
from .allowance import Allowance
from .debug import logged_async
from .dns import Resolver
from .encode import HttpRequest, HttpResponse
from .http import WireError, repeatable, unavailable
from .tls import closed_in_handshake, server_name, tls_context

__all__ = ["AsyncTransport"]

#: With lanes, this part of the connections is kept for them, and as much for all else; the rest is for requests of
#: either kind, lanes first. A quarter of the 48 that the I/O thread has does for 1,000 Lockers with renewals of 60 ms.
KEPT = 0.25
#: Fewer connections are of no use with lanes: one for them, and one for all else.
LEAST = 2


class AsyncTransport:
    """Connections to one Consul agent, for tasks of one event loop. Opens none before the first request.

    Args:
        options: where to, and how.
        limit: how many connections at once, in place of ``options.max_connections``.

    Raises:
        ConfigurationError: the certificates of the options cannot be used.
    """

    def __init__(self, options: ClientOptions, limit: int | None = None, allowance: Allowance | None = None) -> None:
        self._options = options
        self._context = tls_context(options)
        self._resolver = Resolver(options.host, options.port)
        self._whole = limit or options.max_connections
        self._allowance = allowance or Allowance(self._whole)
        self._closed = False
        # Places taken in this and its lanes never exceed the limit, nor do connections, idle or busy.
        self._all: list[AsyncTransport] = []  # with its lanes, in the order in which they are served
        self._begin()
        self._allowance.share(lambda: sum(len(each._open_ones) for each in tuple(self._all)))

    def _begin(self) -> None:
        self._taken = 0  # how many requests have a place,
        self._busy = 0  # and how many of those a connection, or are about to open one
        self._queue: deque[asyncio.Future[None]] = deque()
        self._idle: list[AsyncConnection] = []
        self._open_ones: set[AsyncConnection] = set()
        self._all.insert(0, self)

    def reserve(self) -> AsyncTransport:
        """A lane: connections that no other request takes, among this transport's and closed with it.

        For renewals, which must not wait until others are done.
        """
        lane = AsyncTransport.__new__(type(self))
        lane.__dict__.update(self.__dict__)  # options, context and resolver are shared, and so is the limit
        lane._begin()
        return lane

    @property
    def limit(self) -> int:
        """How many connections there may be at present, those of lanes among them."""
        return self._allowance.part(self._whole, LEAST)

    @property
    def most(self) -> int:
        """How many of them requests over this transport may have; what its lanes keep for themselves is not there."""
        limit = self.limit
        return limit if len(self._all) == 1 else max(1, limit - max(1, int(limit * KEPT)))

    @property
    def _free(self) -> int:
        """How many requests more may have a connection now."""
        taken = sum(each._taken for each in self._all)
        return max(0, min(self.most - self._taken, self.limit - taken))

    @logged_async
    async def send(
        self, request: HttpRequest, timeout: float | None = None, *, fresh: bool = False, patience: float = 0.0
    ) -> HttpResponse:
        """Send a request and wait for the whole answer, whatever its status.

        Cancelled, it closes its connection: the request may take effect all the same.

        Args:
            request: what to send.
            timeout: the limit on all of it in seconds; None for that of the options.
            fresh: over a new connection, not one used before.
            patience: so much of the time that it waits for a place does not count, in seconds.

        Raises:
            ConsulUnavailable: there is no answer; ``sent`` says whether Consul may have got the request.
            ConfigurationError: the request cannot be written as HTTP.
        """
        loop, limit = asyncio.get_running_loop(), self._options.timeout if timeout is None else timeout
        begun = loop.time()
        await self._take_place(request, begun + limit + patience)
        deadline = min(loop.time(), begun + patience) + limit
        keep = None
        self._busy += 1
        connection = None if fresh else self._pick()
        try:
            if connection is None:
                connection = await self._open(request, deadline, replace=fresh)
            try:
                answer = await self._ask(connection, request, deadline)
            except (OSError, WireError) as error:
                if not repeatable(request, error, used=connection.used, sent=connection.sent, wire=connection.wire):
                    raise self._failure(request, connection, error) from error
                connection.abort()
                await asyncio.wait({connection.lost})  # or there would be one too many for a moment
                connection = await self._open(request, deadline)
                try:
                    answer = await self._ask(connection, request, deadline)
                except (OSError, WireError) as again:
                    raise self._failure(request, connection, again) from again
            keep = connection
            return answer
        finally:
            self._give_back(connection, keep)

    async def _ask(self, connection: AsyncConnection, request: HttpRequest, deadline: float) -> HttpResponse:
        """Send on a connection, and learn from it whether Consul accepts new ones."""
        begun = self._allowance.begun(new=not connection.used)
        try:
            answer = await connection.send(request, deadline)
        except (OSError, WireError) as error:
            self._allowance.failed(begun, error, connection.wire)
            raise
        self._allowance.answered(begun)
        return answer

    def close(self) -> None:
        """Close all connections at once. Requests under way fail, and so does each one after."""
        self._closed = True
        for connection in list(self._open_ones):
            connection.abort()
        self._idle.clear()
        while self._hand_over():  # a request that waits for a place finds the transport closed
            pass
        for lane in self._all:
            if not lane._closed:
                lane.close()

    async def wait_closed(self) -> None:
        """After `close`: wait until the event loop has let go of all connections."""
        for transport in self._all:
            while transport._open_ones:
                # `wait`, since a task that awaits a future cancels it when it is cancelled.
                await asyncio.wait({connection.lost for connection in transport._open_ones})
                await asyncio.sleep(0)  # its callback takes it out of the set

    async def _take_place(self, request: HttpRequest, deadline: float) -> None:
        """Wait for a free place, first come first served."""
        if self._closed:
            raise unavailable(self._options, request, "the connections are closed", sent=False, outage=False)
        if self._free:
            self._taken += 1
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        timer = loop.call_at(deadline, give_up, turn, TimeoutError())
        self._queue.append(turn)
        try:
            await turn  # the request that wakes it hands its place over
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
            raise unavailable(self._options, request, "the connections are closed", sent=False, outage=False)

    def _hand_over(self) -> bool:
        """Give a place to the first request that waits; False when none does."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return True
        return False

    def _release(self) -> None:
        """A place is free: it goes to a request that waits and may have it, to those in lanes first."""
        self._taken -= 1
        for each in self._all:
            while each._free and each._hand_over():
                each._taken += 1

    def _pick(self) -> AsyncConnection | None:
        """An idle connection that can be used."""
        while self._idle:
            connection = self._idle.pop()  # the one used last is the one most likely alive
            if not connection.stale:
                return connection
        return None

    def close_idle(self) -> list[AsyncConnection]:
        """Close idle connections as far as there are more than may be, those of lanes last.

        Returns:
            What was closed, though the event loop may not have let go of it yet.
        """
        closed = []
        for each in reversed(self._all):
            while each._idle and sum(one._busy + len(one._idle) for one in self._all) > self.limit:
                closed.append(each._idle.pop(0))  # the one not used for longest
                closed[-1].abort()
        return closed

    async def _open(self, request: HttpRequest, deadline: float, replace: bool = False) -> AsyncConnection:
        """A new connection; with ``replace`` instead of the idle one that was not used for longest."""
        loop = asyncio.get_running_loop()
        closed = self.close_idle()
        if replace and self._idle:
            closed.append(self._idle.pop(0))
            closed[-1].abort()
        if closed:
            await asyncio.wait({each.lost for each in closed})
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
            if self._context is not None and closed_in_handshake(error):
                self._allowance.refused(counted=0)
            raise unavailable(self._options, request, "no connection to Consul", sent=False, cause=error) from error
        self._open_ones.add(connection)
        connection.lost.add_done_callback(lambda _: self._open_ones.discard(connection))
        if self._closed:
            connection.abort()
            raise unavailable(self._options, request, "the connections are closed", sent=False, outage=False)
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
                    loop.call_soon_threadsafe(wake, turn)

            lookup.add_done_callback(found)
            timer = loop.call_at(deadline, give_up, turn, self._resolver.late())
            try:
                await turn
            finally:
                timer.cancel()
        return lookup.result()

    async def _connect(self, places: list[Any], deadline: float) -> AsyncConnection:
        options, loop = self._options, asyncio.get_running_loop()

        def connection() -> AsyncConnection:
            return AsyncConnection(options.authority, options.path)

        try:
            if options.unix_path is not None:
                return (await loop.create_unix_connection(connection, options.unix_path))[1]
            sock = await reach(places, deadline)
            name = None if self._context is None else server_name(options)
            return (await loop.create_connection(connection, sock=sock, ssl=self._context, server_hostname=name))[1]
        except RuntimeError as error:
            # With its loop closed this is thrown away; asyncio then cannot close what it has opened, and says nothing.
            raise (GeneratorExit() if loop.is_closed() else error) from None

    def _give_back(self, connection: AsyncConnection | None, keep: AsyncConnection | None) -> None:
        """Free the place; ``keep`` is the connection when its request was answered."""
        if keep is not None and keep.wire.reusable and not self._closed:
            self._idle.append(keep)
        elif connection is not None:
            connection.abort()
            # Its place is free when it is closed, and not before: else there is one too many for a moment.
            connection.lost.add_done_callback(lambda _: self._leave())
            return
        self._leave()

    def _leave(self) -> None:
        self._busy -= 1
        self.close_idle()  # there may be fewer now than when this began
        self._release()

    def _failure(self, request: HttpRequest, connection: AsyncConnection, error: Exception) -> ConsulUnavailable:
        return unavailable(self._options, request, "no answer from Consul", sent=connection.sent, cause=error)


def _discard(opening: asyncio.Task[AsyncConnection]) -> None:
    """The end of a connect that no request waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().abort()
