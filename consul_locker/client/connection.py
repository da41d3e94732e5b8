"""One blocking connection to Consul, each of whose steps keeps to a deadline."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import TYPE_CHECKING, Any

from .addresses import Peer
from .dns import remaining
from .encode import HttpRequest, HttpResponse
from .http import READ_SIZE, Wire
from .tls import is_alert, server_name

if TYPE_CHECKING:
    import ssl

__all__ = ["Connection"]


class Connection:
    """An open connection. Used by one thread at a time, except for `abort`.

    Attributes:
        wire: its HTTP; says whether another request may follow.
        sent: whether a byte of the last request was handed to the network.
        used: whether it served a request before the present one.
        peer: whom it leads to.
    """

    __slots__ = ("_poll", "_socket", "peer", "sent", "used", "wire")

    def __init__(self, sock: socket.socket, wire: Wire, peer: Peer) -> None:
        self.peer = peer
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self.wire = wire
        self.sent = False
        self.used = False

    @classmethod
    def open(cls, peer: Peer, context: ssl.SSLContext | None, deadline: float) -> Connection:
        """Connect, and shake hands where TLS is used.

        Raises:
            OSError: that failed, or did not end before the deadline.
        """
        sock = cls._connect(peer, deadline)
        try:
            if context is not None:
                name = server_name(peer.options)
                sock = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
                sock.settimeout(remaining(deadline))
                sock.do_handshake()
            return cls(sock, Wire(peer.options.authority, peer.options.path), peer)
        except BaseException:
            sock.close()
            raise

    @staticmethod
    def _connect(peer: Peer, deadline: float) -> socket.socket:
        if peer.options.unix_path is not None:
            return _open(socket.AF_UNIX, 0, peer.options.unix_path, remaining(deadline))
        places = peer.resolver.addresses(deadline)
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
                if not (self.sent or self.peer.secure) or isinstance(error, TimeoutError):
                    raise
                # It may have answered early, as a server does that finds a body too large; or, over TLS, have said why
                # it refuses our certificate, which it may do after the handshake.
                failure = error
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
                raise error if failure is None or is_alert(error) else failure from None
            if answer is not None:
                self.used = True
                return answer

    @property
    def stale(self) -> bool:
        """Whether the peer closed it, or sent bytes that no request asked for, while it was idle."""
        return bool(self._poll.poll(0))

    def abort(self) -> None:
        """Make the request on it fail now. From any thread; `close` must still be called."""
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
