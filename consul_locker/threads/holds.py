"""`hold` and `hold_many` of a Locker on threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..core import calls
from ..core.calls import HoldMany, LockCall
from ..errors import LockLost
from ..keys import LockId
from ..runtime.holding import Holding, check_no_function
from ..runtime.holds import BaseHolds, Hold, as_list
from .lease import Lease
from .losses import OnLost, check_on_lost
from .observers import ObserverThread
from .runtime import ThreadRuntime

__all__ = ["Holds"]

#: The holds, of any Locker, whose bodies this code runs in. Code that runs in a copied context has them, too.
_WITHIN: ContextVar[tuple[Hold, ...]] = ContextVar("consul_locker_within", default=())


class Holds(BaseHolds[Lease]):
    """The part of a Locker that holds."""

    _caller = "thread"
    _factory: Any  # the face's `LockerFactory`, which comes after this
    _runtime: ThreadRuntime
    _delivery: ObserverThread

    def hold(
        self,
        id: LockId,
        *,
        wait: float | None = 0.0,
        timeout: float | None = None,
        on_lost: Callable[[LockLost], object] | None = None,
    ) -> Holding[Lease]:
        """Hold a lock while the body of a ``with`` runs: exclusive also among this Locker's callers.

        Before a function, ``@locker.hold("id")``, it holds the lock while the function runs, anew for each call. A
        RuntimeWarning says when what this returns is thrown away without being entered: no lock was taken then.

        Entering raises what `lock` raises, and those below.

        Args:
            id, wait, timeout: as for `lock`.
            on_lost: called with the `LockLost` as soon as it is known that the lease is lost while the body runs: in
                the thread of the observers, so it should be short, and what it raises is logged. Once for each lease,
                and never for the release at the end. It cannot stop the body; it may set an event that the body asks.

        Raises:
            LockLost: at the end of the body, if the lease was lost while it ran.
            RuntimeError: this thread holds the same lock already.
            ConfigurationError: ``on_lost`` is no plain function; at once.
        """
        check_no_function(id)
        check_on_lost(on_lost)
        return Holding(lambda: self._hold_one(id, wait, timeout, on_lost), f"locker.hold({id!r})", "with")

    @contextmanager
    def _hold_one(self, id: Any, wait: Any, timeout: Any, on_lost: Any) -> Iterator[Lease]:
        with self._holding(calls.Hold, (id,), wait, timeout, on_lost) as leases:
            yield leases[0]

    def hold_many(
        self,
        ids: Iterable[LockId],
        *,
        wait: float | None = 0.0,
        timeout: float | None = None,
        on_lost: Callable[[LockLost], object] | None = None,
    ) -> Holding[list[Lease]]:
        """Hold several locks, all or none, while the body of a ``with`` runs. As `hold` and `lock_many`."""
        given = self._ids(ids)  # once: they may come from a generator
        check_on_lost(on_lost)
        return Holding(
            lambda: self._holding(HoldMany, given, wait, timeout, on_lost), f"locker.hold_many({given!r})", "with"
        )

    @contextmanager
    def _holding(
        self, kind: type[LockCall], ids: Iterable[Any], wait: Any, timeout: Any, on_lost: Any
    ) -> Iterator[list[Lease]]:
        hold = Hold(threading.get_ident())
        loss = OnLost(on_lost, self._delivery)
        call = self._hold_call(hold, kind, ids, wait, timeout)
        if not call.ids:
            yield []
            return
        granted: Any = None
        try:
            granted = self._ask(call)
            leases = self._begin_hold(hold, granted)
            _WITHIN.set((*(other for other in _WITHIN.get() if not other.over), hold))
            loss.watch(leases)
            yield leases
        except BaseException as error:
            loss.end()
            if granted is not None:
                self._leave(hold, as_list(granted), error)
            raise
        else:
            loss.end()
            self._leave(hold, leases, None)
        finally:
            hold.over = True
            if granted is not None and any(lease.live for lease in as_list(granted)):  # interrupted before it was ended
                self._runtime.leave_later(as_list(granted))

    def _leave(self, hold: Hold, leases: list[Lease], error: BaseException | None) -> None:
        if hold.process != os.getpid():
            return  # it is the parent process's hold, and goes on there (rule 10)
        with self._leaving(hold, leases, error) as call:
            self._ask(call)

    def _is_within(self, hold: Hold) -> bool:
        # A pool's thread that began a hold may run other code before the hold ends: that code is not within the hold.
        return hold in _WITHIN.get()
