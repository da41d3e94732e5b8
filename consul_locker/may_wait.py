"""What the present thread is doing for the library, and so whether a call may wait on it.

Python can run other code in the middle of any code: signal handlers in the main thread, the finalizers of objects and
of generators in every thread. When such code calls a Locker, its thread may be in the middle of a step of a core, or
it may be the one that sends the transaction which the call would wait for. So such a call may wait only if the code
that it interrupts is asleep. A call that need not wait is done at once, or right after the step.

On asyncio what counts is the task that runs: aio/observers.py.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["MACHINES", "THIS_THREAD"]


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


class _ThisThread(threading.local):
    """The state of the present thread; each thread has its own.

    Attributes:
        is_internal: whether it is a thread of the library: other threads wait for it.
        in_step: whether it is in a step of a core, or just before one, and may hold the Locker's mutex.
        in_call: whether it is in a call that waits, and not asleep: it may be sending a transaction.
        calls_observers: whether it is the thread that calls the observers of a factory.
        sleeps_in: the `Waiter` of the call in which it sleeps, below the code that runs now; None if there is none.
        after_step: what was asked for during the step, to be done after it.
    """

    def __init__(self) -> None:
        self.is_internal = False
        self.in_step = False
        self.in_call = False
        self.calls_observers = False
        self.sleeps_in: Any = None
        self.after_step: deque[Callable[[], object]] = deque()

    @property
    def must_not_wait(self) -> bool:
        """Whether no call may wait on this thread now."""
        return self.is_internal or self.in_step or self.in_call or MACHINES.here

    def refuse_wait(self, in_observer: bool, advice: str, batched: bool = True) -> None:
        """Refuse a call that would wait while the library itself waits for this thread.

        Args:
            in_observer: whether this is an observer whose end the call's own signals would wait for.
            advice: what to do instead.
            batched: whether the call would wait for a transaction, which this thread may be sending.

        Raises:
            RuntimeError: the call must not wait here.
        """
        if MACHINES.here:
            raise RuntimeError(
                "this call would wait in an action or a handler of a machine that has a Locker below its state, and all"
                f' others would wait for it; {advice}, or use the machine\'s handle("lock", id): its outcome arrives'
                " as an input"
            )
        if in_observer:
            raise RuntimeError(
                f"this call would wait inside an observer of a signal, or a callback of a future; {advice}"
            )
        if self.in_step or self.is_internal or (self.in_call and batched):
            raise RuntimeError(
                "this call would wait for another call of the same thread, which it interrupted: it was made by a "
                f"signal handler, an object's finalizer, or a strategy; {advice}"
            )


THIS_THREAD = _ThisThread()
