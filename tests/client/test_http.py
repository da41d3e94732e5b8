"""client/http: what a parser lets through that answers only to C, and what it must not.

Each answer is fed as a whole and byte by byte: both must come to the same.
"""

from __future__ import annotations

import gc
import sys
import time
import weakref
from typing import Any

import pytest

from consul_locker.client import http
from consul_locker.client.encode import HttpRequest, HttpResponse
from consul_locker.client.http import KNOWN_HEADS, MAX_HEAD, Wire, WireError
from consul_locker.errors import ConfigurationError

from .servers import options

GET = HttpRequest("GET", "/v1/kv/k", operation="kv get")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def fed(*feeds: bytes) -> tuple[HttpResponse, bool]:
    """The answer that comes of some feeds, which must be there with the last; and whether the connection stays."""
    wire = Wire("h")
    wire.request(GET)
    for number, data in enumerate(feeds):
        answer = wire.feed(data)
        if answer is not None:
            assert number == len(feeds) - 1
            return answer, wire.reusable
    raise AssertionError("no answer")


def ways(answer: bytes) -> list[tuple[bytes, ...]]:
    """The same bytes as they may come."""
    middle = len(answer) // 2
    return [(answer,), (answer[:middle], answer[middle:]), tuple(bytes([byte]) for byte in answer)]


def refused(answer: bytes, *, ends: bool = False) -> str:
    """Why an answer is refused, however it comes."""
    said = set()
    for feeds in ways(answer):
        with pytest.raises(WireError) as caught:
            fed(*feeds, *((b"",) if ends else ()))
        said.add(str(caught.value))
    assert len(said) == 1
    return said.pop()


# -------------------------------------------------------------------------------------------- where an answer ends


@pytest.mark.parametrize(
    "more", [OK, b"HTTP/1.1 100 Continue\r\n\r\n", b"H", b"junk", b"\0", b"\r\n"], ids=lambda more: repr(more)[:20]
)
@pytest.mark.parametrize("first", [OK, CHUNKED + b"2\r\n[]\r\n0\r\n\r\n", OK.replace(b"200", b"404")])
def test_what_follows_an_answer_in_one_feed_is_nobodys(first: bytes, more: bytes) -> None:
    answer, stays = fed(first + more)
    assert answer.body == b"[]"
    assert answer.headers.get("content-length", "2") == "2"
    # an end of a line after the last chunk is skipped by httptools, and harmless: it can become no answer
    assert stays == (more == b"\r\n" and first.startswith(CHUNKED))


def test_a_second_answer_changes_nothing_of_the_first() -> None:
    other = b"HTTP/1.1 404 No\r\nX-Consul-Index: 5\r\nContent-Length: 1\r\n\r\n!"
    for first in (OK, CHUNKED + b"2\r\n[]\r\n0\r\n\r\n"):
        answer, stays = fed(first + other)
        assert (answer.status, answer.body, stays) == (200, b"[]", False)
        assert "x-consul-index" not in answer.headers


@pytest.mark.parametrize(
    "early", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nX-Consul-Index: 5\r\n\r\n"]
)
def test_what_comes_before_the_answer(early: bytes) -> None:
    for feeds in (*ways(early + OK), *ways(early * 3 + OK), (early, OK), (early + OK[:9], OK[9:])):
        answer, stays = fed(*feeds)
        assert (answer, stays) == (HttpResponse(200, {"content-length": "2"}, b"[]"), True)


def test_it_must_be_followed_by_an_answer() -> None:
    assert "closed before" in refused(b"HTTP/1.1 100 Continue\r\n\r\n", ends=True)
    assert "is larger than 65536" in refused(b"HTTP/1.1 100 Continue\r\n\r\n" * 3_000)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("body", [b"until the end", b"", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_that_ends_with_the_connection(version: bytes, body: bytes) -> None:
    for feeds in ways(b"HTTP/%s 200 OK\r\nX: y\r\n\r\n%s" % (version, body)):
        assert fed(*feeds, b"") == (HttpResponse(200, {"x": "y"}, body), False)


@pytest.mark.parametrize(
    "beginning",
    [
        b"H",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        OK[:-2],
        OK[:-1],
        CHUNKED,
        CHUNKED + b"2\r\n[]\r\n",
        CHUNKED + b"2\r\n[]\r\n0\r\n",
        CHUNKED + b"2\r\n[]\r\n0\r\nTrailer: x\r\n",
        CHUNKED + b"5\r\n[]",
    ],
)
def test_an_answer_cut_off(beginning: bytes) -> None:
    assert refused(beginning, ends=True) == "the connection was closed before an answer was whole"


def test_closed_without_a_word() -> None:
    wire = Wire("h")
    wire.request(GET)
    with pytest.raises(WireError, match="closed before"):
        wire.feed(b"")
    assert not wire.started


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_none_whatever_it_says(status: int) -> None:
    head = b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status
    for feeds in ways(head):
        answer, stays = fed(*feeds)
        assert (answer.status, answer.body, stays) == (status, b"", True)
    assert fed(head + b"abcde")[1] is False


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nconnection: Close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2c\r\n", True),
    ],
)
def test_who_may_be_asked_again(head: bytes, stays: bool) -> None:
    for length, body in ((0, b""), (2, b"[]")):
        for feeds in ways(head + b"Content-Length: %d\r\n\r\n%s" % (length, body)):
            answer, kept = fed(*feeds)
            assert (answer.body, kept) == (body, stays)


# ------------------------------------------------------------------------------------------------------- chunks


def test_chunks_with_trailers() -> None:
    answer = CHUNKED + b"1;name=value\r\n[\r\n0001\r\n]\r\n0\r\nX-Consul-Index: 7\r\nTrailer: x\r\n\r\n"
    for feeds in ways(answer):
        assert fed(*feeds) == (HttpResponse(200, {"transfer-encoding": "chunked"}, b"[]"), True)


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\na\r\n0\r\n\r\n",
        b"0x1\r\na\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\n",
        b"1\r\nab\r\n0\r\n\r\n",
        b"1\na\n0\n\n",
        b"1\r\na\r\n0\r\nContent-Length: 7\r\n\r\n",
        b"1\r\na\r\n0\r\nbad trailer\r\n\r\n",
    ],
)
def test_chunks_of_the_wrong_form(chunks: bytes) -> None:
    assert "no HTTP" in refused(CHUNKED + chunks)


@pytest.mark.parametrize("coding", [b"gzip", b"identity", b"gzip, chunked", b"chunked, gzip"])
def test_codings_that_nobody_asked_for(coding: bytes) -> None:
    assert "coded" in refused(CHUNKED.replace(b"chunked", coding) + b"1\r\na\r\n0\r\n\r\n")


@pytest.mark.parametrize("piece", [b"1;%s\r\na\r\n0\r\n\r\n", b"1\r\na\r\n0\r\nTrailer: %s\r\n\r\n"])
def test_what_stands_beside_the_chunks_has_a_limit(piece: bytes) -> None:
    assert fed(CHUNKED + piece % (b"x=" + b"y" * 1_000))[0].body == b"a"
    answer = CHUNKED + piece % (b"x=" + b"y" * MAX_HEAD)
    for size in (len(answer), 10_000):
        with pytest.raises(WireError, match="is larger than 65536"):
            fed(*(answer[at : at + size] for at in range(0, len(answer), size)))


def test_many_small_chunks() -> None:
    answer, stays = fed(CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
    assert (len(answer.body), stays) == (100_000, True)


# ------------------------------------------------------------------------------------------------------ the head


def test_a_head_of_megabytes_ends_soon() -> None:
    for line in (b"X: " + b"y" * 16_000, b"y" * 16_000 + b": x", b"X" * 16_000):
        begun, came = time.process_time(), 0
        wire = Wire("h")
        wire.request(GET)
        wire.feed(b"HTTP/1.1 200 OK\r\n" + line)
        with pytest.raises(WireError, match="the head of the answer is larger than 65536 bytes"):
            for came in range(2_000):  # noqa: B007  (how far it came is looked at)
                wire.feed(b"z" * 16_000)
        assert came < 5
        assert time.process_time() - begun < 5


def test_a_head_as_large_as_it_may_be() -> None:
    def answer(size: int) -> bytes:
        rest = OK[len(b"HTTP/1.1 200 OK\r\n") :]
        head = len(OK) - 2
        return b"HTTP/1.1 200 OK\r\nX: " + b"y" * (size - head - 5) + b"\r\n" + rest

    assert len(answer(MAX_HEAD)) == MAX_HEAD + 2
    assert fed(answer(MAX_HEAD))[0].body == b"[]"
    with pytest.raises(WireError, match="larger"):
        fed(answer(MAX_HEAD + 1))


@pytest.mark.parametrize(
    "answer",
    [
        OK.replace(b"\r\n", b"\n"),
        OK.replace(b"\r\n", b"\r"),
        b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\n[]",
    ],
)
def test_heads_of_the_wrong_form(answer: bytes) -> None:
    assert "no HTTP" in refused(answer)


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/0.9 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.2 200 OK",
        b"http/1.1 200 OK",
        b"RTSP/1.0 200 OK",
        b"ICE/1.0 200 OK",
        b"ICY 200 OK",
        b"GET / HTTP/1.1",
        b"\r\nHTTP/1.1 200 OK",
        b"SSH-2.0-OpenSSH",
        b"\x15\x03\x01\x00\x02\x02",
    ],
)
def test_first_lines_of_something_else(line: bytes) -> None:
    assert "no HTTP" in refused(line + b"\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("more", [b"", b"Connection: upgrade\r\n"])
def test_a_switch_of_protocols(more: bytes) -> None:
    assert "another protocol" in refused(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n" + more + b"\r\n")
    with pytest.raises(WireError, match="another protocol"):
        fed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n" + more + b"\r\n" + OK)


@pytest.mark.parametrize("length", [b"-1", b"+2", b"2,2", b"0x2", b"", b"2 2", b"2\xb2", b"9" * 30])
def test_wrong_lengths(length: bytes) -> None:
    assert "no HTTP" in refused(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n[]")


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 2\r\nContent-Length: 2",
        b"Content-Length: 2\r\ncontent-length: 3",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2",
    ],
)
def test_two_lengths_are_none(headers: bytes) -> None:
    assert "no HTTP" in refused(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n[]")


def test_headers_are_latin_1_in_lower_case_and_the_last_of_a_name_counts() -> None:
    for feeds in ways(
        b"HTTP/1.1 200\r\nA: \xff\r\nX-Consul-Index: 1\r\nx-consul-INDEX: 2\r\nB:\r\nContent-Length: 0\r\n\r\n"
    ):
        assert fed(*feeds)[0].headers == {"a": "\xff", "x-consul-index": "2", "b": "", "content-length": "0"}


# ------------------------------------------------------------------------------------------------------ the body


def test_the_largest_body_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER", 1_000)
    for size in (1_000, 1_001):
        body = b"x" * size
        chunks = b"".join(b"64\r\n" + body[at : at + 100] + b"\r\n" for at in range(0, 1_000, 100))
        chunks += b"1\r\nx\r\n" if size > 1_000 else b""
        for answer in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body,),
            (b"HTTP/1.1 200 OK\r\n\r\n" + body, b""),
            (CHUNKED + chunks + b"0\r\n\r\n",),
        ):
            if size == 1_000:
                assert fed(*answer)[0].body == body
            else:
                with pytest.raises(WireError, match="the answer is larger than 1000 bytes"):
                    fed(*answer)


# ---------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    "request_",
    [
        HttpRequest("GET", "/a b"),
        HttpRequest("GET", "/a\r\nX: y"),
        HttpRequest("GET", "/é"),
        HttpRequest("GET", ""),
        HttpRequest("GET /", "/"),
        HttpRequest("GET", "/", headers=(("X-Consul-Token", "secret\r\nX: y"),)),
        HttpRequest("GET", "/", headers=(("X-Consul-Token", "secret\n"),)),
        HttpRequest("GET", "/", headers=(("X-Consul-Token", " secret"),)),
        HttpRequest("GET", "/", headers=(("X-Consul-Token", "sécret"),)),
        HttpRequest("GET", "/", headers=(("X-Consul-Token", "secret\0"),)),
        HttpRequest("GET", "/", headers=(("X: secret\r\nY", "z"),)),
        HttpRequest("GET", "/", headers=(("", "secret"),)),
    ],
)
def test_what_cannot_be_written(request_: HttpRequest) -> None:
    wire = Wire("h")
    with pytest.raises(ConfigurationError, match="cannot be written as HTTP") as caught:
        wire.request(request_)
    assert "secret" not in str(caught.value)
    assert not wire.reusable


def test_what_is_written() -> None:
    request = HttpRequest("PUT", "/v1/txn", (("dc", "d 1"),), (("X-Consul-Token", "a b\tc!~"), ("E", "")), b"\r\n\xff")
    assert Wire("[::1]:8500").request(request) == (
        b"PUT /v1/txn?dc=d+1 HTTP/1.1\r\nHost: [::1]:8500\r\nX-Consul-Token: a b\tc!~\r\nE: \r\n"
        b"Content-Length: 3\r\n\r\n\r\n\xff"
    )


def test_a_wire_leaves_no_cycle_to_the_collector() -> None:
    class Watched(Wire):
        __slots__ = ("__weakref__",)

    gc.disable()
    try:
        for answer in (OK, CHUNKED + b"0\r\n\r\n", OK[:-1]):
            wire = Watched("h")
            gone = weakref.ref(wire)
            wire.request(GET)
            wire.feed(answer)
            del wire
            assert gone() is None
    finally:
        gc.enable()


def test_what_a_signal_handler_raises_is_not_taken_for_the_servers_fault() -> None:
    """No function of Python runs inside httptools, which would keep its exception to itself."""
    wire = Wire("h")
    wire.request(GET)
    seen: list[Any] = []
    sys.setprofile(lambda frame, event, _: seen.append(frame.f_code.co_name) if event == "call" else None)
    try:
        wire._parse(OK)
    finally:
        sys.setprofile(None)
    assert seen == ["_parse"]


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


def test_a_head_that_came_before_means_the_same() -> None:
    wire = Wire("h")
    for size in (*range(1, KNOWN_HEADS + 3), 1, 2):
        body = b"x" * size
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body
        for feeds in (answer,), (answer,), (answer[:-1], answer[-1:]), (answer,), (answer + b"more",):
            wire.request(GET)
            answers = [wire.feed(data) for data in feeds]
            assert answers[:-1] == [None] * (len(feeds) - 1)
            assert isinstance(answers[-1], HttpResponse)
            assert (answers[-1].status, answers[-1].body) == (200, body)
            assert answers[-1].headers["content-length"] == str(size)
            assert wire.reusable is (feeds != (answer + b"more",))
        assert len(wire._known) <= KNOWN_HEADS


def test_the_wire_refuses_a_switch_of_protocols() -> None:
    wire = Wire("h")
    wire.request(GET)
    with pytest.raises(WireError):
        wire.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + OK)
        wire.feed(b"")


def test_a_message_without_a_cause() -> None:
    chosen = options(1)
    error = http.unavailable(chosen, HttpRequest("GET", "/"), "nothing", sent=False, cause=EOFError())
    assert str(error) == "GET: nothing at http://127.0.0.1:1: EOFError"
