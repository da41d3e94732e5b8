"""A blocked call of a thread: how it sleeps, and the transactions that it is offered to carry (see carriers.py)."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from ..core.requests import Transact

__all__ = ["Waiter"]


class Waiter:
    """A blocked call: it sleeps until it is answered, or is offered a transaction to carry.

    Attributes:
        carries: the transaction that it sends now.
        closed: whether it can carry none: it has ended, or is interrupted.
        done: whether it is answered: with ``value``, or with ``error``.
        extra: how many transactions it has carried after its own outcome.
        offers: the transactions that it was offered and has not taken yet.
    """

    __slots__ = ("_sleep", "carries", "closed", "done", "error", "extra", "offers", "value")

    def __init__(self) -> None:
        self._sleep = threading.Lock()  # held as long as there is no reason to wake up
        self._sleep.acquire()
        self.offers: deque[Transact] = deque()
        self.carries: Transact | None = None
        self.closed = False
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.extra = 0

    def offer(self, request: Transact) -> bool:
        """Offer a transaction to carry.

        Returns:
            False: the call can carry none; another carrier is needed.
        """
        self.offers.append(request)
        # The call may end between these lines. Then both threads try to take the request out of the queue, and the one
        # that succeeds gives it to another carrier.
        return not (self.closed and self.withdraw(request))

    def withdraw(self, request: Transact) -> bool:
        """Take an offer back.

        Returns:
            Whether it was still there.
        """
        try:
            self.offers.remove(request)
        except ValueError:
            return False
        return True

    def take(self) -> Transact | None:
        """Take the next offer: the call carries it until the next `take`. None if there is no offer."""
        if not self.offers:
            self.carries = None
            return None
        self.carries = self.offers[0]  # noted before it is taken out, since the thread may be interrupted
        return self.offers.popleft()

    def reopen(self) -> None:
        """The interruption is over: the call can carry again."""
        self.closed = False
        self.wake()

    def settle(self, value: Any, error: BaseException | None) -> None:
        """The call is answered, unless it was before."""
        if not self.done:
            self.value, self.error = value, error
            self.done = True

    def wake(self) -> None:
        """Wake the call; more than once does no harm."""
        try:
            self._sleep.release()
        except RuntimeError:  # it is awake already
            pass

    def sleep(self) -> None:
        """Sleep until `wake` is called."""
        self._sleep.acquire()
