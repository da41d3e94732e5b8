"""client/blocking and client/aio: what chance alone reached elsewhere."""

from __future__ import annotations

import socket
import threading

import pytest

from consul_locker.errors import ConsulUnavailable

from ..test_transport import PUT, SOON, Make, Server, make, read_request

__all__ = ["make"]  # the fixture, for both transports


def test_close_ends_a_request_that_the_server_has(make: Make) -> None:
    arrived = threading.Event()

    def silent(sock: socket.socket) -> None:
        read_request(sock)
        arrived.set()
        sock.recv(1)

    with Server(silent) as server:
        driver = make(server, 1)
        running = driver.start(PUT)
        assert arrived.wait(SOON)
        driver.call(driver.transport.close)
        with pytest.raises(ConsulUnavailable) as caught:
            running.result(SOON)
        assert caught.value.sent
