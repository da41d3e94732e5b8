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
        asleep: the waiter in which it sleeps, beneath whatever runs now.
        later: what came in between, to be done after the step.
    """

    def __init__(self) -> None:
        self.serves = False
        self.stepping = False
        self.carrying = False
        self.asleep: Any = None
        self.later: deque[Callable[[], None]] = deque()

    @property
    def busy(self) -> bool:
        """Whether nothing can be waited for here."""
        return self.serves or self.stepping or self.carrying


INSIDE = _Inside()
