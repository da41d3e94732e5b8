"""client/connection, client/aio_connection: connections that stay open are used again."""

from __future__ import annotations

import socket
import threading

from .drivers import Asyncio, Blocking, Make, failure, until
from .servers import GET, OK, PUT, SOON, Server, answering, closing_at_the_second, patient, read_request


def test_connections_are_used_again(make: Make) -> None:
    with Server(patient) as server:
        driver = make(server, 2)
        for _ in range(5):
            driver.send(PUT)
        assert server.accepted == 1


def test_fresh_connections_are_new(make_asyncio: Make) -> None:
    with Server(patient) as server:
        driver = make_asyncio(server, 2)
        driver.send(PUT)
        driver.send(PUT, fresh=True)
        assert server.accepted == 2
        driver.send(PUT, fresh=True)
        driver.send(PUT, fresh=True)
        assert server.accepted == 4
        driver.send(PUT)
        assert server.accepted == 4


def test_an_idle_connection_that_was_closed_is_replaced(make: Make) -> None:
    closed = threading.Event()

    def once(sock: socket.socket) -> None:
        answering(OK)(sock)
        sock.close()
        closed.set()

    with Server(once, patient) as server:
        driver = make(server)
        driver.send(PUT)
        assert closed.wait(SOON)
        if isinstance(driver, Asyncio):  # its loop has to hear of it
            until(lambda: driver.call(lambda: all(each.stale for each in driver.idle)))
        assert driver.send(PUT).status == 200
        assert server.accepted == 2


def test_what_comes_unasked_is_no_answer_to_the_next_request(make: Make) -> None:
    other = OK.replace(b"[]", b"!!")
    more = threading.Event()

    def chatty(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(OK + other)
        read_request(sock)

    def later(sock: socket.socket) -> None:
        answering(OK)(sock)
        sock.sendall(other)
        more.set()
        sock.recv(1)

    with Server(chatty, later, patient) as server:
        driver = make(server)
        assert driver.send(PUT).body == b"[]"
        assert driver.send(PUT).body == b"[]"
        assert more.wait(SOON)
        if isinstance(driver, Asyncio):
            until(lambda: driver.call(lambda: all(each.stale for each in driver.idle)))
        assert driver.send(PUT).body == b"[]"
        assert server.accepted == 3


def test_a_read_is_repeated_once_on_a_new_connection(make: Make) -> None:
    with Server(closing_at_the_second, patient) as server:
        driver = make(server)
        driver.send(PUT)
        assert driver.send(GET).status == 200
        assert server.accepted == 2
    with Server(closing_at_the_second, answering(b"")) as server:
        driver = make(server)
        driver.send(PUT)
        assert failure(driver, GET).sent
        assert server.accepted == 2


def test_a_write_that_may_have_arrived_is_not_repeated(make: Make) -> None:
    with Server(closing_at_the_second, patient) as server:
        driver = make(server)
        driver.send(PUT)
        assert failure(driver, PUT).sent
        assert server.accepted == 1


def test_a_read_is_not_repeated_where_there_is_nobody_left(make: Make) -> None:
    server = Server(closing_at_the_second)
    with server:
        driver = make(server)
        driver.send(PUT)
        listening = driver.start(GET)
        del listening
        transport = driver.transport
        until(lambda: len(transport._places) == len(transport._idle) if isinstance(driver, Blocking) else True)
    assert not failure(driver, PUT).sent
