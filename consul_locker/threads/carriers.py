"""Which thread sends a transaction: its carrier.

A blocked call that has an operation in a transaction can *carry* it: its own thread sends the transaction, for all
calls that are in it. So a single caller pays no thread switch (RocksDB does the same with the leader of a write
group). After its own outcome a call carries at most one more transaction, then the next carrier is a call that still
waits. If no call is blocked, the I/O thread is the carrier.

Calls that were in one transaction come back one by one. The first of them lets the others come before it sends
(`gather`): else it would have a transaction for itself each time, and all others the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.batch import Batch
from ..core.messages import Call, Event
from ..core.requests import Failed, Outcome, Transact
from ..errors import ConsulLockerError, ConsulUnavailable
from ..runtime.clock import Clock
from .waiter import Waiter

if TYPE_CHECKING:
    from ..client.blocking import BlockingTransport
    from ..client.encode import Encoder
    from .io_thread import IoThread

__all__ = ["Carriers", "gather"]

#: How many transactions a call carries after its own outcome. With more of them a call could go on for ever while
#: others keep coming; with none the next carrier would have to be woken each time.
EXTRA_TRANSACTIONS = 1
#: So often at most a caller lets others run before a transaction is sent. Each time takes some microseconds, or up to
#: Python's switch interval (5 ms) where another thread computes. With 10 callers 8 gave 7,700 locks a second, 3 gave
#: 7,000, none 5,700 (measured).
GATHERS = 8


def let_others_run() -> None:
    """Let go of Python's lock; it returns at once when no other thread is ready to run."""
    time.sleep(0)


def gather(batch: Batch) -> None:
    """Let those run who were served with the last transaction, as long as they come: their calls go along."""
    came = 0
    for _ in range(GATHERS):
        if not came < batch.wanted < batch.last:
            break
        came = batch.wanted
        let_others_run()


class Carriers:
    """Chooses the carrier of each transaction of one Locker.

    Args:
        receive: the Locker's: takes the answer of a transaction that the I/O thread sends.
        clock: of the core.
        encoder, transport, io_thread: the factory's.
        timeout: the limit on one request, in seconds.
    """

    def __init__(
        self,
        receive: Callable[[Event], object],
        clock: Clock,
        encoder: Encoder,
        transport: BlockingTransport,
        io_thread: IoThread,
        timeout: float,
    ) -> None:
        self._receive = receive
        self._clock = clock
        self._encoder = encoder
        self._transport = transport
        self._io_thread = io_thread
        self._timeout = timeout

    def choose(self, request: Transact, me: Call | None) -> None:
        """Offer a transaction to a blocked call that has an operation in it, else give it to the I/O thread.

        Args:
            request: the transaction.
            me: the call of this thread, if it is blocked and can carry.
        """
        if me is not None:
            mine: Waiter = me.waiter
            if not mine.done and me in request.calls and self.has_time(me):
                mine.offer(request)
                return
            if mine.done and mine.extra < EXTRA_TRANSACTIONS:
                mine.extra += 1
                mine.offer(request)
                return
        for call in request.calls:
            waiter = call.waiter
            if isinstance(waiter, Waiter) and not waiter.done and self.has_time(call) and waiter.offer(request):
                waiter.wake()
                return
        self.hand_to_io(request)

    def take_back(self, waiter: Waiter) -> None:
        """A call ends, or is interrupted: the I/O thread sends what was offered to the call."""
        waiter.closed = True
        while waiter.offers:
            for request in tuple(waiter.offers):
                self.hand_to_io(request)  # before it is taken out, so that it is never lost; it is sent only once
                waiter.withdraw(request)

    def hand_to_io(self, request: Transact) -> None:
        """Have the I/O thread send a transaction."""
        self._io_thread.put(self._receive, request)
        self._io_thread.wake()

    def has_time(self, call: Call) -> bool:
        """Whether a call can wait for a whole request without passing its own time limit."""
        return call.limit - self._clock.now() >= self._timeout

    def send(self, request: Transact) -> Outcome:
        """Send a transaction on this thread, and return what came of it."""
        try:
            http = self._encoder.encode(request)
            return http.decode(self._transport.send(http, request.timeout))
        except ConsulUnavailable as error:
            return Failed(error, error.sent)
        except ConsulLockerError as error:
            return Failed(error, False)
