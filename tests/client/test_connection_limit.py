"""client/blocking, client/aio: the limit on connections, lanes, and what `close` ends."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from consul_locker.client import aio
from consul_locker.client.aio_connection import connect
from consul_locker.client.connection import Connection
from consul_locker.errors import ConsulUnavailable

from .drivers import Blocking, Make, failure, until
from .servers import PUT, SOON, Server, gate, patient, silent


def test_no_more_connections_than_the_limit(make: Make) -> None:
    opened, script = gate()
    with Server(script) as server:
        driver = make(server, 2)
        running = [driver.start(PUT) for _ in range(8)]
        until(lambda: server.accepted == 2)
        error = failure(driver, PUT, 0.1)
        assert not error.sent
        assert "became free" in str(error)
        opened.set()
        assert all(each.result(SOON).status == 200 for each in running)
        assert server.accepted == 2


def test_a_lane_has_what_no_other_takes(make_asyncio: Make) -> None:
    opened, script = gate()
    with Server(script, patient) as server:
        driver = make_asyncio(server, 2)
        lane = driver.call(driver.transport.reserve)
        running = driver.start(PUT)
        until(lambda: server.accepted == 1)
        assert driver.send(PUT, on=lane).status == 200
        assert driver.send(PUT, on=lane, fresh=True).status == 200
        assert server.accepted == 3
        opened.set()
        assert running.result(SOON).status == 200


def test_close_ends_what_is_under_way_and_what_waits(make: Make) -> None:
    with Server(silent) as server:
        driver = make(server, 1)
        running = [driver.start(PUT), driver.start(PUT)]
        until(lambda: server.accepted == 1)
        driver.call(driver.transport.close)
        for each in running:
            with pytest.raises(ConsulUnavailable):
                each.result(SOON)
        assert "closed" in str(failure(driver, PUT))
        driver.call(driver.transport.close)


def test_close_ends_lanes_too(make_asyncio: Make) -> None:
    with Server(silent) as server:
        driver = make_asyncio(server, 1)
        lane = driver.call(driver.transport.reserve)
        running = driver.start(PUT, on=lane)
        until(lambda: server.accepted == 1)
        driver.call(driver.transport.close)
        with pytest.raises(ConsulUnavailable):
            running.result(SOON)
        for closed in (lane, driver.call(driver.transport.reserve)):
            assert "closed" in str(failure(driver, PUT, on=closed))


def test_close_with_idle_connections(make: Make) -> None:
    gone = threading.Event()

    def script(sock: socket.socket) -> None:
        patient(sock)
        gone.set()

    with Server(script) as server:
        driver = make(server)
        driver.send(PUT)
        driver.call(driver.transport.close)
        assert gone.wait(SOON)


def test_closed_while_it_connects(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(patient) as server:
        driver = make(server)
        transport = driver.transport
        if isinstance(driver, Blocking):
            original = Connection.open

            def opening(*args: Any) -> Connection:
                transport.close()
                return original(*args)

            monkeypatch.setattr(Connection, "open", opening)
        else:

            async def connecting(*args: Any) -> Any:
                transport.close()
                return await connect(*args)

            monkeypatch.setattr(aio, "connect", connecting)
        error = failure(driver, PUT)
        assert not error.sent
        assert "closed" in str(error)
