"""client/blocking, aio, connection, dns, http: HTTP against servers that behave, and that do not.

The servers are plain sockets, so that each can misbehave in exactly one way. Most tests run twice, over the
blocking transport and over the one for asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

from consul_locker.client import connection as connection_module
from consul_locker.client import dns as dns_module
from consul_locker.client import http as wire_module
from consul_locker.client.aio import AsyncTransport
from consul_locker.client.aio_connection import AsyncConnection
from consul_locker.client.blocking import BlockingTransport
from consul_locker.client.connection import Connection
from consul_locker.client.dns import Resolver
from consul_locker.client.encode import Encoder, HttpRequest, HttpResponse
from consul_locker.client.http import Wire, WireError
from consul_locker.client.tls import tls_context
from consul_locker.config.options import ClientOptions
from consul_locker.core.requests import CreateSession, DestroySession, Done, SessionCreated
from consul_locker.errors import ConfigurationError, ConsulUnavailable

from .behaviour.tools import eventually

GET = HttpRequest("GET", "/v1/kv/k", operation="kv get")
PUT = HttpRequest("PUT", "/v1/txn", body=b"[1]", operation="transaction")
OK = b"HTTP/1.1 200 OK\r\nX-Consul-Index: 9\r\nContent-Length: 2\r\n\r\n[]"

#: Seconds that a test waits for what must come at once.
SOON = 10.0

Script = Callable[[socket.socket], None]


def read_request(sock: socket.socket) -> bytes:
    """One request, or what came of it before the peer closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65_536)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        more = sock.recv(65_536)
        if not more:
            break
        body += more
    return head + b"\r\n\r\n" + body


def answering(*answers: bytes) -> Script:
    """A script for one connection: a request, an answer, and so on; then the server closes."""

    def script(sock: socket.socket) -> None:
        for answer in answers:
            if not read_request(sock):
                return
            sock.sendall(answer)

    return script


def patient(sock: socket.socket) -> None:
    """A script that answers whatever comes until the peer closes."""
    while read_request(sock):
        sock.sendall(OK)


def silent(sock: socket.socket) -> None:
    """A script that takes a request and never answers."""
    read_request(sock)
    sock.recv(1)


class Server:
    """A server whose first connections follow the scripts, and all further ones the last of them."""

    def __init__(self, *scripts: Script, path: str | None = None, context: ssl.SSLContext | None = None) -> None:
        self.scripts = scripts
        self.context = context
        self.listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self.listener.bind(path or ("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = None if path else self.listener.getsockname()[1]
        self.accepted = 0
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Server:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SOON)
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            script = self.scripts[min(self.accepted, len(self.scripts) - 1)]
            self.accepted += 1
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock, script), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, script: Script) -> None:
        try:
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            with sock:
                script(sock)
        except OSError:
            sock.close()


def options(port: int | None, **changes: Any) -> ClientOptions:
    return ClientOptions.build("127.0.0.1", port, environ={}, **changes)


class Blocking:
    """The blocking transport as these tests drive both."""

    def __init__(self, options: ClientOptions, limit: int | None = None) -> None:
        self.transport: Any = BlockingTransport(options, limit)
        self._pool = ThreadPoolExecutor(16)

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


@pytest.fixture(params=[Blocking, Asyncio])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes a transport to a server: ``make(server)`` or ``make(options)``."""
    with makes(request.param) as maker:
        yield maker


@pytest.fixture
def make_asyncio() -> Iterator[Make]:
    """The same, for what only the transport for asyncio has: fresh connections and lanes, which renewals need."""
    with makes(Asyncio) as maker:
        yield maker


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


# ----------------------------------------------------------------------------------------- requests and answers


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


# ----------------------------------------------------------------------------------------------------- deadlines


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


@contextlib.contextmanager
def swallowing() -> Iterator[int]:
    """A port whose connects are not answered: the queue of a listener that accepts nobody is soon full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


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


# ---------------------------------------------------------------------------------------------------- keep-alive


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
            until(lambda: driver.call(lambda: all(each.stale for each in driver.transport._idle)))
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
            until(lambda: driver.call(lambda: all(each.stale for each in driver.transport._idle)))
        assert driver.send(PUT).body == b"[]"
        assert server.accepted == 3


def closing_at_the_second(sock: socket.socket) -> None:
    """Answers one request, and closes upon the next without a word: as a server does that just timed out."""
    answering(OK)(sock)
    read_request(sock)


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
        until(lambda: not driver.transport._places if isinstance(driver, Blocking) else True)
    assert not failure(driver, PUT).sent


# ---------------------------------------------------------------------------------------------------- the limit


def gate() -> tuple[threading.Event, Script]:
    """A script that answers the first request of each connection once the gate is open."""
    opened = threading.Event()

    def script(sock: socket.socket) -> None:
        while read_request(sock):
            opened.wait(SOON)
            sock.sendall(OK)

    return opened, script


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
            connect = transport._connect

            async def connecting(*args: Any) -> Any:
                transport.close()
                return await connect(*args)

            transport._connect = connecting
        error = failure(driver, PUT)
        assert not error.sent
        assert "closed" in str(error)


# --------------------------------------------------------------------------------------- addresses and sockets


def test_a_unix_socket(make: Make, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with Server(patient, path=path):
        assert make(ClientOptions.build(f"unix://{path}", environ={})).send(PUT).status == 200
    error = failure(make(ClientOptions.build(f"unix://{path}.gone", environ={})), PUT)
    assert not error.sent
    assert f"unix://{path}.gone" in str(error)


def test_a_name_is_looked_up(make: Make) -> None:
    with Server(patient) as server:
        assert make(ClientOptions.build("localhost", server.port, environ={})).send(PUT).status == 200
    assert not failure(make(ClientOptions.build("no-such-host.invalid", environ={})), PUT).sent


def found(*ports: int) -> Callable[..., Any]:
    return lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]


def named(**changes: Any) -> ClientOptions:
    return ClientOptions.build("consul.example", environ={}, **changes)


def test_a_name_with_several_addresses(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(patient) as server, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = unused.getsockname()[1]
        monkeypatch.setattr(socket, "getaddrinfo", found(dead, server.port))
        assert make(named()).send(PUT).status == 200
        first = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", dead, 0, 0))  # no one there, or no IPv6 at all
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [first, *found(server.port)()])
        assert make(named()).send(PUT).status == 200
        monkeypatch.setattr(socket, "getaddrinfo", found(dead, dead))
        assert isinstance(failure(make(named()), PUT).cause, ConnectionRefusedError)
        monkeypatch.setattr(socket, "getaddrinfo", found())
        assert "no addresses" in str(failure(make(named()), PUT))


def test_an_address_that_does_not_answer_leaves_time_for_the_others(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(patient) as server, swallowing() as port:
        monkeypatch.setattr(socket, "getaddrinfo", found(port, server.port))
        assert make(named()).send(PUT, 1.0).status == 200


def test_a_slow_look_up_is_limited_and_shared(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    go, calls = threading.Event(), []

    def slow(*args: Any, **_: Any) -> Any:
        calls.append(args)
        go.wait(SOON)
        raise socket.gaierror("nobody knows")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    driver = make(named())
    for _ in range(2):
        error = failure(driver, PUT, 0.05)
        assert not error.sent
        assert isinstance(error.cause, TimeoutError)
        assert "the name consul.example was not resolved in time" in str(error)
    waiting = driver.start(PUT)
    assert len(calls) == 1
    (thread,) = [each for each in threading.enumerate() if each.name == "consul_locker-dns"]
    assert thread.daemon
    go.set()
    thread.join(SOON)
    for each in (waiting, driver.start(PUT)):  # the second may share what the first one asks anew
        with pytest.raises(ConsulUnavailable, match="nobody knows"):
            each.result(SOON)
    assert driver.transport._resolver._running is None


class NoThread:
    """What starts no thread, as where there are too many, or the interpreter is going down."""

    def __init__(self, **_: Any) -> None:
        pass

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver's module cannot start a thread; the rest of the process can."""
    monkeypatch.setattr(dns_module, "threading", SimpleNamespace(Lock=threading.Lock, Thread=NoThread))


@pytest.mark.usefixtures("no_threads")
def test_addresses_need_no_thread(make: Make, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with Server(patient) as server, Server(patient, path=path):
        assert make(server).send(PUT).status == 200
        assert make(ClientOptions.build(f"unix://{path}", environ={})).send(PUT).status == 200


@pytest.mark.usefixtures("no_threads")
def test_where_no_thread_can_be_started_a_name_is_not_looked_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(answering(OK)) as server:
        driver = make(ClientOptions.build("localhost", server.port, environ={}))
        error = failure(driver, PUT)
        assert not error.sent
        assert "the name localhost cannot be looked up: can't start new thread" in str(error)
        with monkeypatch.context() as again:
            again.setattr(dns_module, "threading", threading)
            assert driver.send(GET).status == 200
        assert driver.send(GET).status == 200  # over a new connection, to the address found before
        assert server.accepted == 2


# ----------------------------------------------------------------------------------------------------------- TLS


class Certificates:
    """An authority, a server's context and a client's files, all made for one test run."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.pem = self.ca.cert_pem.bytes().decode()
        self.file = folder / "ca.pem"
        self.file.write_text(self.pem)
        client = self.ca.issue_cert("client.example")
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.cert.write_bytes(client.cert_chain_pems[0].bytes())
        self.key.write_bytes(client.private_key_pem.bytes())

    def server(self, *names: str, client: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        if client:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def secure(port: int | None, environ: dict[str, str] | None = None, **changes: Any) -> ClientOptions:
    return ClientOptions.build("127.0.0.1", port, True, environ=environ or {}, **changes)


def test_tls(make: Make, certificates: Certificates) -> None:
    with Server(patient, context=certificates.server("127.0.0.1")) as server:
        driver = make(secure(server.port, ca=[certificates.pem]))
        for _ in range(3):
            assert driver.send(PUT).status == 200
        assert server.accepted <= 2  # session tickets that come late may cost one connection
        assert make(secure(server.port, {"CONSUL_CACERT": str(certificates.file)})).send(PUT).status == 200


def test_tls_trusts_nobody_else(make: Make, certificates: Certificates) -> None:
    with Server(patient, context=certificates.server("127.0.0.1")) as server:
        for driver in (make(secure(server.port)), make(secure(server.port, ca=trustme.CA().cert_pem.bytes().decode()))):
            error = failure(driver, PUT)
            assert not error.sent
            assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        unchecked = secure(server.port, {"CONSUL_HTTP_SSL_VERIFY": "false"})
        assert make(unchecked).send(PUT).status == 200


def test_tls_wants_the_right_name(make: Make, certificates: Certificates) -> None:
    with Server(patient, context=certificates.server("server.dc1.consul")) as server:
        assert not failure(make(secure(server.port, ca=[certificates.pem])), PUT).sent
        named = secure(server.port, {"CONSUL_TLS_SERVER_NAME": "server.dc1.consul"}, ca=[certificates.pem])
        assert make(named).send(PUT).status == 200


def test_tls_with_a_client_certificate(make: Make, certificates: Certificates) -> None:
    with Server(patient, context=certificates.server("127.0.0.1", client=True)) as server:
        driver = make(secure(server.port, ca=[certificates.pem], cert=certificates.cert, key=certificates.key))
        assert driver.send(PUT).status == 200
        failure(make(secure(server.port, ca=[certificates.pem])), PUT)


def test_a_handshake_that_is_not_answered_ends_in_time(make: Make) -> None:
    with Server(silent) as server:
        error = failure(make(secure(server.port)), PUT, 0.3)
        assert not error.sent


def test_certificates_that_cannot_be_used(certificates: Certificates, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
    for kwargs in ({"ca": [broken.read_text()]}, {"environ": {"CONSUL_CACERT": str(broken)}}):
        with pytest.raises(ConfigurationError):
            tls_context(secure(1, **kwargs))
    with pytest.raises(ConfigurationError) as caught:
        tls_context(secure(1, cert=certificates.cert, key=broken))
    assert caught.value.option == "cert"


# ------------------------------------------------------------------------------------- the blocking one's own


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
        chosen = options(server.port)
        resolver = Resolver(chosen.host, chosen.port)
        deadline = time.monotonic() + SOON
        connection = Connection.open(chosen, None, resolver, deadline)
        connection._socket = Breaking(connection._socket)
        assert connection.send(request, deadline).status == 413
        assert not connection.wire.reusable
        connection.close()
        connection = Connection.open(chosen, None, resolver, deadline)
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
        idle = transport._idle[0]

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


# --------------------------------------------------------------------------------------------- asyncio's own


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(main(), SOON)
        assert asyncio.all_tasks() <= {asyncio.current_task()}

    asyncio.run(limited())


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
        await eventually(lambda: any(each._answer for each in transport._open_ones))
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
        # who has given up already is passed over
        late: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        late.cancel()
        transport._queue.append(late)
        assert (await transport.send(PUT)).status == 200
        assert transport._free == 1
        transport.close()
        await transport.wait_closed()

    with Server(patient) as server:
        run(main)


def test_cancelled_while_it_connects() -> None:
    async def main() -> None:
        transport = AsyncTransport(options(server.port), 1)
        connect = transport._connect
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

        transport._connect = slow
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


def test_a_connection_that_was_lost_before_the_request() -> None:
    async def main() -> None:
        transport = AsyncTransport(options(server.port))
        connect = transport._connect

        async def lost(*args: Any) -> AsyncConnection:
            opened = await connect(*args)
            opened.abort()
            return opened

        transport._connect = lost
        with pytest.raises(ConsulUnavailable) as caught:
            await transport.send(PUT)
        assert not caught.value.sent
        transport.close()
        await transport.wait_closed()

    with Server(patient) as server:
        run(main)


def test_an_answer_that_comes_with_the_end_of_its_time() -> None:
    async def main() -> None:
        transport = AsyncTransport(options(server.port), 1)
        await transport.send(PUT)
        (connection,) = transport._idle
        turn: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        connection._answer = turn
        connection._fail(TimeoutError("over"))
        connection._fail(TimeoutError("again"))
        connection.data_received(OK)  # too late
        assert connection.stale
        with pytest.raises(TimeoutError, match="over"):
            await turn
        connection._answer = None
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
    """Of the look-up nobody is left out who shares it, lanes neither, nor does it stumble over a closed loop."""
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


# ------------------------------------------------------------------------------------------------------ the wire


def test_the_wire_goes_through_any_number_of_requests() -> None:
    wire = Wire("h")
    for _ in range(3):
        assert wire.request(GET).startswith(b"GET /v1/kv/k HTTP/1.1\r\nHost: h\r\n")
        assert not wire.reusable
        for byte in OK[:-1]:
            assert wire.feed(bytes([byte])) is None
            assert wire.started
        answer = wire.feed(OK[-1:])
        assert answer is not None
        assert answer.body == b"[]"
        assert wire.reusable


def test_the_wire_refuses_a_switch_of_protocols() -> None:
    wire = Wire("h")
    wire.request(GET)
    with pytest.raises(WireError):
        wire.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + OK)
        wire.feed(b"")


def test_a_message_without_a_cause() -> None:
    chosen = options(1)
    error = wire_module.unavailable(chosen, HttpRequest("GET", "/"), "nothing", sent=False, cause=EOFError())
    assert str(error) == "GET: nothing at http://127.0.0.1:1: EOFError"


# ------------------------------------------------------------------------------------------------- a real Consul


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


def test_what_a_closed_loop_left_open_is_let_go() -> None:
    """A loop that was closed with a connection, and with a connect under way: nothing may be done on it any more."""

    async def begun(transport: AsyncTransport, request: HttpRequest) -> None:
        opening = transport._open(request, asyncio.get_running_loop().time() + 30)
        opening.send(None)
        (connecting,) = asyncio.all_tasks() - {asyncio.current_task()}
        opening.close()  # as the garbage collector does
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await connecting

    async def connected(transport: AsyncTransport) -> AsyncConnection:
        deadline = asyncio.get_running_loop().time() + 30
        return await transport._connect(await transport._places(deadline), deadline)

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
