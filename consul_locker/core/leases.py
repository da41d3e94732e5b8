"""The leases of a Locker: how each begins, answers calls and ends, and what observers hear of it.

Observers hear of locks, not of places in the queue of a fair Locker (`Slot.is_place`), which are leases as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ConsulLockerError
from ..lease import BaseLease, SessionLife
from ..models import LossReason
from ..strategies import Strategy
from .calls import LockCall
from .doubts import Doubts
from .key import Slot
from .ledger import Ledger
from .messages import Emit
from .step import Outbox

__all__ = ["LeaseType", "Leases"]

#: Makes a lease: id, session, fence, when it was granted, whether it is exclusive.
LeaseType = Callable[[str, SessionLife, int, float, bool], BaseLease]


class Leases:
    """The leases of one Locker.

    Args:
        outbox, ledger, doubts: of the Locker.
        strategy: says which lease answers further calls.
        make: makes a lease of the Locker's face.
    """

    __slots__ = ("_doubts", "_ledger", "_make", "_out", "_strategy")

    def __init__(
        self, outbox: Outbox, ledger: Ledger, doubts: Doubts, strategy: Strategy, make: LeaseType
    ) -> None:
        self._out = outbox
        self._ledger = ledger
        self._doubts = doubts
        self._strategy = strategy
        self._make = make

    def grant(self, slot: Slot, fence: int, life: SessionLife, exclusive: bool) -> None:
        """Consul has granted a lock."""
        if slot.lease is not None:
            # Without a cache the same session takes the lock again: a new tenure, which ends the old.
            self.lose(slot, "taken again")
        lease = self._make(slot.id, life, fence, self._out.now, exclusive)
        lease.cached = not (exclusive or slot.is_place) and self._keeps(lease)
        self.tell("lock_acquired", slot, "granted", lease=lease)
        self._ledger.grant(slot, lease)
        slot.leftover = False  # the doubts stay: an older acquire may commit after this tenure's release

    def give(self, call: LockCall, leases: list[BaseLease]) -> None:
        """Answer a call with its leases."""
        call.leases = tuple(leases)
        for lease in leases:
            lease.takers += 1
        self._out.settle(call, leases if call.is_set else leases[0])

    def end(self, slot: Slot) -> None:
        """End the lease of a key for all its callers, before the release is sent."""
        if slot.lease is not None:
            self._out.end(slot.lease, "released")
            self._ledger.leases.pop(slot.id, None)

    def end_all(self, reason: LossReason) -> None:
        """No lease is valid from now on. The signals follow later."""
        for lease in self._ledger.held():
            self._out.end(lease, reason)
        self._ledger.part()

    def lose(self, slot: Slot, reason: LossReason) -> None:
        """The lease of a key, if it has one, is lost."""
        lease = slot.lease
        if lease is not None:
            self._out.end(lease, reason)
            self._ledger.drop(slot)
            self._doubts.add_former(slot)
            self.tell_lost(lease, reason)

    # ------------------------------------------------------------------------------ the strategy, a user's object

    def answers(self, slot: Slot) -> bool:
        """Whether the lease of a key answers a call now."""
        lease = slot.lease
        if lease is None or not lease.cached or not lease.live:
            return False
        try:
            return bool(self._strategy.serves(lease, self._out.now))
        except Exception as error:
            self._out.warn(f"strategy.serves raised {error!r}; Consul is asked")
            return False

    def _keeps(self, lease: BaseLease) -> bool:
        try:
            return bool(self._strategy.keeps(lease))
        except Exception as error:
            self._out.warn(f"strategy.keeps raised {error!r}; the lease answers nobody else")
            return False

    # ------------------------------------------------------------------------------------------- signals

    def tell(self, signal: str, key: Slot | BaseLease, counter: str | None = None, **facts: Any) -> None:
        """Send a signal and count it, for a lock; not for a place in a queue."""
        if not key.is_place:
            if counter is not None:
                self._out.count(counter)
            facts["id"], facts["key"] = key.id, key.key
            self._out.commands.append(Emit(signal, facts))

    def tell_lost(self, lease: BaseLease, reason: LossReason) -> None:
        """A lease was lost, or its release was not confirmed."""
        self.tell("lock_lost", lease, "lost", lease=lease, reason=reason)

    def tell_failed(self, slots: Iterable[Slot], error: ConsulLockerError) -> None:
        """An attempt at locks failed."""
        self._out.count("failed")
        for slot in slots:
            self.tell("lock_denied", slot, error=error)
