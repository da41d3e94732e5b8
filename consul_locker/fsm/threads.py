"""Which threads may use a machine: one thread, or one at a time, or those that its user lets in.

A machine and the children below it have ONE guard. It also counts how deep inputs and transitions are nested, and
keeps the inputs that were posted.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, NoReturn, cast

from .errors import TooDeep, WrongThread

__all__ = ["DISPOSED", "MAX_DEPTH", "Guard"]

_LOGGER = logging.getLogger("consul_locker.fsm")

MAX_DEPTH = 64
"""How many inputs and transitions of a strict table may be one inside the other. Each takes at most 6 frames of
Python's 1,000 (measured by benchmarks/bench_fsm.py), so this is reached before they are used up, and two machines that
send inputs to each other without end reach it, too. Without strict only Python's own limit is left, as with machina
only JavaScript's."""

_Posted = tuple[Callable[..., Any], Any, tuple[Any, ...]]

FREE = 0
"""The owner of a machine with a mutex while no thread uses it; no thread has this ident."""


class Guard:
    """Lets threads in to a family of machines.

    Args:
        mutex: True: any thread, one at a time. False: the thread that makes the guard. None: any thread.

    Attributes:
        owner: the ident of the thread that may be in now; None: any.
        depth: how many inputs and transitions are one inside the other at the moment.
        posted: what is still to be handled, oldest first, as ``(handle, input, args)``.
        working: whether the thread that is in handles posted inputs now, one after another: the end of each must not
            handle the next one within itself, since with many of them that would be too deep for Python.
    """

    __slots__ = ("depth", "mutex", "owner", "posted", "working")

    def __init__(self, mutex: bool | None) -> None:
        self.mutex = threading.RLock() if mutex else None
        self.owner: int | None = None if mutex is None else FREE if mutex else get_ident()
        self.depth = 0
        self.working = False
        # An empty deque takes 600 bytes, twice as much as a machine: without a mutex there is one when it is needed.
        self.posted: deque[_Posted] | None = deque() if mutex else None

    def call(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call what another thread, or the first of all, wants to do.

        Raises:
            WrongThread: this thread may not be in.
        """
        mutex = self.mutex
        if mutex is None:
            self._refuse()
        try:
            with mutex:
                self.owner = get_ident()
                try:
                    return method(*args)
                finally:
                    self.owner = FREE
        finally:
            self.work_off()  # posted meanwhile, by threads that could not handle it themselves

    def _refuse(self) -> NoReturn:
        raise WrongThread(
            "this machine belongs to the thread that made it; make it with mutex=True for several threads,"
            " or give it inputs from its own thread"
        )

    def moved(self, guard: Guard) -> None:
        """Hand on what was posted to the guard that lets in from now on."""
        while self.posted:
            handle, input, args = self.posted.popleft()
            guard.post(handle, input, args)

    def post(self, handle: Callable[..., Any], input: Any, args: tuple[Any, ...]) -> None:
        """Have an input handled: now, or after the input under way, by the thread that handles that one.

        Raises:
            WrongThread: there is no mutex, and this is another thread.
        """
        if self.mutex is None and self.owner is not None and self.owner != get_ident():
            self._refuse()
        if self.posted is None:
            self.posted = deque()
        self.posted.append((handle, input, args))
        if not self.depth or self.mutex is not None:
            self.work_off()

    def work_off(self) -> None:
        """Handle what was posted, unless another thread uses the machine: that one does it then."""
        mutex = self.mutex
        while self.posted:
            if mutex is None:
                if self.depth or self.working:
                    return
                self._one()
                continue
            if not mutex.acquire(blocking=False):
                return  # the thread that has it looks again after releasing it
            try:
                if self.depth or self.working:
                    return  # this very thread is in the middle of an input, or at work here
                self.owner = get_ident()
                try:
                    self._one()
                finally:
                    self.owner = FREE
            finally:
                mutex.release()

    def _one(self) -> None:
        try:
            handle, input, args = cast("deque[_Posted]", self.posted).popleft()
        except IndexError:  # another one was faster
            return
        self.working = True
        try:
            handle(input, *args)
        except Exception:
            _LOGGER.exception("the posted input %r failed", input)
        finally:
            self.working = False

    def too_deep(self, what: str) -> NoReturn:
        """Raise `TooDeep`."""
        raise TooDeep(
            f"{what} would be number {self.depth + 1} of inputs and transitions that are each inside the one before:"
            " do they lead to each other without end?"
        )


class _Disposed(Guard):
    """Lets no thread in."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(False)
        self.owner = FREE

    def _refuse(self) -> NoReturn:
        raise RuntimeError("the machine was disposed of; make a new one")


DISPOSED: Guard = _Disposed()
"""The guard of machines that were disposed of."""
