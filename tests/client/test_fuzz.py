"""client: whatever bytes a server answers with, over both transports: an answer, or an error of ours, in time."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consul_locker.client.encode import HttpRequest, HttpResponse
from consul_locker.client.http import Wire, WireError
from consul_locker.errors import ConsulUnavailable

from .drivers import Asyncio, Blocking
from .examples import ALL, plain
from .servers import options, read_request

GET = HttpRequest("GET", "/v1/kv/k", operation="kv get")
PUT = HttpRequest("PUT", "/v1/txn", body=b"[]", operation="transaction")
#: The limit on a request, in seconds: what a server that says too little costs here.
LIMIT = 0.15
#: More than a busy machine takes to see that the time is over, in seconds.
SLACK = 3.0

#: What answers are made of, right and wrong.
PIECES = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 404 Not Found\r\n",
    b"HTTP/1.1 409\r\n",
    b"HTTP/1.1 500 Internal Server Error\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/2.0 200 OK\r\n",
    b"Content-Length: 2\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"X-Consul-Index: 9\r\n",
    b"X-Consul-Index: -9\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"[]",
    b"true",
    b"[",
    b'{"Results":[{"KV":{"LockIndex":0,"Key":"k","Flags":0,"Value":"e30=","CreateIndex":1,"ModifyIndex":1}}]}',
    b'{"Errors":[{"OpIndex":0,"What":"failed to lock key"}]}',
    b"2\r\n[]\r\n",
    b"0\r\n\r\n",
    b"0\r\nTrailer: x\r\n\r\n",
    b"X: " + b"y" * 70_000,
]
RIGHT = [
    b"HTTP/1.1 200 OK\r\nX-Consul-Index: 9\r\nContent-Length: 2\r\n\r\n[]",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
    b"HTTP/1.1 409 Conflict\r\nContent-Length: 54\r\n\r\n" + b'{"Errors":[{"OpIndex":0,"What":"failed to lock key"}]}',
    b"HTTP/1.0 200 OK\r\n\r\n[]",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A right answer, parts of which were cut out, doubled, or written over."""
    answer = draw(st.sampled_from(RIGHT))
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(answer)))
        end = draw(st.integers(begin, min(len(answer), begin + 6)))
        middle = draw(st.one_of(st.just(b""), st.just(answer[begin:end] * 2), st.binary(max_size=3)))
        answer = answer[:begin] + middle + answer[end:]
    return answer


answers = st.one_of(
    damaged(),
    st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join),
    st.binary(max_size=40),
)


class Fuzzed:
    """A server whose every connection answers each request with ``answer``, and then closes or stays."""

    def __init__(self) -> None:
        self.answer = b""
        self.closes = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            while read_request(sock):
                sock.sendall(self.answer)
                if self.closes:
                    return

    def end(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10.0)


@pytest.fixture(params=[Blocking, Asyncio], scope="module")
def fuzzed(request: pytest.FixtureRequest) -> Iterator[tuple[Fuzzed, Any]]:
    server = Fuzzed()
    driver = request.param(options(server.port))
    yield server, driver
    driver.end()
    server.end()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=answers, closes=st.sampled_from([True, True, True, False]), request=st.sampled_from([GET, PUT]))
def test_whatever_a_server_answers(fuzzed: Any, answer: bytes, closes: bool, request: HttpRequest) -> None:
    server, driver = fuzzed
    server.answer, server.closes = answer, closes
    begun = time.monotonic()
    try:
        found = driver.send(request, LIMIT)
    except ConsulUnavailable as error:
        assert error.sent or isinstance(error.cause, TimeoutError)
        assert error.operation == request.operation
        assert error.cause is not None
    else:
        assert 100 <= found.status <= 999
        for asked in ALL:
            assert plain.encode(asked).decode(found) is not None
    assert time.monotonic() - begun < LIMIT + SLACK


def read(feeds: list[bytes]) -> tuple[HttpResponse | None, bool] | None:
    """What a connection makes of some feeds and the end; None for what is refused."""
    wire = Wire("h")
    wire.request(GET)
    try:
        for data in feeds:
            answer = wire.feed(data)
            if answer is not None:
                return answer, wire.reusable
        return wire.feed(b""), wire.reusable
    except WireError:
        return None


@settings(max_examples=300, deadline=None)
@given(answer=answers, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_it_does_not_matter_how_an_answer_is_cut(answer: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    feeds = [answer[begin:end] for begin, end in itertools.pairwise(places)]
    whole, cut = read([answer] if answer else []), read(feeds)
    # what follows an answer is seen only where it comes with its end
    assert (whole is None) == (cut is None)
    if whole is not None and cut is not None:
        assert whole[0] == cut[0]
        assert cut[1] >= whole[1]
