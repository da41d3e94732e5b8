"""What this thread is doing for the library, and so whether a call of its user may wait here.

Python runs strangers' code in the middle of anything: signal handlers in the main thread, the finalizers of objects
and generators that are thrown away in every thread. When such code calls a Locker, the thread that runs it may be
in the middle of a step of a core, or may carry the very transaction that the call would wait for. So such a call
may wait only when what it interrupts is asleep; what need not wait is done at once, or right after the step.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["INSIDE", "MACHINES"]


class _Guard(Protocol):
    """What lets threads in to a machine: its owner is the ident of the thread that is in."""

    owner: int | None
    mutex: Any


class _Machines:
    """The machines with a mutex that have a Locker below their present state.

    Whoever waits for Consul while it is at such a machine keeps all others from it, observers included, whom its own
    call may be waiting for.
    """

    def __init__(self) -> None:
        self._guard = threading.RLock()  # a finalizer may come in between
        # Written anew at each change, never changed in place: calls that wait look at it without the mutex.
        self._all: tuple[tuple[weakref.ref[Any], _Guard], ...] = ()

    def add(self, child: object, guard: _Guard) -> None:
        """A Locker has come below a machine; as long as the child lives, or until `remove`."""
        if guard.mutex is not None:
            with self._guard:
                self._all = (*self._without(child), (weakref.ref(child), guard))

    def remove(self, child: object) -> None:
        """Its state was left."""
        with self._guard:
            self._all = self._without(child)

    def _without(self, child: object) -> tuple[tuple[weakref.ref[Any], _Guard], ...]:
        return tuple(each for each in self._all if each[0]() not in (None, child))

    @property
    def here(self) -> bool:
        """Whether this thread is at one of them."""
        machines = self._all
        if not machines:
            return False
        me = threading.get_ident()
        return any(guard.owner == me for _, guard in machines)


MACHINES = _Machines()


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
        return self.serves or self.stepping or self.carrying or MACHINES.here

    def refuse(self, observes: bool, advice: str, batched: bool = True) -> None:
        """Refuse what would wait where the library itself waits for this thread.

        Args:
            observes: whether this is an observer that the caller's own signals wait for.
            advice: what to do instead.
            batched: whether it would wait for what this thread may be carrying.

        Raises:
            RuntimeError: this is such a place.
        """
        if MACHINES.here:
            raise RuntimeError(
                "this call would wait in an action or a handler of a machine that has a Locker below its state, and all"
                f' others would wait for it; {advice}, or use the machine\'s handle("lock", id): its outcome arrives'
                " as an input"
            )
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
