"""The addresses of a factory, which of them is in use, and the way of a request from one to the next.

The addresses are servers or agents of one datacenter, so any of them can do any request. The one that answers is kept.
When it refuses the connection, breaks off, does not answer in time, or says that it has no leader, the next one is in
use. A request that Consul has certainly not done goes on to the next address at once, one round at most. One that may
have been done is not sent again: what an unanswered request means is for the core to decide (rule 5).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..config.options import ClientOptions
from ..errors import ConsulUnavailable
from .dns import Resolver
from .encode import HttpRequest, HttpResponse
from .words import no_leader

__all__ = ["Addresses", "Peer", "Way"]


class Peer:
    """Consul at one address.

    Attributes:
        options: of the factory, for this address alone.
        resolver: of its host's name.
    """

    __slots__ = ("options", "resolver")

    def __init__(self, options: ClientOptions) -> None:
        self.options = options
        self.resolver = Resolver(options.host, options.port)

    @property
    def secure(self) -> bool:
        """Whether connections to it use TLS."""
        return self.options.scheme == "https"


class Addresses:
    """The addresses of one factory, and which of them is in use. For any thread.

    Args:
        options: of the factory.

    Attributes:
        peers: Consul at each address, in the order in which they were given.
        current: the one in use.
        moves: how often another one came in use.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._begin(tuple([Peer(one) for one in options.each]))

    def _begin(self, peers: tuple[Peer, ...]) -> None:
        self.peers = peers
        # Read without the mutex: each is one value, and a reader of an old one does what was right a moment before.
        self.current = peers[0]
        self.moves = 0
        self._guard = threading.RLock()  # a signal handler may come in between
        self._listeners: list[Callable[[], object]] = []

    @property
    def in_use(self) -> str:
        """The address in use, in words: ``http://10.0.0.1:8500``."""
        return self.current.options.address

    def apart(self) -> Addresses:
        """The same addresses with a choice of its own: for renewals."""
        other = Addresses.__new__(Addresses)
        other._begin(self.peers)
        return other

    def on_move(self, listener: Callable[[], object]) -> None:
        """Have ``listener`` called, in any thread, when another address has come in use."""
        self._listeners.append(listener)

    def failed(self, peer: Peer) -> None:
        """A request to a peer failed. If it is the one in use, the next one is from now on."""
        with self._guard:
            following = self.peers[(self.peers.index(peer) + 1) % len(self.peers)]
            if peer is not self.current or following is peer:
                return
            self.current = following
            self.moves += 1
        for listener in self._listeners:
            listener()


class Way:
    """The way of one request over the addresses: the one in use first, none twice.

    Args:
        addresses: the transport's.
        request: what is sent.
        stays: it does not go on: it is for one address only.

    Attributes:
        peer: to whom it goes now.
    """

    __slots__ = ("_addresses", "_failures", "_left", "_request", "peer")

    def __init__(self, addresses: Addresses, request: HttpRequest, stays: bool = False) -> None:
        self._addresses = addresses
        self._request = request
        self._failures: list[ConsulUnavailable] = []
        self.peer = addresses.current
        only = stays or len(addresses.peers) == 1
        self._left = [] if only else [peer for peer in addresses.peers if peer is not self.peer]

    def connect_until(self, now: float, deadline: float) -> float:
        """When to give up connecting: an address that swallows packets must leave time for the others."""
        return now + (deadline - now) / 2 if self._left else deadline

    def accepts(self, answer: HttpResponse) -> bool:
        """Whether an answer is that of the request; if not, it goes on to the next `peer`."""
        if not no_leader(answer.status, answer.body):
            return True
        self._addresses.failed(self.peer)
        if not self._left:
            return True
        where = self.peer.options.address
        what = f"{self._request.operation}: no leader at {where} (status {answer.status})"
        failure = ConsulUnavailable(what, operation=self._request.operation, status=answer.status, outage=True)
        self._failures.append(failure)
        self._next()
        return False

    def failed(self, error: ConsulUnavailable, over: bool) -> None:
        """There is no answer; it goes on to the next `peer`, if that is safe.

        Args:
            error: what happened.
            over: whether its time is over.

        Raises:
            ConsulUnavailable: it does not go on.
        """
        if error.sent or not over:  # else it may have lost its time before this address had any of it
            self._addresses.failed(self.peer)
        self._failures.append(error)
        if error.sent or over or not self._left:
            raise self._summary(error)
        self._next()

    def _next(self) -> None:
        following = self._addresses.current
        self.peer = following if following in self._left else self._left[0]
        self._left.remove(self.peer)

    def _summary(self, last: ConsulUnavailable) -> ConsulUnavailable:
        """The error of the request, which says what happened at each address."""
        if len(self._failures) == 1:
            return last
        beginning = f"{last.operation}: "
        return ConsulUnavailable(
            beginning + "; ".join([str(one).removeprefix(beginning) for one in self._failures]),
            operation=last.operation,
            cause=last.cause,
            sent=last.sent,
            # What an option is to blame for at one address may go well at another.
            option=last.option if all(one.option for one in self._failures) else None,
            outage=any(one.outage for one in self._failures),
        )
