"""Servers on plain sockets, each of which misbehaves in exactly one way."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

from consul_locker.client.encode import HttpRequest
from consul_locker.config.options import ClientOptions

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
                sock = self._shake_hands(sock, self.context)
            with sock:
                script(sock)
        except OSError:
            sock.close()

    def _shake_hands(self, sock: socket.socket, context: ssl.SSLContext) -> socket.socket:
        secure = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._sockets.append(secure)
        try:
            secure.do_handshake()
        except OSError as error:
            with secure, contextlib.suppress(OSError):
                if isinstance(error, ssl.SSLError):
                    # It has said why. A close with bytes unread would be a reset, which may overtake that.
                    secure.shutdown(socket.SHUT_WR)
                    while secure.recv(65_536):
                        pass
            raise
        return secure


def options(port: int | None, **changes: Any) -> ClientOptions:
    return ClientOptions.build("127.0.0.1", port, environ={}, **changes)


@contextlib.contextmanager
def swallowing() -> Iterator[int]:
    """A port whose connects are not answered: the queue of a listener that accepts no connection is soon full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def closing_at_the_second(sock: socket.socket) -> None:
    """Answers one request, and closes upon the next without a word: as a server does that just timed out."""
    answering(OK)(sock)
    read_request(sock)


def gate() -> tuple[threading.Event, Script]:
    """A script that answers the first request of each connection once the gate is open."""
    opened = threading.Event()

    def script(sock: socket.socket) -> None:
        while read_request(sock):
            opened.wait(SOON)
            sock.sendall(OK)

    return opened, script
