"""What the behaviour tests look at Consul with: an independent reader, a gate before the agent, an ear."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import quote

from consul_locker import signals

#: The end of every wait for something that has to happen, in seconds; generous, since CI machines are slow.
WAIT = 30.0


def until(condition: Callable[[], Any], limit: float = WAIT) -> Any:
    """Look until the condition holds, for what Consul tells nobody; fails when the limit (seconds) is over."""
    end = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < end, "this did not happen in time"
        threading.Event().wait(0.005)
    return found


async def eventually(condition: Callable[[], Any]) -> None:
    """Let the loop go round until the condition holds; fails when `WAIT` is over."""

    async def look() -> None:
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(look(), WAIT)


async def settle() -> None:
    """Let the loop do all that it can do without a new event."""
    for _ in range(20):
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Key:
    """A key as Consul has it."""

    key: str
    value: bytes
    flags: int
    session: str | None
    fence: int


class Consul:
    """Asks an agent over plain HTTP, with nothing of the library under test."""

    def __init__(self, address: str, token: str | None = None) -> None:
        host, _, port = address.rpartition(":")
        self._place = host.strip("[]"), int(port)
        self._headers = {} if token is None else {"X-Consul-Token": token}

    def call(self, method: str, path: str, body: bytes | str | None = None) -> tuple[int, Any]:
        """Send one request; returns the status, and the body as JSON where it is that, else as text."""
        connection = http.client.HTTPConnection(*self._place, timeout=WAIT)
        try:
            connection.request(method, path, body, self._headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text.decode("utf-8", "replace")

    def key(self, key: str) -> Key | None:
        """One key, or None."""
        return self._keys(quote(key, safe="/") + "?consistent").get(key)

    def keys(self, prefix: str = "") -> dict[str, Key]:
        """All keys below a prefix."""
        return self._keys(quote(prefix, safe="/") + "?recurse&consistent")

    def _keys(self, path: str) -> dict[str, Key]:
        status, entries = self.call("GET", "/v1/kv/" + path)
        if status == 404:
            return {}
        assert status == 200, entries
        return {
            entry["Key"]: Key(
                entry["Key"],
                base64.b64decode(entry["Value"] or ""),
                entry["Flags"],
                entry.get("Session"),
                entry["ModifyIndex"],
            )
            for entry in entries
        }

    def put(self, key: str, value: str) -> None:
        """Write a key, as a stranger does."""
        assert self.call("PUT", "/v1/kv/" + quote(key, safe="/"), value) == (200, True)

    def delete(self, key: str) -> None:
        """Delete a key, as an operator does."""
        assert self.call("DELETE", "/v1/kv/" + quote(key, safe="/")) == (200, True)

    def sessions(self, name: str) -> list[dict[str, Any]]:
        """The sessions of this name."""
        status, sessions = self.call("GET", "/v1/session/list?consistent")
        assert status == 200, sessions
        return [session for session in sessions if session["Name"] == name]

    def destroy(self, session_id: str) -> None:
        """Destroy a session, as an operator does."""
        assert self.call("PUT", f"/v1/session/destroy/{session_id}") == (200, True)


@dataclass
class Seen:
    """A request that came to a gate."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def endpoint(self) -> str:
        """Method and path, without the query."""
        return f"{self.method} {self.path.partition('?')[0]}"


@dataclass
class Held:
    """Requests that a gate keeps back until `let_go`; each is passed on then, whoever still waits for it."""

    wanted: Callable[[Seen], bool]
    left: int
    answers: bool  #: the request is passed on at once, its answer kept back
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    passed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _open: threading.Event = field(default_factory=threading.Event)

    def wait(self, count: int = 1) -> None:
        """Wait until so many requests more are kept back."""
        for _ in range(count):
            assert self.arrived.acquire(timeout=WAIT), "no such request came"

    def keep(self) -> None:
        """In the gate's thread: keep one back."""
        self.arrived.release()
        assert self._open.wait(WAIT), "nobody let it go"

    def let_go(self) -> None:
        """Pass on what was kept back, and all that comes."""
        self._open.set()

    def wait_passed(self, count: int = 1) -> None:
        """Wait until so many of them have reached Consul and were answered there."""
        for _ in range(count):
            assert self.passed.acquire(timeout=WAIT), "it did not reach Consul"


class Gate:
    """Stands before an agent on a port of its own: counts requests, keeps them back, closes and opens."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host.strip("[]"), int(port)
        self._guard = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._upstream: set[http.client.HTTPConnection] = set()
        self._held: list[Held] = []
        self._listener: socket.socket | None = None
        self._port = 0
        self._under_way: Counter[str] = Counter()
        self.seen: list[Seen] = []
        self.most_connections = 0
        self.most_alike: Counter[str] = Counter()  #: "GET /path?query" -> how many of these were under way at once

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port}"

    def count(self, endpoint: str) -> int:
        """How many requests came to an endpoint, as ``"PUT /v1/txn"``."""
        return sum(1 for seen in list(self.seen) if seen.endpoint.startswith(endpoint))

    def under_way(self, endpoint: str) -> int:
        """How many requests to an endpoint are not answered yet."""
        with self._guard:
            return sum(count for request, count in self._under_way.items() if request.startswith(endpoint))

    def hold(self, wanted: Callable[[Seen], bool] | str, count: int = 1_000_000, answers: bool = False) -> Held:
        """Keep back the next requests of this endpoint (or for which the function is true)."""
        test = wanted if callable(wanted) else (lambda seen, endpoint=wanted: seen.endpoint.startswith(endpoint))
        held = Held(test, count, answers)
        with self._guard:
            self._held.append(held)
        return held

    def open(self) -> None:
        """Listen; again after `shut` on the same port."""
        listener = socket.create_server(("127.0.0.1", self._port), backlog=256)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="gate", daemon=True).start()

    def shut(self) -> None:
        """Refuse connections, and break those that are there: the agent is gone."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._guard:
            sockets, upstream = list(self._sockets), list(self._upstream)
        for one in sockets:
            _shut(one)
        for connection in upstream:
            if connection.sock is not None:
                _shut(connection.sock)

    def __enter__(self) -> Gate:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for held in self._held:
            held.let_go()
        self.shut()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._guard:
                self._sockets.add(client)
                # One that the client has closed may be here yet: its thread has not come to it.
                self.most_connections = max(self.most_connections, sum(not _ended(one) for one in self._sockets))
            threading.Thread(target=self._serve, args=(client,), name="gate", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        upstream = http.client.HTTPConnection(*self._target)
        with self._guard:
            self._upstream.add(upstream)
        try:
            with client.makefile("rb") as stream:
                while (seen := _read(stream)) is not None:
                    self.seen.append(seen)
                    with self._under(f"{seen.method} {seen.path}"):
                        held = self._which(seen)
                        if held is not None and not held.answers:
                            held.keep()
                        answer = _pass_on(upstream, seen)
                    if held is not None:
                        held.passed.release()
                        if held.answers:
                            held.keep()
                    client.sendall(answer)
        except (OSError, http.client.HTTPException, AttributeError):  # broken by `shut`, from whichever side
            pass
        finally:
            with self._guard:
                self._sockets.discard(client)
                self._upstream.discard(upstream)
            client.close()
            upstream.close()

    @contextmanager
    def _under(self, request: str) -> Iterator[None]:
        """While a request is under way; over before its answer is out, which may bring another such request."""
        with self._guard:
            self._under_way[request] += 1
            self.most_alike[request] = max(self.most_alike[request], self._under_way[request])
        try:
            yield
        finally:
            with self._guard:
                self._under_way[request] -= 1

    def _which(self, seen: Seen) -> Held | None:
        with self._guard:
            for held in self._held:
                if held.left > 0 and held.wanted(seen):
                    held.left -= 1
                    return held
        return None


def _ended(one: socket.socket) -> bool:
    try:
        return one.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:  # reset
        return True


def _shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is closed already
        pass


def _read(stream: Any) -> Seen | None:
    words = stream.readline().decode("latin-1").split()
    if len(words) != 3:
        return None
    headers: list[tuple[str, str]] = []
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        key, _, value = line.partition(":")
        headers.append((key, value.strip()))
    length = next((int(value) for key, value in headers if key.lower() == "content-length"), 0)
    return Seen(words[0], words[1], headers, stream.read(length))


def _pass_on(upstream: http.client.HTTPConnection, seen: Seen) -> bytes:
    upstream.putrequest(seen.method, seen.path, skip_host=True, skip_accept_encoding=True)
    for key, value in seen.headers:
        upstream.putheader(key, value)
    upstream.endheaders(seen.body)
    answer = upstream.getresponse()
    body = answer.read()
    ours = ("transfer-encoding", "content-length")
    kept = [(key, value) for key, value in answer.getheaders() if key.lower() not in ours]
    head = "".join(f"{key}: {value}\r\n" for key, value in [*kept, ("Content-Length", str(len(body)))])
    return f"HTTP/1.1 {answer.status} {answer.reason}\r\n{head}\r\n".encode("latin-1") + body


class Ear:
    """Hears every signal of the Lockers of one name, from their beginning."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self._observers = {signal: self._observer(signal) for signal in signals.ALL}
        for signal, observer in self._observers.items():
            signals.ALL[signal].connect(observer)

    def _observer(self, signal: str) -> Callable[..., None]:
        def observe(sender: Any, **facts: Any) -> None:
            if sender.name == self._name:
                with self._changed:
                    self.heard.append((signal, facts))
                    self._changed.notify_all()

        return observe

    def names(self) -> list[str]:
        """What was heard so far."""
        return [signal for signal, _ in self.heard]

    def of(self, signal: str) -> list[dict[str, Any]]:
        """The keyword arguments of each of these."""
        return [facts for one, facts in list(self.heard) if one == signal]

    def wait(self, signal: str, count: int = 1) -> dict[str, Any]:
        """Wait until it was heard so often; returns the keyword arguments of the last one."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(signal)) >= count, WAIT), f"no {signal}: {self.heard}"
        return self.of(signal)[count - 1]

    def close(self) -> None:
        """Hear no more."""
        for signal, observer in self._observers.items():
            signals.ALL[signal].disconnect(observer)
