"""Releases: from a call that gives a lock back to its outcome: released, not ours any more, or unknown."""

from __future__ import annotations

from ..errors import ConsulLockerError, InvalidLockId
from ..lease import BaseLease
from .ledger import Kind, Slot, Work
from .messages import Call
from .pipeline import Operations
from .requests import KeysRead, Operation, Outcome, Refusal, Refused

__all__ = ["Releases"]


class Releases(Operations):
    """Releases, and the ends of holds."""

    def release(self, call: Call) -> None:
        """A call gives a lock back. Its lease is over at once, for all who share it (rule 8)."""
        slot = self._ledger.slot(call.id)
        if slot.lease is not None and not slot.lease.exclusive:
            self._end_lease(slot)
        if self._is_hold(slot):
            self._out.settle(call, False)  # release never ends a hold (rule 9), granted or wanted
            return
        self._want(Kind.RELEASE, (slot,), [call])

    def release_all(self, call: Call) -> None:
        """Every shared lock is given back; the call is answered with their number."""
        slots = [slot for slot in self._ledger.slots.values() if self._is_shared(slot)]
        call.argument = [len(slots), 0, None]  # still to come, released, the first error
        if not slots:
            self._out.settle(call, 0)
        for slot in slots:
            self._end_lease(slot)
            self._want(Kind.RELEASE, (slot,), [call])

    @staticmethod
    def _is_hold(slot: Slot) -> bool:
        """Whether there is a hold on a key once all works in its line are done."""
        if slot.works:
            return slot.works[-1].kind is Kind.LOCK and slot.works[-1].exclusive
        return slot.lease is not None and slot.lease.exclusive

    @staticmethod
    def _is_shared(slot: Slot) -> bool:
        """Whether there is a shared lock on a key once all works in its line are done."""
        if slot.is_place:
            return False
        if slot.works:
            return slot.works[-1].kind is Kind.LOCK and not slot.works[-1].exclusive
        return slot.lease is not None and not slot.lease.exclusive

    def leave(self, call: Call) -> None:
        """A hold ends: each of its leases is released; those lost before stay lost."""
        leases: list[BaseLease] = [lease for lease in call.argument if lease.live]
        call.argument = [len(leases), 0, None]
        if not leases:
            self._out.settle(call, 0)
        for lease in leases:
            slot = self._ledger.slot(lease.id)
            self._end_lease(slot)
            self._want(Kind.RELEASE, (slot,), [call])

    def read_for_release(self, work: Work, outcome: Outcome) -> None:
        """The key was read, because the index of a release was unknown or refused."""
        slot = work.slots[0]
        if not work.reading or not slot.works or slot.works[0] is not work:
            return
        work.reading = False
        if not isinstance(outcome, KeysRead):
            self._release_failed(work, self._failure(outcome, (slot.id,))[0])
            return
        life = self._session.current
        entry = outcome.entries[0] if outcome.entries else None
        if entry is None or entry.session != life.session_id:
            self._released(work, False)
            return
        work.index = entry.modify_index
        self._send(work, life)

    def _release_refused(self, work: Work, found: list[tuple[Operation, Refused]]) -> None:
        """409: the index is another one, or the lock is not ours. Read the key to find out which (rule 5)."""
        if any(refused.refusal in (Refusal.DENIED, Refusal.OTHER) for _, refused in found):
            self._release_failed(work, self._refusal_error("release", found))
            return
        life = self._session.current
        self._read_for_release(work, life)

    def _released(self, work: Work, held: bool) -> None:
        slot = work.slots[0]
        if held:  # if not, a sweep may have seen newer state than this answer: the next look decides
            slot.leftover = False
        if work.lease is not None:
            if held:
                self._tell("released", slot, "released", lease=work.lease)
            else:
                self._tell_lost(slot, work.lease, "not held any more")
        elif held and work.calls:
            # A user released a lock without a known lease: the signal is sent too, as by the original.
            self._tell("released", slot, lease=None)
        for call in work.live():
            self._answer_release(call, held, None)
        self._finish(work)

    def _release_failed(self, work: Work, error: ConsulLockerError) -> None:
        slot = work.slots[0]
        self._doubts.leftover(slot)
        if work.lease is not None:
            self._tell_lost(slot, work.lease, "release failed")
        # A key that Consul does not take was never locked, so there was nothing to release.
        nothing = work.lease is None and isinstance(error, InvalidLockId)
        for call in work.live():
            self._answer_release(call, False, None if nothing and call.verb == "release_all" else error)
        self._finish(work)

    def _answer_release(self, call: Call, held: bool, error: ConsulLockerError | None) -> None:
        if call.verb == "release":
            self._out.settle(call, held if error is None else None, error)
            return
        tally = call.argument
        tally[0] -= 1
        tally[1] += held
        tally[2] = tally[2] or error
        if tally[0] == 0:
            # Leaving a hold never raises: the release goes on in the background (rule 9).
            failed = tally[2] if call.verb != "leave" else None
            self._out.settle(call, tally[1] if failed is None else None, failed)

    def release_found(self, slot: Slot, index: int) -> None:
        """Consul shows our session on an idle key without a lease: give it back at the index read (rule 5)."""
        work = self._ledger.want(Kind.RELEASE, (slot,), [])
        work.index = index
        self._start(work)
