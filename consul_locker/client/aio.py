"""Sends HTTP requests to Consul from tasks of one event loop: what `blocking` does, without threads.

The threaded face has one in its I/O thread. It also keeps connections for renewals alone (`AsyncTransport.reserve`).
"""

from __future__ import annotations

import asyncio
from collections import deque

from ..config.options import ClientOptions
from ..errors import ConsulUnavailable
from .addresses import Addresses, Peer, Way
from .aio_connection import AsyncConnection, Place, connect, discard, give_up, joined, places_of
from .allowance import Allowance
from .credentials import TOKEN_LATE, Credentials, Found, NoToken, tokenless, unknown_token, with_token
from .debug import logged_async
from .encode import HttpRequest, HttpResponse
from .http import WireError, repeatable, unavailable
from .tls import closed_in_handshake

__all__ = ["AsyncTransport", "no_answer"]

#: With lanes, this part of the connections is kept for them, and as much for all else; the rest is for requests of
#: either kind, lanes first. A quarter of the 48 that the I/O thread has does for 1,000 Lockers with renewals of 60 ms.
KEPT = 0.25
#: Fewer connections are of no use with lanes: one for them, and one for all else.
LEAST = 2


class AsyncTransport:
    """Connections to Consul, for tasks of one event loop. Opens none before the first request.

    Args:
        options: where to, and how.
        limit: how many connections at once, in place of ``options.max_connections``.
        allowance, addresses, credentials: the factory's; None for its own.

    Attributes:
        addresses: where its requests go, and which of them is in use; a lane chooses for itself.

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
        self.addresses = addresses or Addresses(options)
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

        For renewals, which must not wait until others are done, and find the address that answers by themselves.
        """
        lane = AsyncTransport.__new__(type(self))
        lane.__dict__.update(self.__dict__)  # options and credentials are shared, and so is the limit
        lane.addresses = self.addresses.apart()
        lane._begin()
        return lane

    @property
    def limit(self) -> int:
        """How many connections there may be at present, those of lanes among them."""
        return self._allowance.part(self._whole, LEAST)

    @property
    def most(self) -> int:
        """How many of them requests over this transport may have; what its lanes keep for themselves is not there."""
        return self._most(self.limit)

    def _most(self, limit: int) -> int:
        return limit if len(self._all) == 1 else max(1, limit - max(1, int(limit * KEPT)))

    @property
    def _free(self) -> int:
        """How many requests more may have a connection now."""
        taken, limit = sum([each._taken for each in self._all]), self.limit
        return max(0, min(self._most(limit) - self._taken, limit - taken))

    @logged_async
    async def send(
        self,
        request: HttpRequest,
        timeout: float | None = None,
        *,
        fresh: bool = False,
        patience: float = 0.0,
        stays: bool = False,
    ) -> HttpResponse:
        """Send a request and wait for the whole answer, whatever its status.

        Cancelled, it closes its connection: the request may take effect all the same.

        Args:
            request: what to send.
            timeout: the limit on all of it in seconds; None for that of the options.
            fresh: over a new connection, not one used before.
            patience: so much of the time that it waits for a place does not count, in seconds.
            stays: to the address in use, and to no other one.

        Raises:
            ConsulUnavailable: there is no answer; ``sent`` says whether Consul may have got the request.
            ConfigurationError: the request cannot be written as HTTP.
        """
        loop, limit = asyncio.get_running_loop(), self._options.timeout if timeout is None else timeout
        latest = loop.time() + patience + limit
        token = await self._token(self._credentials.token(), request, latest)
        answer = await self._exchange(with_token(request, token), latest, limit, fresh, stays)
        if not unknown_token(answer):
            return answer
        another = await self._token(self._credentials.another(token), request, latest)
        if another == token:
            return answer
        return await self._exchange(with_token(request, another), latest, limit, fresh, stays)

    async def _token(self, found: Found, request: HttpRequest, deadline: float) -> str:
        if isinstance(found, str):
            return found
        outcome: str | NoToken
        try:
            outcome = await joined(found, deadline, TimeoutError(TOKEN_LATE))
        except TimeoutError:
            outcome = NoToken(TOKEN_LATE)
        if isinstance(outcome, str):
            return outcome
        raise tokenless(self.addresses.current.options, request, outcome)

    async def _exchange(
        self, request: HttpRequest, latest: float, limit: float, fresh: bool, stays: bool
    ) -> HttpResponse:
        """Send a request with its token, to one address or, where it may go again, to the next ones.

        Args:
            latest: when all of it must be over.
            limit: so much of the time it may take once it has a place.
        """
        loop = asyncio.get_running_loop()
        await self._take_place(request, latest)
        deadline = min(loop.time() + limit, latest)
        place = Place()
        self._busy += 1
        try:
            way = Way(self.addresses, request, stays)
            while True:
                try:
                    answer = await self._send_to(way, place, request, deadline, fresh)
                except ConsulUnavailable as error:
                    if self._closed:
                        raise
                    way.failed(error, over=loop.time() >= deadline)
                else:
                    if way.accepts(answer):
                        place.keeps = True
                        return answer
                await _end(place)
        finally:
            self.give_back(place)

    async def _send_to(
        self, way: Way, place: Place, request: HttpRequest, deadline: float, fresh: bool
    ) -> HttpResponse:
        """Send to one address."""
        connection = place.connection = None if fresh else self._pick(way.peer)
        if connection is None:
            connection = place.connection = await self._open(way, request, deadline, replace=fresh)
        try:
            return await self._ask(connection, request, deadline)
        except (OSError, WireError) as error:
            if not repeatable(request, error, used=connection.used, sent=connection.sent, wire=connection.wire):
                raise no_answer(request, connection, error) from error
        await _end(place)
        connection = place.connection = await self._open(way, request, deadline)
        try:
            return await self._ask(connection, request, deadline)
        except (OSError, WireError) as again:
            raise no_answer(request, connection, again) from again

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

    def token_now(self) -> str | None:
        """The token of a request; None if it must be waited for."""
        found = self._credentials.token()
        return found if isinstance(found, str) else None

    def take(self) -> Place | None:
        """A place with an idle connection to the address in use, for `give_back`; None where one must be waited for."""
        if self._closed or not self._free:
            return None
        connection = self._pick(self.addresses.current)
        if connection is None:
            return None
        place = Place()
        place.connection = connection
        self._taken += 1
        self._busy += 1
        return place

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
            while each._queue and each._free and each._hand_over():
                each._taken += 1

    def _pick(self, peer: Peer) -> AsyncConnection | None:
        """An idle connection to a peer that can be used. Those to others end when the next one is opened.

        A lane without one takes one from the transport: Consul may refuse a new one.
        """
        for each in (self, self._all[-1]):
            while each._idle and each._idle[-1].peer is peer:
                connection = each._idle.pop()  # the one used last is the one most likely alive
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
            while each._idle and sum([one._busy + len(one._idle) for one in self._all]) > self.limit:
                closed.append(each._idle.pop(0))  # the one not used for longest
                closed[-1].abort()
        return closed

    async def _open(self, way: Way, request: HttpRequest, deadline: float, replace: bool = False) -> AsyncConnection:
        """A new connection; with ``replace`` instead of the idle one that was not used for longest."""
        loop, peer = asyncio.get_running_loop(), way.peer
        closed = self._close_others(peer) + self.close_idle()
        if replace and self._idle:
            closed.append(self._idle.pop(0))
            closed[-1].abort()
        if closed:
            await asyncio.wait({each.lost for each in closed})
        deadline = way.connect_until(loop.time(), deadline)
        try:
            places = await places_of(peer, deadline)
        except OSError as error:
            raise unavailable(peer.options, request, "no connection to Consul", sent=False, cause=error) from error
        opening = loop.create_task(connect(peer, places, deadline, self._credentials))
        try:
            await asyncio.wait({opening}, timeout=max(0.0, deadline - loop.time()))
            if not opening.done():
                late = TimeoutError("the time for the request is over")
                raise unavailable(peer.options, request, "no connection to Consul", sent=False, cause=late)
        except GeneratorExit:  # the loop was closed with this under way: no task of it can be ended any more
            raise
        except BaseException:
            opening.add_done_callback(discard)
            opening.cancel()
            await asyncio.wait({opening})  # a cancelled connect ends in the next rounds of the loop
            raise
        try:
            connection = opening.result()
        except (OSError, UnicodeError) as error:
            if peer.secure and closed_in_handshake(error):
                self._allowance.refused(counted=0)
            raise unavailable(peer.options, request, "no connection to Consul", sent=False, cause=error) from error
        self._open_ones.add(connection)
        connection.lost.add_done_callback(lambda _: self._open_ones.discard(connection))
        if self._closed:
            connection.abort()
            raise unavailable(peer.options, request, "the connections are closed", sent=False, outage=False)
        return connection

    def _close_others(self, peer: Peer) -> list[AsyncConnection]:
        """Close idle connections to other peers; returns them as `close_idle`."""
        closed = [connection for connection in self._idle if connection.peer is not peer]
        self._idle[:] = [connection for connection in self._idle if connection.peer is peer]
        for connection in closed:
            connection.abort()
        return closed

    def give_back(self, place: Place) -> None:
        """Free the place; its connection is kept when its request was answered."""
        connection = place.connection
        keeps = place.keeps and not self._closed
        if keeps and connection is not None and connection.wire.reusable and connection.peer is self.addresses.current:
            self._idle.append(connection)
        elif connection is not None:
            connection.abort()
            # Its place is free when it is closed, and not before: else there is one too many for a moment.
            connection.lost.add_done_callback(lambda _: self._leave())
            return
        self._leave()

    def _leave(self) -> None:
        self._busy -= 1
        if self._allowance.lowered:  # maybe since this began
            self.close_idle()
        self._release()


def no_answer(request: HttpRequest, connection: AsyncConnection, error: Exception) -> ConsulUnavailable:
    """The error of a request that failed on a connection."""
    what = "no answer from Consul"
    return unavailable(connection.peer.options, request, what, sent=connection.sent, cause=error)


async def _end(place: Place) -> None:
    """Close the connection of a place, and wait for that: or there would be one too many for a moment."""
    connection = place.connection
    if connection is not None:
        connection.abort()
        await asyncio.wait({connection.lost})
        place.connection = None
