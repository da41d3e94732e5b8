"""A caller of the threaded face that is blocked: how it sleeps, and what it carries (see runtime.py)."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from ..core.requests import Transact

__all__ = ["Waiter"]


class Waiter:
    """A blocked caller: it sleeps until it is answered, or is offered a transaction to carry.

    Attributes:
        carries: the transaction that it carries.
        closed: whether it can carry none: it has left, or is interrupted.
        offers: the transactions that it was offered.
    """

    __slots__ = ("_sleep", "carries", "closed", "done", "error", "extra", "offers", "value")

    def __init__(self) -> None:
        self._sleep = threading.Lock()  # held while there is nothing to wake up for
        self._sleep.acquire()
        self.offers: deque[Transact] = deque()
        self.carries: Transact | None = None
        self.closed = False
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.extra = 0

    def offer(self, request: Transact) -> bool:
        """Offer a transaction to carry. False when nobody is there any more to take it."""
        self.offers.append(request)
        # The caller may leave at this very moment; whoever of both gets it out of the queue has it.
        return not (self.closed and self.withdraw(request))

    def withdraw(self, request: Transact) -> bool:
        """Take an offer back. Returns whether it was still there."""
        try:
            self.offers.remove(request)
        except ValueError:
            return False
        return True

    def take(self) -> Transact | None:
        """The transaction offered, if any; it is what the caller carries, until he looks again."""
        if not self.offers:
            self.carries = None
            return None
        self.carries = self.offers[0]  # known before it is taken: he may be interrupted
        return self.offers.popleft()

    def reopen(self) -> None:
        """The interruption is over."""
        self.closed = False
        self.wake()

    def wake(self) -> None:
        """Let it look; more than once does no harm."""
        try:
            self._sleep.release()
        except RuntimeError:  # it is awake already
            pass

    def sleep(self) -> None:
        """Sleep until somebody wakes it."""
        self._sleep.acquire()
