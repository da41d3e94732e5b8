"""HTTP/1.1 on one connection, without I/O: bytes in, bytes out. Parsed by httptools; shared by both transports."""

from __future__ import annotations

import re
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import httptools

from ..config.options import ClientOptions
from ..errors import ConfigurationError, ConsulUnavailable
from .encode import HttpRequest, HttpResponse
from .mistakes import Mistake, mistake_in
from .words import NOT_CONSUL, WANTS_TLS

__all__ = ["MAX_ANSWER", "MAX_HEAD", "READ_SIZE", "Wire", "WireError", "repeatable", "unavailable"]

#: The largest answer that is read, in bytes. Consul's are small; the largest wanted is all keys below a
#: Locker's name, and what is larger than this is not meant for us.
MAX_ANSWER = 16 * 1024 * 1024

#: The most that may come besides the body, in bytes: status, headers, trailers. Consul sends under 1 KiB; httptools has
#: no limit of its own, and takes a long header together again with every piece of it that comes.
MAX_HEAD = 64 * 1024

#: What a chunk may cost besides: its size in 16 digits, and two ends of lines.
CHUNK = 20

#: How much is read at once, in bytes: the answer to a full transaction of usual values in one go.
READ_SIZE = 64 * 1024

#: How many heads of answers a connection remembers. Within a second, answers of one length have the same.
KNOWN_HEADS = 8

_NO_HTTP = "the answer is no HTTP"

_END = b"\r\n\r\n"

#: What httptools tells of an answer, besides pieces of its body.
_BEGINS, _HEADERS, _WHOLE = "begins", "headers", "whole"

#: What a request may be made of: nothing that ends a line, and a target without a space.
_METHOD = re.compile(r"[A-Z]+")
_TARGET = re.compile(r"[!-~]+")
_NAME = re.compile(r"[A-Za-z0-9-]+")
_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")


class WireError(Exception):
    """The peer does not keep to HTTP, or closed in the middle of an answer. Nothing more can be read.

    Attributes:
        mistake: what time alone does not mend, if it is that: another server than Consul is there, or TLS.
    """

    def __init__(self, words: str, mistake: Mistake | None = None) -> None:
        super().__init__(words)
        self.mistake = mistake


#: How a TLS server answers plain HTTP, if not in words: with a record of this type, an alert.
_ALERT = b"\x15"


def _no_http(words: str) -> WireError:
    return WireError(words, Mistake("host", f"{words}; {NOT_CONSUL}"))


class _Head(NamedTuple):
    """A head that says how long its body is, in bytes, and after which the connection stays open."""

    status: int
    headers: dict[str, str]
    length: int


class Wire:
    """One connection's side of HTTP, through any number of requests, one after another.

    What httptools calls are functions of C, and what they tell is looked at when it has returned: it keeps to itself
    whatever a function of Python raises in its middle, a signal handler's KeyboardInterrupt included.

    Args:
        authority: what the Host header says.
        path: what goes before the path of every request.
    """

    __slots__ = (
        "_asked",
        "_beginning",
        "_beside",
        "_body",
        "_head",
        "_headers",
        "_host",
        "_keeps",
        "_known",
        "_left",
        "_parser",
        "_path",
        "_pieces",
        "_size",
        "_tail",
        "_told",
        "_until_end",
        "reusable",
        "started",
    )

    def __init__(self, authority: str, path: str = "") -> None:
        self._host = authority
        self._path = path
        self._asked: tuple[str, str, tuple[tuple[str, str], ...]] | None = None  # by the last request,
        self._beginning = b""  # which began so
        self.started = False  #: whether a byte of the answer to the present request came
        self.reusable = True  #: whether another request may follow
        self._known: dict[bytes, _Head] = {}
        self._told: list[bytes | str] = []
        self._headers: dict[bytes, bytes] = {}
        tell = self._told.append
        told_by = SimpleNamespace(
            on_message_begin=partial(tell, _BEGINS),
            on_header=self._headers.__setitem__,
            on_headers_complete=partial(tell, _HEADERS),
            on_body=tell,
            on_message_complete=partial(tell, _WHOLE),
        )
        self._parser = httptools.HttpResponseParser(told_by)

    def request(self, request: HttpRequest) -> bytes:
        """The bytes to send; after that, `feed` takes the answer.

        Raises:
            ConfigurationError: the request cannot be written as HTTP.
        """
        self.started = False
        self.reusable = False
        self._told.clear()
        self._headers.clear()
        self._head: tuple[int, dict[str, str]] | None = None
        self._body: list[bytes] = []
        self._beside = 0  # how many bytes of the answer belong to no body,
        self._size = 0  # and how many do
        self._pieces = 0
        self._tail = b""  # the last bytes of the head, as far as it came
        asked = request.method, request.target, request.headers
        if asked != self._asked:
            self._beginning = self._begin(request)
            self._asked = asked
        body = request.body
        if body or request.method != "GET":
            return b"%sContent-Length: %d\r\n\r\n%s" % (self._beginning, len(body), body)
        return self._beginning + b"\r\n"

    def _begin(self, request: HttpRequest) -> bytes:
        """The head of a request but for the length of its body. Most requests have that of the last one: a transaction
        after a transaction. So it is checked and written once."""
        headers = [("Host", self._host), *request.headers]
        target = self._path + request.target
        written = _METHOD.fullmatch(request.method) and _TARGET.fullmatch(target)
        if not (written and all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in headers)):
            # the faulty header is not repeated: it may be the token
            raise ConfigurationError("request", request.operation, "this cannot be written as HTTP")
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        return f"{request.method} {target} HTTP/1.1\r\n{lines}".encode("ascii")

    def feed(self, data: bytes) -> HttpResponse | None:
        """Take what came; ``b""`` says that the peer closed.

        Returns:
            The answer once it is whole, else None.

        Raises:
            WireError: it cannot become an answer any more.
        """
        if not data:
            if self._head is not None and self._until_end:
                return self._finish(self._head, b"")
            raise WireError("the connection was closed before an answer was whole")
        if not self.started:
            self.started = True
            if not data.startswith(b"H"):  # httptools would take other protocols of that kind, too
                if data.startswith(_ALERT):
                    raise WireError(f"{_NO_HTTP}: TLS", Mistake("secure", WANTS_TLS))
                raise _no_http(_NO_HTTP)
            end = data.find(_END) + len(_END)
            known = self._known.get(data[:end])
            if known is not None and len(data) == end + known.length:  # parsed before, byte for byte
                self.reusable = True
                return HttpResponse(known.status, known.headers, data[end:])
        whole = False
        while self._head is None:
            if not data:
                return None
            whole, data = self._take_head(data)
        if whole:
            return self._finish(self._head, data)
        return self._take_body(self._head, data) if data else None

    def _take_head(self, data: bytes) -> tuple[bool, bytes]:
        """Take what belongs to the head: whether the answer is whole with it, and what follows."""
        place = (self._tail + data).find(_END)
        cut = len(data) if place < 0 else place + len(_END) - len(self._tail)
        self._tail = (self._tail + data)[1 - len(_END) :] if place < 0 else b""
        self._count(cut)
        self._parse(data[: cut - 1])
        self._keeps = self._parser.should_keep_alive()  # before the head's end, when httptools may forget it
        self._parse(data[cut - 1 : cut])
        if _HEADERS in self._told:
            whole = _WHOLE in self._told
            self._read_head(whole)
            if self._keeps and not whole and self._head is not None and self._left is not None and self._beside == cut:
                self._remember(data[:cut], self._head, self._left)  # all of it came in one piece
            return whole, data[cut:]
        return False, data[cut:]

    def _remember(self, written: bytes, head: tuple[int, dict[str, str]], length: int) -> None:
        if len(self._known) == KNOWN_HEADS:
            self._known.clear()
        self._known[written] = _Head(*head, length)

    def _count(self, beside: int) -> None:
        self._beside += beside
        if self._beside - CHUNK * self._pieces > MAX_HEAD:
            raise _no_http(f"the head of the answer is larger than {MAX_HEAD} bytes")

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if _WHOLE not in self._told:  # else it is about bytes after the answer, which belong to no request
                raise _no_http(f"{_NO_HTTP}: {error}") from error
            self._told.append(_BEGINS)

    def _read_head(self, whole: bool) -> None:
        """All headers are there: of the answer, or of one that only says that it will come."""
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._headers.items()}
        self._headers.clear()
        self._told.clear()
        if version not in ("1.1", "1.0") or status < 100:
            raise _no_http(f"{_NO_HTTP}: version {version}, status {status}")
        if status == 101:
            raise _no_http("the answer switches to another protocol, which was not asked for")
        if status < 200:
            return
        coding = headers.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            raise _no_http("the answer is coded in a way that was not asked for")
        length = headers.get("content-length")
        self._left = None if length is None else int(length)
        self._until_end = length is None and coding is None
        self._head = (status, headers)

    def _take_body(self, head: tuple[int, dict[str, str]], data: bytes) -> HttpResponse | None:
        """Take what belongs to the body, and to what stands between its chunks."""
        rest = b""
        if self._left is not None:
            data, rest = data[: self._left], data[self._left :]
            self._left -= len(data)
        self._parse(data)
        whole = _WHOLE in self._told
        if whole:
            end = self._told.index(_WHOLE)
            if len(self._told) > end + 1:  # another answer begins
                rest = data
            del self._told[end:]
        pieces = [piece for piece in self._told if isinstance(piece, bytes)]
        self._told.clear()
        body = b"".join(pieces)
        self._size += len(body)
        if self._size > MAX_ANSWER:
            raise WireError(f"the answer is larger than {MAX_ANSWER} bytes")
        self._body.append(body)
        if not rest:
            self._pieces += len(pieces)
            self._count(len(data) - len(body))
        return self._finish(head, rest) if whole else None

    def _finish(self, head: tuple[int, dict[str, str]], rest: bytes) -> HttpResponse:
        # bytes after an answer, which no request asked for, would be taken for the answer to the next request
        self.reusable = self._keeps and not rest
        status, headers = head
        return HttpResponse(status, headers, b"".join(self._body))


def unavailable(
    options: ClientOptions,
    request: HttpRequest,
    what: str,
    *,
    sent: bool,
    cause: BaseException | None = None,
    outage: bool = True,
) -> ConsulUnavailable:
    """The error for a request that got no answer.

    Args:
        what: what happened, in words.
        sent: whether the request may have taken effect all the same.
        cause: the error below, or None.
        outage: whether time alone may mend it.
    """
    mistake = cause.mistake if isinstance(cause, WireError) else mistake_in(options, cause)
    if isinstance(cause, ConnectionRefusedError):
        what, reason = "connection refused", " (is an agent listening there?)"
    elif mistake is not None:
        reason = f": {mistake.words}"
        sent = sent and isinstance(cause, WireError)  # with no handshake nothing reached Consul
    else:
        reason = "" if cause is None else f": {cause}" if str(cause) else f": {type(cause).__name__}"
    return ConsulUnavailable(
        f"{request.operation or request.method}: {what} at {options.address}{reason}",
        operation=request.operation,
        cause=cause,
        sent=sent,
        option=None if mistake is None else mistake.option,
        outage=outage and mistake is None,
    )


def repeatable(request: HttpRequest, error: Exception, *, used: bool, sent: bool, wire: Wire) -> bool:
    """Whether a request that failed may go again, over a new connection.

    A server may close an idle connection at the very moment at which it is used again. That is no reason
    to fail when nothing of the request left, or when sending it twice does no harm.

    Args:
        request: the request.
        error: how it failed.
        used: whether its connection served another one before.
        sent: whether a byte of it was handed to the network.
        wire: its connection's.
    """
    if isinstance(error, TimeoutError) or not used or wire.started:
        return False
    return request.method == "GET" or not sent
