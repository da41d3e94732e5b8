"""HTTP/1.1 as a server speaks it, without I/O: bytes of a client in, whole requests out, and answers as bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

import httptools

from .forms import MAX_BODY, Request

__all__ = ["BAD", "CONTINUE", "Asked", "Requests", "written"]

#: The most that a request may have before its body, in bytes, if it comes in pieces: its line and its headers.
MAX_HEAD = 64 * 1024

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_REASONS[413] = "Request Entity Too Large"  # Go's name for it, and Python's before 3.13

#: The answer to what is no HTTP, as Go gives it; the connection is closed after it.
BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"

#: What a client waits for before it sends a body, where it says so.
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    """A request, and whether the connection stays after its answer."""

    request: Request
    stays: bool


class Requests:
    """The requests of one connection, in their order. httptools calls what begins with ``on_``.

    Attributes:
        whole: those that are there and not taken yet; None for what is no HTTP, after which nothing comes.
        expects: whether the client waits for `CONTINUE`.
    """

    def __init__(self) -> None:
        self.whole: deque[Asked | None] = deque()
        self.expects = False
        self._parser = httptools.HttpRequestParser(self)
        self._over = False
        self._head = 0  # how many bytes of a head there are, roughly
        self._begin()

    def feed(self, data: bytes) -> None:
        """Take some bytes; what comes after a request that ends the connection is dropped."""
        if self._over:
            return
        try:
            self._parser.feed_data(data)
            self._head = 0 if self._in_body or self.whole else self._head + len(data)
            if self._head > MAX_HEAD:
                raise httptools.HttpParserError("too large a head")
        except httptools.HttpParserUpgrade:  # not done, and what follows is in another protocol
            self._over = True
        except httptools.HttpParserError:
            if not self._over:
                self._over = True
                self.whole.append(None)

    def end(self) -> None:
        """The connection ends: nothing that came after the last request counts."""
        self._over = True
        self.whole.clear()

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._over:
            raise ValueError("after the last request")

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._in_body = False

    def on_url(self, piece: bytes) -> None:
        """A piece of the target."""
        self._url += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which nobody looks at."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The body comes, if there is one."""
        if self._parser.get_http_version() == "1.1":
            if b"host" not in self._headers:
                raise ValueError("no Host")
            self.expects = self._headers.get(b"expect", b"").lower() == b"100-continue"
        self._in_body = True

    def on_body(self, piece: bytes) -> None:
        """A piece of the body. What is too large is read, not kept: it is refused anyway."""
        self.expects = False
        self._size += len(piece)
        if self._size <= MAX_BODY:
            self._body.append(piece)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.expects = False
        method, target = self._parser.get_method().decode("ascii"), self._url.decode("ascii")
        stays = self._parser.get_http_version() == "1.1" and self._parser.should_keep_alive()
        stays = stays and not self._parser.should_upgrade()
        self.whole.append(Asked(Request(method, target, b"".join(self._body), self._size), stays))
        self._over = not stays
        self._begin()


def written(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """An answer as bytes.

    Args:
        status: of which the reason is made.
        headers: all of them.
        body: that follows; none after a HEAD.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    return f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n{lines}\r\n".encode("ascii") + body
