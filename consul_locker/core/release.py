"""Releases: from a call that gives a lock back to its outcome: released, not ours any more, or unknown."""

from __future__ import annotations

from ..errors import ConsulLockerError, ConsulUnavailable, InvalidLockId
from .calls import Call, LeaveHold, ManyReleases, Release, ReleaseAll, ReleaseCall
from .ledger import LockWork, ReleaseWork, Slot
from .outage import outage_of
from .pipeline import Operations
from .refused_keys import failure_of
from .requests import KeyAnswer, KeysRead, Operation, Refusal, Refused

__all__ = ["Releases"]


class Releases(Operations):
    """Releases, and the ends of holds."""

    def release(self, call: Release) -> None:
        """A call gives a lock back. Its lease is over at once, for all who share it (rule 8)."""
        slot = self._ledger.slot(call.id)
        if slot.lease is not None and not slot.lease.exclusive:
            self._end_lease(slot)
        if self._is_hold(slot):
            self._out.settle(call, False)  # release never ends a hold (rule 9), granted or wanted
            return
        self._want_release(slot, call)

    def release_all(self, call: ReleaseAll) -> None:
        """Every shared lock is given back; the call is answered with their number."""
        self._release_many(call, [slot for slot in self._ledger.slots.values() if self._is_shared(slot)])

    def leave(self, call: LeaveHold) -> None:
        """A hold ends: each of its leases is released; those lost before stay lost."""
        self._release_many(call, [self._ledger.slot(lease.id) for lease in call.leases if lease.live])

    def _release_many(self, call: ManyReleases, slots: list[Slot]) -> None:
        call.left = len(slots)
        if not slots:
            self._out.settle(call, 0)
        for slot in slots:
            self._end_lease(slot)
            self._want_release(slot, call)

    @staticmethod
    def _is_hold(slot: Slot) -> bool:
        """Whether there is a hold on a key once all works in its line are done."""
        if slot.works:
            tail = slot.works[-1]
            return isinstance(tail, LockWork) and tail.exclusive
        return slot.lease is not None and slot.lease.exclusive

    @staticmethod
    def _is_shared(slot: Slot) -> bool:
        """Whether there is a shared lock on a key once all works in its line are done."""
        if slot.is_place:
            return False
        if slot.works:
            tail = slot.works[-1]
            return isinstance(tail, LockWork) and not tail.exclusive
        return slot.lease is not None and not slot.lease.exclusive

    def _read(self, work: ReleaseWork, began: float, outcome: KeyAnswer) -> None:
        """The key was read, because the index of a release was unknown or refused."""
        away = outage_of(outcome)
        if away is not None:
            self._read_again(work, began, away)
            return
        self._answered_for([(work, [])])
        if not isinstance(outcome, KeysRead):
            self._release_failed(work, failure_of(outcome, (work.slot.id,))[0])
            return
        entry = outcome.entries[0] if outcome.entries else None
        if entry is None or entry.session != self._session.current.session_id:
            # If an attempt went unanswered, that one has released it.
            self._released(work, work.unanswered)
            return
        work.index = entry.modify_index
        self._send_release(work)

    def _read_again(self, work: ReleaseWork, began: float, error: ConsulUnavailable) -> None:
        """Consul did not answer the read."""
        work.failures += 1
        left = [call for call in work.answers if not call.settled and not self._rides(call, {}, began, error, False)]
        self._outage.failed(began, error)
        if not self._patient:
            self._release_failed(work, error)
            return
        self._to_read.appendleft(work)
        self._pace.failed()
        self._answer_left(left)

    def _release_left_behind(self, work: ReleaseWork, calls: list[Call], error: ConsulUnavailable) -> None:
        """An attempt failed by an outage. The release is made again, whoever waits for it."""
        if work.sent:
            self._release_failed(work, error)
        else:
            self._answer_left(calls)

    def _answer_left(self, calls: list[Call]) -> None:
        for call in calls:
            if isinstance(call, LeaveHold):
                self._out.settle(call, call.released)
            else:
                self._out.settle(call, error=self._outage.error(call))

    def _release_refused(self, work: ReleaseWork, found: list[tuple[Operation, Refused]]) -> None:
        """409: the index is another one, or the lock is not ours. Read the key to find out which (rule 5)."""
        if any(refused.refusal in (Refusal.DENIED, Refusal.OTHER) for _, refused in found):
            self._release_failed(work, self._refusal_error("release", found))
        else:
            self._read_for_release(work)

    def _released(self, work: ReleaseWork, held: bool) -> None:
        slot = work.slot
        if held:  # if not, a sweep may have seen newer state than this answer: the next look decides
            slot.leftover = False
        if work.lease is not None:
            if held:
                self._tell("released", slot, "released", lease=work.lease)
            else:
                self._tell_lost(slot, work.lease, "not held any more")
        elif held and work.call is not None:
            # A user released a lock without a known lease: the signal is sent too, as by the original.
            self._tell("released", slot, lease=None)
        if work.call is not None:
            self._answer_release(work.call, held, None)
        self._finish(work)

    def _release_failed(self, work: ReleaseWork, error: ConsulLockerError) -> None:
        slot = work.slot
        self._doubts.leftover(slot)
        if work.index is not None:  # else its key was only read, and there is no late copy of a release
            slot.unsure = self._ledger.tenure
        if work.lease is not None:
            self._tell_lost(slot, work.lease, "release failed")
        # A key that Consul does not take was never locked, so there was nothing to release.
        nothing = work.lease is None and isinstance(error, InvalidLockId) and isinstance(work.call, ReleaseAll)
        if work.call is not None:
            self._answer_release(work.call, False, None if nothing else error)
        self._finish(work)

    def _answer_release(self, call: ReleaseCall, held: bool, error: ConsulLockerError | None) -> None:
        if not isinstance(call, ManyReleases):
            self._out.settle(call, held if error is None else None, error)
            return
        call.left -= 1
        call.released += held
        call.error = call.error or error
        if call.left == 0:
            # Leaving a hold never raises: the release goes on in the background (rule 9).
            failed = call.error if not isinstance(call, LeaveHold) else None
            self._out.settle(call, call.released if failed is None else None, failed)

    def release_found(self, slot: Slot, index: int) -> None:
        """Consul shows our session on an idle key without a lease: give it back at the index read (rule 5)."""
        work = self._ledger.want_release(slot, None)
        work.index = index
        self._start(work)
