"""The end of all locks and operations at once: a stop, or the end of the session."""

from __future__ import annotations

from ..lease import BaseLease
from ..models import LossReason
from .calls import LockCall, ManyReleases
from .denials import Denials
from .ledger import LockWork, ReleaseWork, Slot

__all__ = ["Endings"]


class Endings(Denials):
    """The end of a stop, and of a generation."""

    def refuse_waiting(self) -> list[LockCall]:
        """A stop begins: take out every call that wants a lock, and every operation not sent yet.

        Works in flight are still answered by Consul; a lock granted by one of them is given back.

        Returns:
            The calls, for the caller to refuse.
        """
        self._repeats = False
        self._pace.end()
        calls: list[LockCall] = []
        for work in list(self._ledger.works()):
            if isinstance(work, LockWork):
                if not work.takes_places:
                    calls.extend(work.live())
                work.calls = []
                if not work.sent:
                    self._batch.unwant(work)
                    for following in self._ledger.finish(work):
                        if isinstance(following, ReleaseWork):
                            self._start(following)
        for slot in list(self._ledger.slots.values()):
            for call in [call for call in slot.waiters if not call.settled]:
                calls.append(call)
                self._waiting.remove(call)
        return sorted(calls, key=lambda call: call.order)

    def end_leases(self, reason: LossReason) -> None:
        """A stop destroys the session: its leases are not valid from now on. The signals follow later."""
        for slot in self._ledger.slots.values():
            if slot.lease is not None:
                self._out.end(slot.lease, reason)
        self._ledger.leases.clear()

    @staticmethod
    def _ends_with_session(work: ReleaseWork) -> bool:
        """Whether a release counts as done when the session ends: it was to be made again after an outage."""
        return work.failures > 0 or (work.call is not None and work.call.riding is not None)

    def end_generation(self, reason: LossReason, released: bool = False) -> list[LockCall]:
        """The session is over: every lease with it, and every operation.

        Args:
            reason: why, for the leases.
            released: whether each lease counts as released (a stop that Consul confirmed).

        Returns:
            The calls that still want a lock, in the order in which they came.
        """
        ledger = self._ledger
        calls: list[LockCall] = []
        gone: list[tuple[ReleaseWork, BaseLease, bool]] = []
        releases: list[ManyReleases] = []
        for work in ledger.works():
            if isinstance(work, LockWork):
                if not work.takes_places:  # else its call is in the line, or gone
                    calls.extend(work.live())
                continue
            done = self._ends_with_session(work)
            if work.lease is not None:
                gone.append((work, work.lease, released or done))
            if isinstance(work.call, ManyReleases):
                work.call.released += done
                releases.append(work.call)
            elif work.call is not None:
                self._out.settle(work.call, done)
        for call in releases:
            self._out.settle(call, call.released)
        slots = list(ledger.slots.values())
        for slot in slots:
            if slot.waiters:
                calls.extend(waiter for waiter in slot.waiters if not waiter.settled)
            if slot.lease is not None:
                self._out.end(slot.lease, reason)
        ledger.leases.clear()
        ledger.slots.clear()
        self._batch.clear()
        self._to_read.clear()
        self._repeats = True
        self._pace.end()
        self._waiting.end_generation()
        self._audit.end_generation()
        self._end_naming()
        for work, lease, done in gone:
            self._tell_end(work.slot, lease, reason, done)
        for slot in slots:
            if slot.lease is not None:
                self._tell_end(slot, slot.lease, reason, released)
                slot.lease = slot.contested = None
        return sorted(dict.fromkeys(calls), key=lambda call: call.order)

    def _tell_end(self, slot: Slot, lease: BaseLease, reason: LossReason, released: bool) -> None:
        if released:
            self._tell("released", slot, "released", lease=lease)
        else:
            self._tell_lost(slot, lease, reason)
