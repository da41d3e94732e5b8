"""client/blocking: interrupts, forks, and connections that break while a request is written."""

from __future__ import annotations

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from consul_locker.client import connection as connection_module
from consul_locker.client.addresses import Peer
from consul_locker.client.blocking import BlockingTransport
from consul_locker.client.connection import Connection
from consul_locker.client.encode import HttpRequest
from consul_locker.client.http import Wire
from consul_locker.errors import ConsulUnavailable

from .drivers import Make
from .servers import GET, OK, PUT, SOON, Server, closing_at_the_second, options, patient, read_request


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


@pytest.mark.xdist_group("processes and signals")
def test_an_interrupted_send_closes_its_connection_and_gives_its_place_back() -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    closed = threading.Event()

    def script(sock: socket.socket) -> None:
        read_request(sock)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert sock.recv(1) == b""
        closed.set()

    # A shell that starts the tests in the background lets them ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Server(script, patient) as server:
            transport = BlockingTransport(options(server.port), 1)
            with pytest.raises(KeyboardInterrupt):
                transport.send(PUT)
            assert closed.wait(SOON)
            assert transport.send(PUT).status == 200
            transport.close()
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_answer_that_comes_before_the_request_is_whole() -> None:
    """As a server does that finds the body too large: it answers and closes."""

    def early(sock: socket.socket) -> None:
        sock.recv(1_000)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)

    class Breaking:
        """A socket whose second write fails, as on a connection that the peer has closed."""

        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock
            self._writes = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        def send(self, data: memoryview) -> int:
            self._writes += 1
            if self._writes > 1:
                raise BrokenPipeError("broken")
            return self._sock.send(data[:100])

    ended = threading.Event()

    def mute(sock: socket.socket) -> None:
        sock.recv(1_000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        ended.set()

    request = HttpRequest("PUT", "/", body=b"x" * 1_000)
    with Server(early, mute) as server:
        peer = Peer(options(server.port))
        deadline = time.monotonic() + SOON
        connection = Connection.open(peer, None, deadline)
        connection._socket = Breaking(connection._socket)
        assert connection.send(request, deadline).status == 413
        assert not connection.wire.reusable
        connection.close()
        connection = Connection.open(peer, None, deadline)
        breaking = Breaking(connection._socket)
        connection._socket = breaking
        breaking._writes = 1
        with pytest.raises(BrokenPipeError):  # nothing left: the request may go again
            connection.send(request, deadline)
        assert not connection.sent
        breaking._writes = 0
        connection.wire = Wire("h")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.send(request, deadline)
        assert ended.wait(SOON)
        assert connection.sent
        connection.abort()
        connection.close()


def test_a_write_of_which_nothing_left_goes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(patient) as server:
        transport = BlockingTransport(options(server.port))
        transport.send(PUT)
        idle = transport._idle[0].connection
        assert idle is not None

        class Dead:
            def __init__(self, sock: socket.socket) -> None:
                self.close = sock.close
                self.settimeout = sock.settimeout

            def send(self, data: memoryview) -> int:
                raise ConnectionResetError("reset")

        idle._socket = Dead(idle._socket)
        assert transport.send(PUT).status == 200
        assert server.accepted == 2
        transport.close()


def test_a_request_repeated_in_vain() -> None:
    with Server(closing_at_the_second) as server:
        transport = BlockingTransport(options(server.port))
        transport.send(PUT)
        server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        with pytest.raises(ConsulUnavailable) as caught:
            transport.send(GET)
        assert not caught.value.sent
        transport.close()


def test_after_a_fork_nothing_is_sent() -> None:
    with Server(patient) as server:
        transport = BlockingTransport(options(server.port))
        transport.send(PUT)
        transport._pid += 1  # what a child sees
        with pytest.raises(RuntimeError, match="fork"):
            transport.send(PUT)
        transport.close()


def test_interrupted_while_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with Server(patient) as server:
        transport = BlockingTransport(options(server.port), 1)
        monkeypatch.setattr(connection_module, "Wire", interrupted)
        with pytest.raises(KeyboardInterrupt):
            transport.send(PUT)
        monkeypatch.undo()
        assert transport.send(PUT).status == 200
        transport.close()


def test_where_an_idle_connection_has_closed_another_idle_one_is_used() -> None:
    both = threading.Barrier(2)

    def script(sock: socket.socket) -> None:
        """Answers its first request when there are two connections, then one more, and closes."""
        read_request(sock)
        both.wait(SOON)
        sock.sendall(OK)
        if read_request(sock):
            sock.sendall(OK)

    with Server(script) as server:
        transport = BlockingTransport(options(server.port), 2)
        with ThreadPoolExecutor(2) as pool:
            assert [future.result(SOON).status for future in [pool.submit(transport.send, GET) for _ in range(2)]]
        assert transport.send(GET).status == 200
        last = transport._idle[-1].connection
        assert last is not None
        eventually_stale = time.monotonic() + SOON
        while not last.stale:
            assert time.monotonic() < eventually_stale
        assert transport.send(GET).status == 200
        assert server.accepted == 2
        transport.close()
