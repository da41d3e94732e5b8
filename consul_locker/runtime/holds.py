"""What the holds of both faces have in common: who has them, and how they end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..core.calls import Call, LeaveHold, LockCall
from ..strategies import NoStrategy
from .locker import BaseLocker, LeaseT

__all__ = [
    "BaseHolds",
    "Hold",
    "as_list",
    "note",
]


def note(error: BaseException, text: str) -> None:
    """Add a note to an exception, as ``add_note`` does from Python 3.11 on."""
    notes: list[str] = [*getattr(error, "__notes__", ()), text]
    vars(error)["__notes__"] = notes


def as_list(granted: Any) -> list[Any]:
    """What a hold was granted, as a list: `hold` gets one lease, `hold_many` a list."""
    return granted if isinstance(granted, list) else [granted]


class Hold:
    """A hold under way.

    Attributes:
        caller: the thread or task that began it.
        process: the process that began it: a forked child leaves it, too, and must not end it (rule 10).
        over: whether it has ended.
    """

    __slots__ = ("caller", "over", "process")

    def __init__(self, caller: Any) -> None:
        self.caller = caller
        self.process = os.getpid()
        self.over = False


class BaseHolds(BaseLocker[LeaseT]):
    """The part of a Locker that holds, as far as it never waits."""

    #: What calls it, for messages: a thread, or a task.
    _caller: str

    @contextmanager
    def _no_new_locks(self) -> Iterator[None]:
        """Meanwhile calls for locks are refused, those for locks that are held already, too."""
        self._draining, self._strategy = True, NoStrategy()  # the fast path asks the strategy
        try:
            yield
        finally:
            self._draining, self._strategy = False, self._core.strategy

    def _held_one(self) -> Any:
        """A lease that is valid; None if there is none."""
        return next((lease for lease in self.held.values() if lease.valid), None)

    def _is_within(self, hold: Hold) -> bool:
        """Whether the code that runs now is within the hold."""
        return True

    def _hold_call(
        self, hold: Hold, kind: type[LockCall], ids: Iterable[Any], wait: Any, timeout: Any
    ) -> LockCall:
        """A call for a hold.

        Raises:
            RuntimeError: the caller holds one of them already.
        """
        call = self._lock_call(kind, ids, wait, timeout)
        for id in call.ids:
            other = self._holds.get((hold.caller, id))
            if other is not None and not other.over and self._is_within(other):
                raise RuntimeError(
                    f"this {self._caller} holds {id!r} already; a hold within a hold would wait for itself"
                )
        return call

    def _begin_hold(self, hold: Hold, granted: Any) -> list[LeaseT]:
        """A hold was granted; returns its leases."""
        leases: list[LeaseT] = as_list(granted)
        self._holds.update({(hold.caller, lease.id): hold for lease in leases})
        return leases

    def _end_hold(self, hold: Hold, leases: list[LeaseT]) -> Call:
        """The call that gives back the leases of a hold."""
        hold.over = True
        call = LeaveHold(leases)
        for id in call.ids:
            if self._holds.get((hold.caller, id)) is hold:  # else a thread of a pool has begun another hold since
                del self._holds[hold.caller, id]
        return call

    @contextmanager
    def _leaving(self, hold: Hold, leases: list[LeaseT], error: BaseException | None) -> Iterator[Call]:
        """Around the call that ends a hold: report a lease that was lost, but never hide the body's own error.

        Raises:
            LockLost: a lease was lost, and the body ended without an error.
        """
        call = self._end_hold(hold, leases)
        lost = next((lease for lease in leases if not lease.valid), None)
        yield call
        if lost is not None:
            report = lost.loss()
            if error is None:
                raise report
            note(error, str(report))
