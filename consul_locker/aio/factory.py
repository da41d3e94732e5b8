"""LockerFactory for asyncio."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType

from ..client.addresses import Addresses
from ..config.options import LockerOptions
from ..runtime.delivery import DELIVERY_LIMIT
from ..runtime.io_loop import IoLoop
from .locker import Locker
from .loop import LoopFactory, ends
from .observers import ObserverTask, refuse_wait

__all__ = [
    "LockerFactory",
]


#: The tasks that close factories that were thrown away: an event loop holds its tasks weakly.
_CLOSING: set[asyncio.Task[None]] = set()


class LockerFactory(LoopFactory[Locker]):
    """Makes Lockers that use one Consul; an async context manager.

    Its arguments are those of `consul_locker.LockerFactory`.
    """

    _full_name = "consul_locker.aio.LockerFactory"

    def _prepare(self) -> None:
        self._addresses = Addresses(self._client)
        self._delivery = ObserverTask()
        self._io_loop: IoLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None

    _awaits_observers = True

    def _make(self, options: LockerOptions) -> Locker:
        self._check(open=True)
        if self._io_loop is None:
            client = self._client
            self._io_loop = IoLoop(
                client, self._encoder, self._clock, client.max_connections, addresses=self._addresses
            )
        locker = Locker(self, options, self._io_loop, self._delivery)
        self._lockers.add(locker)
        return locker

    async def close(self, timeout: float | None = None) -> None:
        """Stop the Lockers and close the connections. Calling it again does no harm.

        Nothing is left on the loop: a session that could not be destroyed by then expires by its TTL.

        Args:
            timeout: the limit on the stops together, in seconds; None: twice the limit of a request.

        Raises:
            ConfigurationError: ``timeout`` is not valid.
            RuntimeError: it was called inside an observer, or on another event loop than the factory's.
        """
        limit = self._stop_limit(timeout)
        if self._forked:  # all of it is the parent's (rule 10)
            return
        refuse_wait()
        while not self._over:
            self._check()
            if self._closing is None or self._closing.done():
                self._closed = True
                # A task of its own: it goes on if this call is cancelled, and leaves no session and no socket behind.
                self._closing = asyncio.get_running_loop().create_task(self._close(limit), name="consul_locker-close")
            await asyncio.wait({self._closing})
            if not self._closing.cancelled():  # else other code cancelled it before it began: again
                self._closing.result()

    async def _close(self, limit: float) -> None:
        lockers = self._present()
        stops = [asyncio.get_running_loop().create_task(locker.stop(limit)) for locker in lockers]
        try:
            await ends(stops, limit + DELIVERY_LIMIT)
        finally:
            for stop in stops:
                stop.cancel()  # its limit is on a clock that a test does not move, or this task was cancelled
            await ends(stops)
            if self._io_loop is not None:
                await self._io_loop.close()
            await self._delivery.close()
            if self._own_agent is not None:
                self._own_agent.close()
            self._over = True
            for locker in lockers:
                locker._runtime.state_waits.end()

    async def __aenter__(self) -> LockerFactory:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not GeneratorExit or self._on_own_loop():
            await self.close()

    def _left_open(self) -> bool:
        return not self._over and (self._io_loop is not None or self._own_agent is not None)

    def _close_later(self) -> None:
        with suppress(RuntimeError):  # the loop is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._close_now)

    def _close_now(self) -> None:
        closing = asyncio.get_running_loop().create_task(self.close(), name="consul_locker-dropped")
        _CLOSING.add(closing)
        closing.add_done_callback(_CLOSING.discard)
