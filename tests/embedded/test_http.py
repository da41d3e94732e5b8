"""embedded/http: requests as they may come, whole and byte by byte."""

from __future__ import annotations

import pytest

from consul_locker.embedded.forms import MAX_BODY
from consul_locker.embedded.http import MAX_HEAD, Requests, written

GET = b"GET /v1/kv/a?raw HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"


def read(data: bytes, size: int = 0) -> list[tuple[str, str, bytes, bool] | None]:
    """The requests in some bytes; None for what is no HTTP."""
    requests = Requests()
    for at in range(0, len(data), size or len(data)):
        requests.feed(data[at : at + (size or len(data))])
    return [
        None if asked is None else (asked.request.method, asked.request.target, asked.request.body, asked.stays)
        for asked in requests.whole
    ]


@pytest.mark.parametrize("size", [0, 1, 7])
def test_requests_one_after_another(size: int) -> None:
    get, put = ("GET", "/v1/kv/a?raw", b"", True), ("PUT", "/v1/kv/a", b"ab", True)
    assert read(GET + PUT + GET, size) == [get, put, get]
    head = PUT.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    chunked = head + b"1;e=f\r\na\r\n1\r\nb\r\n0\r\nT: x\r\n\r\n"
    assert read(chunked + GET, size) == [put, get]


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize(
    "last",
    [
        GET.replace(b"Host: x", b"Host: x\r\nConnection: close"),
        GET.replace(b"1.1", b"1.0"),
        GET.replace(b"1.1\r\nHost: x", b"1.0\r\nConnection: keep-alive"),
        GET.replace(b"Host: x", b"Host: x\r\nConnection: upgrade\r\nUpgrade: h2c"),
    ],
)
def test_after_the_last_request_nothing_counts(last: bytes, size: int) -> None:
    assert read(GET + last + GET + b"junk", size) == [
        ("GET", "/v1/kv/a?raw", b"", True),
        ("GET", "/v1/kv/a?raw", b"", False),
    ]


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize(
    "wrong",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * MAX_HEAD + b"\r\n",
    ],
)
def test_what_is_no_http_is_so_once(wrong: bytes, size: int) -> None:
    assert read(GET + wrong + GET, size) == [("GET", "/v1/kv/a?raw", b"", True), None]


def test_a_body_that_is_too_large_is_counted_and_not_kept() -> None:
    requests = Requests()
    requests.feed(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 10))
    for size in (MAX_BODY, 10):
        requests.feed(b"x" * size)
    asked = requests.whole.popleft()
    assert asked is not None
    assert (len(asked.request.body), asked.request.size) == (MAX_BODY, MAX_BODY + 10)


def test_a_large_body_and_many_requests_are_no_large_head() -> None:
    requests = Requests()
    large = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (3 * MAX_HEAD) + b"x" * (3 * MAX_HEAD)
    for data in (large, large[:100], large[100:], GET * (2 * MAX_HEAD // len(GET)), GET):
        requests.feed(data)
    assert None not in requests.whole
    assert len(requests.whole) == 2 * MAX_HEAD // len(GET) + 3


def test_a_client_that_waits_before_it_sends_the_body() -> None:
    requests = Requests()
    waiting = PUT.replace(b"Host: x", b"Host: x\r\nExpect: 100-Continue")
    requests.feed(waiting[:-2])
    assert requests.expects
    requests.feed(waiting[-2:])
    assert not requests.expects
    assert len(requests.whole) == 1
    requests.feed(waiting.replace(b"1.1", b"1.0")[:-2])
    assert not requests.expects


def test_an_answer() -> None:
    assert written(413, [("A", "b")], b"x") == b"HTTP/1.1 413 Request Entity Too Large\r\nA: b\r\n\r\nx"
    assert written(599, [], b"") == b"HTTP/1.1 599 \r\n\r\n"


def test_a_head_without_an_end_is_no_http() -> None:
    requests = Requests()
    requests.feed(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * (MAX_HEAD // 6 + 1))
    assert list(requests.whole) == [None]
