"""The blocking transport and the one for asyncio, driven alike."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from consul_locker.client.addresses import Peer
from consul_locker.client.aio import AsyncTransport
from consul_locker.client.blocking import BlockingTransport
from consul_locker.client.encode import HttpRequest, HttpResponse
from consul_locker.config.options import ClientOptions
from consul_locker.errors import ConsulUnavailable

from .servers import SOON, Server, options


class Blocking:
    """The blocking transport as these tests drive both."""

    def __init__(self, options: ClientOptions, limit: int | None = None) -> None:
        self.transport: Any = BlockingTransport(options, limit)
        self._pool = ThreadPoolExecutor(16)

    @property
    def peer(self) -> Peer:
        return self.transport._addresses.current

    @property
    def idle(self) -> list[Any]:
        return [place.connection for place in self.transport._idle]

    def start(self, request: HttpRequest, timeout: float | None = SOON) -> Future[HttpResponse]:
        return self._pool.submit(self.transport.send, request, timeout)

    def send(self, request: HttpRequest, timeout: float | None = SOON) -> HttpResponse:
        return self.start(request, timeout).result(2 * SOON)

    def call(self, function: Callable[[], Any]) -> Any:
        return function()

    def end(self) -> None:
        self.transport.close()
        self._pool.shutdown()


class Asyncio:
    """The transport for asyncio, on a loop in a thread of its own."""

    def __init__(self, options: ClientOptions, limit: int | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.transport: Any = self.call(lambda: AsyncTransport(options, limit))

    @property
    def peer(self) -> Peer:
        return self.transport.addresses.current

    @property
    def idle(self) -> list[Any]:
        return list(self.transport._idle)

    def start(
        self, request: HttpRequest, timeout: float | None = SOON, on: Any = None, **how: Any
    ) -> Future[HttpResponse]:
        sending: Any = (on or self.transport).send(request, timeout, **how)
        return asyncio.run_coroutine_threadsafe(sending, self.loop)

    def send(self, request: HttpRequest, timeout: float | None = SOON, on: Any = None, **how: Any) -> HttpResponse:
        return self.start(request, timeout, on, **how).result(2 * SOON)

    def call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(SOON)

    def end(self) -> None:
        async def closing() -> set[Any]:
            self.transport.close()
            await self.transport.wait_closed()
            return asyncio.all_tasks() - {asyncio.current_task()}

        left = asyncio.run_coroutine_threadsafe(closing(), self.loop).result(SOON)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(SOON)
        self.loop.close()
        assert not left


Make = Callable[..., Any]


@contextlib.contextmanager
def makes(kind: Any) -> Iterator[Make]:
    """Makes transports, and ends them."""
    made: list[Any] = []

    def maker(target: Any, limit: int | None = None) -> Any:
        made.append(kind(options(target.port) if isinstance(target, Server) else target, limit))
        return made[-1]

    yield maker
    for each in made:
        each.end()


def failure(driver: Any, request: HttpRequest, timeout: float = SOON, **how: Any) -> ConsulUnavailable:
    with pytest.raises(ConsulUnavailable) as caught:
        driver.send(request, timeout, **how)
    assert caught.value.operation == request.operation
    return caught.value


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.002)


def found(*ports: int) -> Callable[..., Any]:
    return lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]


def named(**changes: Any) -> ClientOptions:
    return ClientOptions.build("consul.example", environ={}, **changes)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(main(), SOON)
        assert asyncio.all_tasks() <= {asyncio.current_task()}

    asyncio.run(limited())
