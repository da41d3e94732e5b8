"""client/aio: cancellation, and loops that are closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

import pytest

from consul_locker.client import aio
from consul_locker.client.addresses import Way
from consul_locker.client.aio import AsyncTransport
from consul_locker.client.aio_connection import AsyncConnection, connect, places_of
from consul_locker.client.encode import HttpRequest
from consul_locker.errors import ConsulUnavailable

from ..behaviour.tools import eventually
from .drivers import run
from .servers import PUT, SOON, Server, options, patient, read_request


def test_a_cancelled_send_closes_its_connection_and_gives_its_place_back() -> None:
    closed = threading.Event()

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.recv(1)
        closed.set()

    async def main() -> None:
        transport = AsyncTransport(options(server.port), 1)
        sending = asyncio.create_task(transport.send(PUT))
        await eventually(lambda: server.accepted == 1)
        await eventually(lambda: any(each._then for each in transport._open_ones))
        waiting = asyncio.create_task(transport.send(PUT))
        await asyncio.sleep(0)
        waiting.cancel()
        sending.cancel()
        for each in (waiting, sending):
            with pytest.raises(asyncio.CancelledError):
                await each
        await eventually(closed.is_set)
        assert (await transport.send(PUT)).status == 200
        assert transport._free == 1
        transport.close()
        await transport.wait_closed()

    with Server(script, patient) as server:
        run(main)


def test_cancelled_at_the_moment_a_place_is_handed_over() -> None:
    async def main() -> None:
        transport = AsyncTransport(options(server.port), 1)
        first = asyncio.create_task(transport.send(PUT))
        await asyncio.sleep(0)
        second = asyncio.create_task(transport.send(PUT))
        await asyncio.sleep(0)
        hand_over = transport._hand_over
        transport._hand_over = lambda: hand_over() and second.cancel()
        await first
        transport._hand_over = hand_over
        with pytest.raises(asyncio.CancelledError):
            await second
        assert transport._free == 1
        # a request that has given up already is passed over
        late: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        late.cancel()
        transport._queue.append(late)
        assert (await transport.send(PUT)).status == 200
        assert transport._free == 1
        transport.close()
        await transport.wait_closed()

    with Server(patient) as server:
        run(main)


def test_cancelled_while_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        transport = AsyncTransport(options(server.port), 1)
        reached, stubborn = asyncio.Event(), [False, True]

        async def slow(*args: Any) -> Any:
            opened = await connect(*args)
            reached.set()
            try:
                await asyncio.sleep(SOON)
            except asyncio.CancelledError:
                if not stubborn.pop(0):
                    opened.abort()
                    raise
            return opened

        monkeypatch.setattr(aio, "connect", slow)
        while stubborn:
            reached.clear()
            sending = asyncio.create_task(transport.send(PUT))
            await reached.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert transport._free == 1
            assert not transport._open_ones
        await asyncio.sleep(0)
        transport.close()

    with Server(patient) as server:
        run(main)


def test_a_connection_that_was_lost_before_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        transport = AsyncTransport(options(server.port))

        async def lost(*args: Any) -> AsyncConnection:
            opened = await connect(*args)
            opened.abort()
            return opened

        monkeypatch.setattr(aio, "connect", lost)
        with pytest.raises(ConsulUnavailable) as caught:
            await transport.send(PUT)
        assert not caught.value.sent
        transport.close()
        await transport.wait_closed()

    with Server(patient) as server:
        run(main)


def test_what_a_closed_loop_left_open_is_let_go() -> None:
    """A loop that was closed with a connection, and with a connect under way: nothing may be done on it any more."""

    async def begun(transport: AsyncTransport, request: HttpRequest) -> None:
        opening = transport._open(Way(transport.addresses, request), request, asyncio.get_running_loop().time() + 30)
        opening.send(None)
        (connecting,) = asyncio.all_tasks() - {asyncio.current_task()}
        opening.close()  # as the garbage collector does
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await connecting

    async def connected(transport: AsyncTransport) -> AsyncConnection:
        peer, deadline = transport.addresses.current, asyncio.get_running_loop().time() + 30
        return await connect(peer, await places_of(peer, deadline), deadline, transport._credentials)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport = AsyncTransport(options(listener.getsockname()[1]))
        asyncio.run(begun(transport, HttpRequest("GET", "/")))
        loop = asyncio.new_event_loop()
        connection = loop.run_until_complete(connected(transport))
        sock = connection._transport.get_extra_info("socket")
        connection._transport.abort()
        loop.run_until_complete(asyncio.wait_for(connection.lost, 30))
        loop.close()
        connection.abort()
        assert sock.fileno() == -1
