"""client/aio_exchange: requests without a task."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from consul_locker.client.aio import AsyncTransport
from consul_locker.client.aio_exchange import Exchange, Exchanges
from consul_locker.client.encode import HttpRequest, HttpResponse
from consul_locker.config.options import ClientOptions
from consul_locker.errors import ConsulUnavailable

from ..behaviour.tools import eventually
from .drivers import run
from .servers import OK, PUT, SOON, Script, Server, answering, options, patient, read_request

NO_LEADER = b"HTTP/1.1 500 Error\r\nContent-Length: 17\r\n\r\nNo cluster leader"
NO_TOKEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\nACL not found"


def then_silent(sock: socket.socket) -> None:
    """A script that answers once."""
    read_request(sock)
    sock.sendall(OK)
    read_request(sock)
    sock.recv(1)


@asynccontextmanager
async def exchanges(given: ClientOptions, connections: int = 1, warm: bool = True) -> AsyncIterator[Exchanges]:
    """Exchanges over a transport with that many idle connections."""
    transport = AsyncTransport(given, connections)
    made = Exchanges(transport)
    if warm:
        await asyncio.gather(*(transport.send(PUT) for _ in range(connections)))
    try:
        yield made
        assert not made._under_way
        await eventually(lambda: transport._free == connections)
    finally:
        ended = made.rest()
        transport.close()
        await transport.wait_closed()
        if ended:
            await asyncio.wait(ended)


def one(test: Callable[[Exchanges, list[Any]], Any], script: Script = patient, connections: int = 1) -> list[Any]:
    """Run a test; returns what was told."""
    told: list[Any] = []

    async def main() -> None:
        async with exchanges(options(server.port), connections) as made:
            await test(made, told)

    with Server(script) as server:
        run(main)
    return told


def test_answered() -> None:
    async def test(made: Exchanges, told: list[Any]) -> None:
        for _ in range(2):
            exchange = made.begin(PUT, SOON, told.append)
            assert exchange is not None
            assert made.begin(PUT, SOON, told.append) is None  # there is no other connection
            assert made.rest() == []
            assert exchange.ended() is exchange.ended()
            await exchange.ended()

    first, second = one(test)
    assert isinstance(first, HttpResponse)
    assert second.body == b"[]"


def test_nothing_is_idle() -> None:
    async def main() -> None:
        async with exchanges(options(1), warm=False) as made:
            assert made.begin(PUT, SOON, print) is None
            assert made.rest() == []

    run(main)


def test_a_token_that_must_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(made: Exchanges, told: list[Any]) -> None:
        monkeypatch.setattr(made.transport._credentials, "token", lambda: None)
        assert made.begin(PUT, SOON, told.append) is None

    assert one(test) == []


def test_what_consul_has_not_done_may_go_again() -> None:
    async def test(made: Exchanges, told: list[Any]) -> None:
        made.begin(PUT, SOON, told.append)
        await eventually(lambda: told)

    assert one(test, answering(OK, NO_TOKEN)) == [None]
    (alone,) = one(test, answering(OK, NO_LEADER))
    assert alone.status == 500

    async def main() -> None:
        given = ClientOptions.build([f"127.0.0.1:{server.port}", "127.0.0.1:1"], environ={})
        async with exchanges(given) as made:
            await test(made, told)
            assert made.transport.addresses.moves == 1

    told: list[Any] = []
    with Server(answering(OK, NO_LEADER)) as server:
        run(main)
    assert told == [None]


def test_a_connection_that_ends() -> None:
    async def test(made: Exchanges, told: list[Any]) -> None:
        made.begin(PUT, SOON, told.append)
        await eventually(lambda: told)

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(OK)
        read_request(sock)

    (error,) = one(test, script)
    assert isinstance(error, ConsulUnavailable)
    assert error.sent


def test_the_time_is_over() -> None:
    async def test(made: Exchanges, told: list[Any]) -> None:
        later = made.begin(PUT, SOON, told.append)
        for limit in (0.02, 0.01):
            made.begin(PUT, limit, told.append)
        await eventually(lambda: len(told) == 2)
        assert list(made._under_way) == [later]
        assert later is not None
        later.cancel()
        made._look()  # there is nothing left

    for error in one(test, then_silent, 3):
        assert isinstance(error, ConsulUnavailable)
        assert error.sent
        assert "the time for the request is over" in str(error)


def test_one_who_raises_when_its_time_is_over_keeps_it_from_nobody() -> None:
    """A step of its Locker was broken off, say. It is told once more, too."""

    async def test(made: Exchanges, told: list[Any]) -> None:
        def hear(what: Any) -> None:
            raised.append(what)
            if len(raised) == 1:
                raise ValueError

        raised: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        made.begin(PUT, 0.01, hear)
        made.begin(PUT, 0.01, told.append)
        await eventually(lambda: told and len(raised) == 2)

    (error,) = one(test, then_silent, 2)
    assert "the time for the request is over" in str(error)


def test_cancelled() -> None:
    async def test(made: Exchanges, told: list[Any]) -> None:
        exchange = made.begin(PUT, SOON, told.append)
        assert exchange is not None
        ended = exchange.ended()
        exchange.cancel()
        exchange.cancel()
        await ended

    assert one(test, then_silent) == []


def test_what_cannot_be_written_goes_the_other_way() -> None:
    async def test(made: Exchanges, told: list[Any]) -> None:
        assert made.begin(HttpRequest("PUT", "/a b"), SOON, told.append) is None

    assert one(test) == []


def test_interrupted_while_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(exchange: Exchange) -> None:
        raise KeyboardInterrupt

    async def test(made: Exchanges, told: list[Any]) -> None:
        monkeypatch.setattr(Exchange, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made.begin(PUT, SOON, told.append)

    assert one(test) == []


def test_interrupted_while_it_is_told() -> None:
    """Who waits is told when the time is over."""

    async def test(made: Exchanges, told: list[Any]) -> None:
        def hear(what: Any) -> None:
            told.append(what)
            if len(told) == 1:
                raise ValueError

        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        made.begin(PUT, 0.05, hear)
        await eventually(lambda: len(told) == 2)

    answer, error = one(test)
    assert answer.status == 200
    assert "the time for the request is over" in str(error)


def test_all_tasks_of_the_loop_are_cancelled() -> None:
    async def test(made: Exchanges, told: list[Any]) -> None:
        kept = asyncio.all_tasks()
        for rounds in (0, 1):
            first = made.begin(PUT, SOON, told.append)
            assert first is not None
            for _ in range(rounds):
                await asyncio.sleep(0)
            for task in asyncio.all_tasks() - kept:
                task.cancel()
            later = made.begin(PUT, SOON, print) if rounds else None  # by who goes on all the same
            await first.ended()
            assert list(made._under_way) == ([later] if later else [])
        assert later is not None
        later.cancel()

    for error in one(test, then_silent, 3):
        assert isinstance(error, ConsulUnavailable)
        assert error.sent
        assert "cancelled with all tasks" in str(error)
