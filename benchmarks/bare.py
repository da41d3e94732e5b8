"""The bare loop: group commit with msgspec and httptools on one socket, and nothing else. The yardstick of speed.

It has no states, leases, deadlines, doubts or errors: it shows what the library could reach, not how to lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec

from benchmarks.measuring import Figures, Setting, fresh_name, on_loop, rate_of_tasks, rate_of_threads
from benchmarks.servers import ask, delete_below

#: Operations in one transaction: what Consul takes.
MOST = 64

#: The value of each key, about as long as the library's.
VALUE = b'{"pid":1,"host":"vm","name":"bench","tenure":12345}'


class Kv(msgspec.Struct, omit_defaults=True):
    """An operation, as Consul names its fields."""

    Verb: str
    Key: str
    Value: bytes = b""
    Session: str = ""


class Operation(msgspec.Struct):
    """One of a transaction."""

    KV: Kv


class Entry(msgspec.Struct):
    """What Consul answers about a key."""

    Key: str
    ModifyIndex: int
    Session: str = ""


class Done(msgspec.Struct):
    """The answer to one operation."""

    KV: Entry


class Answer(msgspec.Struct):
    """The answer to a transaction."""

    Results: list[Done]


_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Answer).decode


def encoded(keys: list[str], session: str) -> bytes:
    """The request that locks these keys."""
    body = _encode([Operation(Kv("lock", key, VALUE, session)) for key in keys])
    return b"PUT /v1/txn HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Parser:
    """One answer."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.done = False
        self.feed = (parser := httptools.HttpResponseParser(self)).feed_data
        self._status = parser.get_status_code

    def on_body(self, part: bytes) -> None:
        """Called by httptools."""
        self.parts.append(part)

    def on_message_complete(self) -> None:
        """Called by httptools."""
        self.done = True

    def results(self) -> list[Done]:
        """What it says."""
        if self._status() != 200:
            raise RuntimeError(f"Consul answered {self._status()}: {b''.join(self.parts)!r:.200}")
        return _decode(b"".join(self.parts)).Results


@contextlib.contextmanager
def session_at(url: str) -> Iterator[tuple[str, str]]:
    """A name for keys and a session; the keys are deleted afterwards."""
    name, session = fresh_name(), msgspec.json.decode(ask(url, "PUT", "/v1/session/create", '{"LockDelay":"0s"}'))["ID"]
    yield name, session
    ask(url, "PUT", f"/v1/session/destroy/{session}")
    delete_below(url, name)


class Wait:
    """A thread that waits for its lock: the outcome, or its turn to send the next transaction."""

    __slots__ = ("index", "key", "leads", "woken")

    def __init__(self, key: str) -> None:
        self.key, self.index, self.leads = key, 0, False
        self.woken = threading.Lock()
        self.woken.acquire()


class Threads:
    """Locks for threads: the one that comes when no transaction is under way sends for all."""

    def __init__(self, place: tuple[str, int], session: str) -> None:
        self._session = session
        self._mutex, self._pending, self._busy = threading.Lock(), list[Wait](), False
        self._socket = socket.create_connection(place)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def lock(self, key: str) -> int:
        """Lock a key; return its index."""
        own = Wait(key)
        with self._mutex:
            self._pending.append(own)
            leads, self._busy = not self._busy, True
        if not leads:
            own.woken.acquire()
            if not own.leads:
                return own.index
        with self._mutex:
            batch = self._pending[:MOST]
            del self._pending[:MOST]
        self._socket.sendall(encoded([one.key for one in batch], self._session))
        parser = Parser()
        while not parser.done:
            parser.feed(self._socket.recv(65536))
        results = parser.results()
        with self._mutex:
            following = self._pending[0] if self._pending else None
            self._busy = following is not None
        if following is not None:
            following.leads = True
            following.woken.release()
        for one, result in zip(batch, results, strict=True):
            one.index = result.KV.ModifyIndex
            if one is not own:
                one.woken.release()
        return own.index

    def close(self) -> None:
        """Close its connection."""
        self._socket.close()


class Tasks(asyncio.Protocol):
    """Locks for tasks of one loop."""

    def __init__(self, session: str) -> None:
        self._session, self._loop = session, asyncio.get_running_loop()
        self._pending, self._busy = list[tuple[str, asyncio.Future[int]]](), False

    def connection_made(self, transport: Any) -> None:
        """Called by asyncio."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._parser.feed(data)
        if self._parser.done:
            self._answered.set_result(self._parser.results())

    def lock(self, key: str) -> asyncio.Future[int]:
        """Lock a key; the result is its index."""
        future: asyncio.Future[int] = self._loop.create_future()
        self._pending.append((key, future))
        if not self._busy:
            self._busy = True
            self._pump = self._loop.create_task(self._send())
        return future

    async def _send(self) -> None:
        while self._pending:
            batch = self._pending[:MOST]
            del self._pending[:MOST]
            self._parser = Parser()
            self._answered: asyncio.Future[list[Done]] = self._loop.create_future()
            self.transport.write(encoded([key for key, _ in batch], self._session))
            for (_, future), result in zip(batch, await self._answered, strict=True):
                future.set_result(result.KV.ModifyIndex)
            await asyncio.sleep(0)  # the callers ask for more
        self._busy = False


def place_of(url: str) -> tuple[str, int]:
    """Host and port."""
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 8500


def threads(setting: Setting, callers: int) -> Figures:
    """Unique locks by threads."""
    with (
        session_at(setting.url) as (name, session),
        contextlib.closing(Threads(place_of(setting.url), session)) as loop,
    ):
        return rate_of_threads([lambda id: loop.lock(f"{name}/{id}/lock")] * callers, setting.seconds)


def tasks(setting: Setting, callers: int, uvloop: bool = False) -> Figures:
    """Unique locks by tasks."""

    async def main() -> Figures:
        running = asyncio.get_running_loop()
        transport, loop = await running.create_connection(lambda: Tasks(session), *place_of(setting.url))
        with contextlib.closing(transport):
            return await rate_of_tasks(lambda id: loop.lock(f"{name}/{id}/lock"), callers, setting.seconds)

    with session_at(setting.url) as (name, session):
        return on_loop(uvloop, main)
