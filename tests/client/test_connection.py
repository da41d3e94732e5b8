"""client/connection, client/aio_connection: what is sent, what answers mean, and their time."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

import pytest

from consul_locker.client import http as wire_module
from consul_locker.client.aio import AsyncTransport
from consul_locker.client.blocking import BlockingTransport
from consul_locker.client.encode import Encoder, HttpRequest, HttpResponse
from consul_locker.config.options import ClientOptions
from consul_locker.core.requests import CreateSession, DestroySession, Done, SessionCreated
from consul_locker.errors import ConfigurationError

from .drivers import Make, failure, run
from .servers import GET, OK, PUT, SOON, Server, answering, options, patient, read_request, swallowing


def test_what_goes_over_the_wire(make: Make) -> None:
    seen: list[bytes] = []

    def script(sock: socket.socket) -> None:
        while request := read_request(sock):
            seen.append(request)
            sock.sendall(OK)

    with Server(script) as server:
        driver = make(server)
        request = HttpRequest("PUT", "/v1/kv/a", (("dc", "d 1"),), (("X-Consul-Token", "tok"),), b"body")
        assert driver.send(request) == HttpResponse(200, {"x-consul-index": "9", "content-length": "2"}, b"[]")
        driver.send(HttpRequest("PUT", "/v1/x"))
        driver.send(GET)
        host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
        assert seen == [
            b"PUT /v1/kv/a?dc=d+1 HTTP/1.1\r\n" + host + b"X-Consul-Token: tok\r\nContent-Length: 4\r\n\r\nbody",
            b"PUT /v1/x HTTP/1.1\r\n" + host + b"Content-Length: 0\r\n\r\n",
            b"GET /v1/kv/k HTTP/1.1\r\n" + host + b"\r\n",
        ]


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, b""),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 301, b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n", 200, b"[]"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"[]"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", 200, b"<html>"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", 204, b""),
    ],
)
def test_answers_are_handed_on_as_they_are(make: Make, answer: bytes, status: int, body: bytes) -> None:
    with Server(answering(answer)) as server:
        found = make(server).send(PUT)
        assert (found.status, found.body) == (status, body)
        assert server.accepted == 1


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"\0" * 70_000]
)
def test_what_is_no_http_is_an_error(make: Make, answer: bytes) -> None:
    with Server(answering(answer)) as server:
        error = failure(make(server), GET)
        assert error.sent
        assert "no HTTP" in str(error) or "closed" in str(error)


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[", b"HTTP/1.1 2"])
def test_a_connection_closed_without_an_answer(make: Make, beginning: bytes) -> None:
    with Server(answering(beginning)) as server:
        error = failure(make(server), GET)
        assert error.sent
        assert error.cause is not None
        assert server.accepted == 1


@pytest.mark.parametrize("announced", [True, False])
def test_an_answer_may_have_16_mib_and_no_more(make: Make, monkeypatch: pytest.MonkeyPatch, announced: bool) -> None:
    assert wire_module.MAX_ANSWER == 16 * 1024 * 1024
    monkeypatch.setattr(wire_module, "MAX_ANSWER", 1024 * 1024)  # the same in a sixteenth of the time
    full = b"x" * wire_module.MAX_ANSWER

    def answer(body: bytes) -> bytes:
        if announced:
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)

    with Server(answering(answer(full)), answering(answer(full + b"x"))) as server:
        assert len(make(server).send(GET).body) == len(full)
        error = failure(make(server), GET)
        assert "larger than" in str(error)


def test_an_answer_of_more_than_16_mib_is_refused(make: Make) -> None:
    def endless(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sock.sendall(b"x" * 1024 * 1024)

    with Server(endless) as server:
        assert "larger than 16777216 bytes" in str(failure(make(server), GET, 60.0))


def test_a_large_request_and_a_large_answer(make: Make) -> None:
    def echo(sock: socket.socket) -> None:
        body = read_request(sock).partition(b"\r\n\r\n")[2]
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    body = os.urandom(4 * 1024 * 1024)
    with Server(echo) as server:
        assert make(server).send(HttpRequest("PUT", "/", body=body)).body == body


def test_a_request_that_http_cannot_carry_is_refused_without_repeating_the_token(make: Make) -> None:
    with Server(patient) as server:
        driver = make(server)
        for bad in ("secret\r\nX: y", "secret\udc80"):
            with pytest.raises(ConfigurationError) as caught:
                driver.send(HttpRequest("GET", "/", headers=(("X-Consul-Token", bad),), operation="kv get"))
            assert "secret" not in str(caught.value) + repr(caught.value.__cause__)
        assert driver.send(GET).status == 200


def test_a_server_that_drips_cannot_stretch_the_time(make: Make) -> None:
    stop = threading.Event()

    def drip(sock: socket.socket) -> None:
        read_request(sock)
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000:
            sock.sendall(bytes([byte]))
            if stop.wait(0.02):
                return

    with Server(drip) as server:
        begun = time.monotonic()
        error = failure(make(server), GET, 0.3)
        took = time.monotonic() - begun
        stop.set()
        assert 0.28 <= took < 2.0
        assert error.sent
        assert isinstance(error.cause, TimeoutError)
        assert server.accepted == 1


def test_a_server_that_does_not_read_cannot_stretch_the_time(make: Make) -> None:
    stop = threading.Event()

    def deaf(sock: socket.socket) -> None:
        stop.wait(SOON)

    with Server(deaf) as server:
        error = failure(make(server), HttpRequest("PUT", "/", body=b"x" * 20_000_000), 0.3)
        stop.set()
        assert error.sent
        assert isinstance(error.cause, TimeoutError)


def test_a_connect_that_is_not_answered_ends_in_time(make: Make) -> None:
    with swallowing() as port:
        error = failure(make(options(port)), PUT, 0.3)
        assert not error.sent
        assert isinstance(error.cause, TimeoutError)


def test_no_time_at_all(make: Make) -> None:
    with Server(patient) as server:
        driver = make(server)
        assert not failure(driver, PUT, 0.0).sent
        assert driver.send(PUT, None).status == 200
        assert not failure(driver, PUT, -1.0).sent  # not over a connection that is open either


def test_nobody_listens(make: Make) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    error = failure(make(options(port)), PUT)
    assert not error.sent
    assert isinstance(error.cause, ConnectionRefusedError)
    assert f"http://127.0.0.1:{port}" in str(error)
    assert error.status is None


def test_a_real_consul(real_agent: Any) -> None:
    chosen = ClientOptions.build(real_agent.address, environ={})
    encoder = Encoder(chosen)
    create = encoder.encode(
        CreateSession(1, name="test-transport", ttl=None, lock_delay=0.0, behavior="release", checks=())
    )
    transport = BlockingTransport(chosen)
    created = create.decode(transport.send(create))
    assert isinstance(created, SessionCreated)

    async def main() -> None:
        other = AsyncTransport(chosen)
        destroy = encoder.encode(DestroySession(1, session_id=created.session_id))
        assert destroy.decode(await other.send(destroy)) == Done()
        other.close()
        await other.wait_closed()

    run(main)
    transport.close()
