"""client/aio_connection: answers, ends of time and cancellations that come at once; names that are looked up."""

from __future__ import annotations

import asyncio
import socket
import threading
from functools import partial
from typing import Any

import pytest

from consul_locker.client.aio import AsyncTransport
from consul_locker.client.aio_connection import _settle

from ..behaviour.tools import WAIT, eventually
from .drivers import found, named, run
from .servers import OK, PUT, SOON, Server, options, patient


def test_an_answer_that_comes_with_the_end_of_its_time() -> None:
    async def main() -> None:
        transport = AsyncTransport(options(server.port), 1)
        await transport.send(PUT)
        (connection,) = transport._idle
        turn: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        connection._then = partial(_settle, turn)
        connection._fail(TimeoutError("over"))
        connection._fail(TimeoutError("again"))
        connection._received(OK)  # too late
        assert connection.stale
        with pytest.raises(TimeoutError, match="over"):
            await turn
        transport.close()
        await transport.wait_closed()

    with Server(patient) as server:
        run(main)


def test_a_lost_connection_is_gone_although_who_is_told_raises() -> None:
    """Or the transport would wait for its end for ever."""

    def told(heard: object) -> None:
        raise ValueError

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        transport = AsyncTransport(options(server.port), 1)
        await transport.send(PUT)
        (connection,) = transport._idle
        connection.begin(b"", told)
        connection.abort()
        await asyncio.wait_for(connection.lost, WAIT)
        transport.close()
        await transport.wait_closed()

    with Server(patient) as server:
        run(main)


def test_what_is_waited_for_and_the_end_of_the_time_at_once() -> None:
    from consul_locker.client.aio_connection import give_up, wake

    async def main() -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wake(turn)
        give_up(turn, TimeoutError())
        assert turn.result() is None
        late: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        give_up(late, TimeoutError("over"))
        wake(late)
        with pytest.raises(TimeoutError, match="over"):
            await late

    run(main)


def test_cancelled_while_the_name_is_looked_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other requests that share the look-up get its result, in lanes too; it may end after its loop."""
    go = [threading.Event(), threading.Event()]
    calls: list[threading.Thread] = []

    def slow(*_: Any, **__: Any) -> Any:
        calls.append(threading.current_thread())
        go[len(calls) - 1].wait(SOON)
        return found(server.port)()

    async def main() -> None:
        transport = AsyncTransport(named(), 3)
        lane = transport.reserve()
        cancelled, stays = (asyncio.create_task(transport.send(PUT)) for _ in range(2))
        beside = asyncio.create_task(lane.send(PUT))
        await eventually(lambda: len(calls) == 1 and not transport._free)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert transport._free == 1
        go[0].set()
        assert [(await each).status for each in (stays, beside)] == [200, 200]
        assert len(calls) == 1
        transport.close()
        await transport.wait_closed()
        left = asyncio.create_task(AsyncTransport(named()).send(PUT))
        await eventually(lambda: len(calls) == 2)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left

    with Server(patient) as server:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        run(main)
        go[1].set()
        calls[1].join(SOON)
    assert not caplog.records
