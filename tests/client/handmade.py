"""A server on the test's own event loop whose every answer the test makes, and which counts its connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import cast

__all__ = ["Handmade", "Number", "ok", "request_on"]

#: The number of a connection, in the order in which they were accepted, from 1 on.
Number = int


def ok(body: str = "[]", index: int = 7) -> bytes:
    """An answer of Consul's."""
    return f"HTTP/1.1 200 OK\r\nX-Consul-Index: {index}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def request_on(line: str) -> str:
    """Method and path of a request, without its parameters."""
    method, target, _ = line.split(" ")
    return f"{method} {target.partition('?')[0]}"


class _Peer(asyncio.Protocol):
    def __init__(self, server: Handmade) -> None:
        self._server = server
        self._data = b""
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        server = self._server
        server.accepted += 1
        self._number = server.accepted
        if server.accepts is not None and len(server.open) >= server.accepts:
            server.refused += 1
            self._transport.abort()
            return
        server.open.add(self)
        server.peak = max(server.peak, len(server.open))

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, rest = self._data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower()[:15] == b"content-length:"), 0)
        if end and len(rest) >= length:  # the client sends no second request before it has the answer
            self._data = b""
            line = head.partition(b"\r\n")[0].decode()
            self._answering = asyncio.get_running_loop().create_task(self._answer(line))

    async def _answer(self, line: str) -> None:
        self._transport.write(await self._server.answer(line, self._number))

    def eof_received(self) -> None:
        self._server.open.discard(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.open.discard(self)
        if self._answering is not None:
            self._answering.cancel()


class Handmade:
    """The server; an asynchronous context manager.

    Args:
        answer: gives the answer to a request, by its first line and the number of its connection, when it likes.

    Attributes:
        accepts: how many connections it accepts; those above are closed without a byte. None: any number.
        accepted, refused: how many connections came, and how many of them were closed so.
        open: those that are open; ``peak``: the most there ever were.
    """

    def __init__(self, answer: Callable[[str, Number], Awaitable[bytes]]) -> None:
        self.answer = answer
        self.accepts: int | None = None
        self.accepted = self.refused = self.peak = 0
        self.open: set[_Peer] = set()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Handmade:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Peer(self), "127.0.0.1", 0, backlog=1_024)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for peer in tuple(self.open):
            peer._transport.abort()
        await self._server.wait_closed()
