"""Requests that need no task: written to an idle connection at once, and answered by a callback.

A task costs two rounds of the event loop more for each request. So transactions go this way whenever nothing has to be
waited for but the answer. What needs more than that (another token, another address) goes on as any other request does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Union

from ..errors import ConfigurationError, ConsulUnavailable
from .addresses import Way
from .aio import AsyncTransport, no_answer
from .aio_connection import Heard, Place
from .credentials import unknown_token, with_token
from .debug import logs
from .encode import HttpRequest, HttpResponse

__all__ = ["Exchange", "Exchanges", "Told"]

#: What comes of an exchange: the answer, or the failure; None: Consul has not done the request, which may go again.
Told = Union[HttpResponse, ConsulUnavailable, None]


#: After this, in seconds, those are told that their time is over that could not be told before: an exception came
#: between.
AGAIN = 0.1


class Exchange:
    """One request under way.

    Attributes:
        alive: cancelled when the loop's tasks are cancelled; set by `Exchanges`.
        deadline: when it fails, on the loop's clock.
    """

    __slots__ = ("_connection", "_ended", "_exchanges", "_place", "_request", "_then", "_way", "alive", "deadline")

    def __init__(
        self, exchanges: Exchanges, place: Place, request: HttpRequest, deadline: float, then: Callable[[Told], None]
    ) -> None:
        assert place.connection is not None
        self._exchanges = exchanges
        self._place: Place | None = place
        self._connection = place.connection
        self._way = Way(exchanges.transport.addresses, request)
        self._request = request
        self._then = then
        self._ended: asyncio.Future[None] | None = None
        self.alive: asyncio.Future[None] | None = None
        self.deadline = deadline

    def ended(self) -> asyncio.Future[None]:
        """Done when it is over."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        return self._ended

    def send(self) -> None:
        """Send it.

        Raises:
            ConfigurationError: it cannot be written as HTTP; nothing was sent.
        """
        self._connection.begin(self._connection.wire.request(self._request), self.heard)

    def heard(self, heard: Heard | asyncio.CancelledError) -> None:
        """It is over. If this is interrupted before the end, it comes again when the time is over."""
        told = self._read(heard)
        self._leave(keeps=isinstance(heard, HttpResponse))
        self._then(told)
        self._over()

    def cancel(self) -> None:
        """Nobody waits for the answer any more: close the connection. The request may take effect all the same."""
        self._leave(keeps=False)
        self._over()

    def _over(self) -> None:
        self._exchanges.over(self)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _leave(self, keeps: bool) -> None:
        place, self._place = self._place, None
        if place is not None:
            self._connection.forget()
            place.keeps = keeps
            self._exchanges.transport.give_back(place)

    def _read(self, heard: Heard | asyncio.CancelledError) -> Told:
        if isinstance(heard, HttpResponse):
            return heard if self._way.accepts(heard) and not unknown_token(heard) else None
        if isinstance(heard, asyncio.CancelledError):
            return ConsulUnavailable("the request was cancelled with all tasks of its event loop", sent=True)
        self._exchanges.transport.addresses.failed(self._connection.peer)
        return no_answer(self._request, self._connection, heard)


class Exchanges:
    """The exchanges over one transport.

    Args:
        transport: whose connections they use.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self.transport = transport
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[Exchange, None] = {}
        # One timer for all: a timer for each would be set and cancelled with each request.
        self._timer: asyncio.TimerHandle | None = None
        self._alive: asyncio.Future[None] | None = None
        self._sentinel: asyncio.Task[None] | None = None

    def begin(self, request: HttpRequest, timeout: float, then: Callable[[Told], None]) -> Exchange | None:
        """Send a request, if nothing has to be waited for before.

        Args:
            request: what to send, without its token.
            timeout: the limit on all of it, in seconds.
            then: called on the loop with what came of it.

        Returns:
            None: it was not sent, and must go as other requests do.
        """
        token = None if logs() else self.transport.token_now()
        place = None if token is None else self.transport.take()
        if token is None or place is None:
            return None
        deadline = self._loop.time() + timeout
        exchange = Exchange(self, place, with_token(request, token), deadline, then)
        try:
            self._under_way[exchange] = None
            if self._timer is None or self._timer.when() > deadline:
                self._set_timer(deadline)
            exchange.alive = self._keep_alive()
            exchange.send()
        except ConfigurationError:  # it cannot be written: who sends it the other way is told so
            exchange.cancel()
            return None
        except BaseException:
            exchange.cancel()
            raise
        return exchange

    def rest(self) -> list[asyncio.Task[None]]:
        """If none is under way, cancel the task that is there for them.

        Returns:
            That task: it ends in the next rounds of the loop.
        """
        sentinel = self._sentinel
        if self._under_way or sentinel is None:
            return []
        self._alive = self._sentinel = None
        sentinel.cancel()
        return [sentinel]

    def _keep_alive(self) -> asyncio.Future[None]:
        """A task that only waits: the end of a loop cancels all tasks, and must not have to wait for an exchange.

        Returns:
            What it waits for, which is cancelled with it at once.
        """
        if self._alive is not None and not self._alive.done():
            return self._alive
        alive = self._alive = self._loop.create_future()
        self._sentinel = self._loop.create_task(_wait_for(alive))
        self._sentinel.add_done_callback(lambda _: alive.cancel())  # it may not even have begun
        alive.add_done_callback(self._cancelled)
        return alive

    def _cancelled(self, alive: asyncio.Future[None]) -> None:
        for exchange in [each for each in self._under_way if each.alive is alive]:
            exchange.heard(asyncio.CancelledError())

    def over(self, exchange: Exchange) -> None:
        """It is under way no more."""
        self._under_way.pop(exchange, None)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        """The time of an exchange may be over."""
        self._timer = None
        now = self._loop.time()
        if self._under_way:
            # Those that are late are under way until they are told. Whoever is told may raise: the others come next.
            self._set_timer(max(now + AGAIN, min([each.deadline for each in self._under_way])))
        for exchange in [each for each in self._under_way if each.deadline <= now]:
            exchange.heard(TimeoutError("the time for the request is over"))


async def _wait_for(future: asyncio.Future[None]) -> None:
    await future
