"""One blocking connection to Consul, each of whose steps keeps to a deadline."""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from ..config.options import ClientOptions
from .requests import HttpRequest, HttpResponse
from .wire import READ_SIZE, Wire, server_name

__all__ = ["Connection", "Resolver", "remaining"]


def remaining(deadline: float) -> float:
    """Seconds until the deadline, more than 0.

    Raises:
        TimeoutError: it has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for the request is over")
    return left


class Resolver:
    """Looks up the host's addresses. Shared by the connections of a transport, on threads and on an event loop.

    ``getaddrinfo`` cannot be given a limit, so names are looked up on a thread that lives for one
    look-up; a slow one is shared by all who need it, so there is never more than one such thread. It is
    a daemon: an executor's threads, asyncio's too, are waited for when the interpreter exits. IP
    addresses need none.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self._port = port
        self._guard = threading.Lock()
        self._running: Future[list[Any]] | None = None
        self._last: list[Any] = []  # what was found last
        try:
            ipaddress.ip_address(host)
            self._numeric = True
        except ValueError:
            self._numeric = False

    def addresses(self, deadline: float) -> list[Any]:
        """What ``socket.getaddrinfo`` answers.

        Raises:
            OSError: the name cannot be resolved, or not in time.
        """
        left = remaining(deadline)
        try:
            return self.look_up().result(left)
        except FutureTimeout:
            raise self.late() from None

    def look_up(self) -> Future[list[Any]]:
        """Begin what `addresses` waits for, or join it; never waits itself.

        The future has an OSError when the name cannot be resolved. It is everybody's, so it cannot be cancelled.
        """
        if self._numeric:
            lookup: Future[list[Any]] = Future()
            self._look_up(lookup, socket.AI_NUMERICHOST)
            return lookup
        with self._guard:
            if self._running is None:
                lookup = Future()
                lookup.set_running_or_notify_cancel()
                thread = threading.Thread(target=self._look_up, args=(lookup, 0), name="consul_locker-dns", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # there are too many; or, on Python 3.12, the interpreter is going down
                    if self._last:  # sessions are destroyed at exit, over new connections
                        lookup.set_result(self._last)
                    else:
                        lookup.set_exception(OSError(f"the name {self.host} cannot be looked up: {error}"))
                    return lookup
                self._running = lookup
            return self._running

    def late(self) -> TimeoutError:
        """The error of a look-up that takes too long."""
        return TimeoutError(f"the name {self.host} was not resolved in time")

    def _look_up(self, lookup: Future[list[Any]], flags: int) -> None:
        outcome: Any
        try:
            outcome = socket.getaddrinfo(self.host, self._port, type=socket.SOCK_STREAM, flags=flags)
        except Exception as error:  # whatever it is: those who wait for it must not wait in vain
            outcome = error
        with self._guard:
            self._running = None  # before it is told: whoever asks from now on asks anew
        if isinstance(outcome, Exception):
            lookup.set_exception(outcome)
        else:
            self._last = outcome
            lookup.set_result(outcome)


class Connection:
    """An open connection. Used by one thread at a time, except for `abort`.

    Attributes:
        wire: its HTTP; says whether another request may follow.
        sent: whether a byte of the last request was handed to the network.
        used: whether it served a request before the present one.
    """

    __slots__ = ("_poll", "_socket", "sent", "used", "wire")

    def __init__(self, sock: socket.socket, wire: Wire) -> None:
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self.wire = wire
        self.sent = False
        self.used = False

    @classmethod
    def open(
        cls, options: ClientOptions, context: ssl.SSLContext | None, resolver: Resolver, deadline: float
    ) -> Connection:
        """Connect, and shake hands where TLS is used.

        Raises:
            OSError: that failed, or did not end before the deadline.
        """
        sock = cls._connect(options, resolver, deadline)
        try:
            if context is not None:
                sock = context.wrap_socket(sock, server_hostname=server_name(options), do_handshake_on_connect=False)
                sock.settimeout(remaining(deadline))
                sock.do_handshake()
            return cls(sock, Wire(options.authority))
        except BaseException:
            sock.close()
            raise

    @staticmethod
    def _connect(options: ClientOptions, resolver: Resolver, deadline: float) -> socket.socket:
        if options.unix_path is not None:
            return _open(socket.AF_UNIX, 0, options.unix_path, remaining(deadline))
        places = resolver.addresses(deadline)
        for number, (family, _kind, protocol, _name, place) in enumerate(places):
            others = len(places) - number - 1
            try:
                # an address that swallows packets must leave time for the others
                sock = _open(family, protocol, place, remaining(deadline) / (others + 1))
            except OSError:
                if not others:
                    raise
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        raise OSError("the name has no addresses")

    def send(self, request: HttpRequest, deadline: float) -> HttpResponse:
        """Send a request and read its whole answer.

        Raises:
            OSError: the network failed, or the deadline passed.
            WireError: what came is no answer.
        """
        self.sent = False
        data = memoryview(self.wire.request(request))
        failure: OSError | None = None
        while data:
            self._socket.settimeout(remaining(deadline))
            try:
                count = self._socket.send(data)
            except OSError as error:
                if not self.sent or isinstance(error, TimeoutError):
                    raise
                failure = error  # it may have answered early, as a server does that finds a body too large
                break
            self.sent = True
            data = data[count:]
        return self._receive(deadline, failure)

    def _receive(self, deadline: float, failure: OSError | None) -> HttpResponse:
        while True:
            self._socket.settimeout(remaining(deadline))
            try:
                answer = self.wire.feed(self._socket.recv(READ_SIZE))
            except OSError as error:
                raise failure or error from None
            if answer is not None:
                self.used = True
                return answer

    @property
    def stale(self) -> bool:
        """Whether the peer closed it, or sent what nobody asked for, while it was idle."""
        return bool(self._poll.poll(0))

    def abort(self) -> None:
        """Make whoever waits on it fail now. From any thread; `close` is still due."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it; by the thread that uses it, or once none does."""
        self._socket.close()


def _open(family: int, protocol: int, place: Any, timeout: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        sock.settimeout(timeout)
        sock.connect(place)
    except BaseException:
        sock.close()
        raise
    return sock
