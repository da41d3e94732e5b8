"""What this thread is doing for the library, and so whether a call of its user may wait here.

Python runs strangers' code in the middle of anything: signal handlers in the main thread, the finalizers of objects
and generators that are thrown away in every thread. When such code calls a Locker, the thread that runs it may be
in the middle of a step of a core, or may carry the very transaction that the call would wait for. So such a call
may wait only when what it interrupts is asleep; what need not wait is done at once, or right after the step.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["INSIDE"]


class _Inside(threading.local):
    """One for each thread.

    Attributes:
        serves: whether it is a thread of the library's own: others wait for it.
        stepping: whether it is in the middle of a step of a core, or about to be, and may have its mutex.
        carrying: whether it is in the middle of a call, and not asleep in it: it may carry a transaction.
        observes: whether it calls the observers of a factory.
        asleep: the waiter in which it sleeps, beneath whatever runs now.
        later: what came in between, to be done after the step.
    """

    def __init__(self) -> None:
        self.serves = False
        self.stepping = False
        self.carrying = False
        self.observes = False
        self.asleep: Any = None
        self.later: deque[Callable[[], None]] = deque()

    @property
    def busy(self) -> bool:
        """Whether nothing can be waited for here."""
        return self.serves or self.stepping or self.carrying

    def refuse(self, observes: bool, advice: str, batched: bool = True) -> None:
        """Refuse what would wait where the library itself waits for this thread.

        Args:
            observes: whether this is an observer that the caller's own signals wait for.
            advice: what to do instead.
            batched: whether it would wait for what this thread may be carrying.

        Raises:
            RuntimeError: this is such a place.
        """
        if observes:
            raise RuntimeError(
                f"this call would wait inside an observer of a signal, or a callback of a future; {advice}"
            )
        if self.stepping or self.serves or (self.carrying and batched):
            raise RuntimeError(
                "this call would wait for the call of this thread that it came in between, from a signal handler, an "
                f"object's finalizer, or a strategy; {advice}"
            )


INSIDE = _Inside()
