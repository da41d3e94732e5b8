"""From a call to an operation, and from Consul's outcome to a grant, a denial, or a doubt.

Everything here happens in the state ready; a call that comes in another state never gets here
(core/machine.py). Calls that wait for a key are kept by `Waiting`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ConsulLockerError, ConsulUnavailable, InvalidLockId
from ..lease import BaseLease, SessionLife
from .batch import Item
from .calls import Call, Lock, LockCall, LockMany, Obstacle, TakePlaces
from .endings import Endings
from .ledger import LockWork, ReleaseWork, Slot, Work
from .outage import outage_of
from .refused_keys import error_of, failure_of
from .requests import Committed, Entry, Operation, Refusal, Refused, RefusedWhole, RolledBack, Transact, TransactAnswer

__all__ = ["Grants"]


class Grants(Endings):
    """Locks and releases of one Locker, while it is ready."""

    # ------------------------------------------------------------------------------------ calls

    def lock(self, call: LockCall) -> None:
        """A call wants its locks: from the cache, shared with one in flight, or from Consul."""
        slots = tuple(self._ledger.slot(id) for id in call.ids)
        blocked = self._blocked_locally(call, slots)
        if blocked is not None:
            self._waiting.wait_or_deny(call, blocked)
            return
        if isinstance(call, Lock):
            slot = slots[0]
            if slot.works:
                tail = slot.works[-1]
                if isinstance(tail, LockWork) and not tail.many and self._strategy.shares_in_flight:
                    tail.calls.append(call)
                    self._out.count("shared")
                    self._meet(tail)
                    return
            elif slot.lease is not None and self._answers(slot):
                self._out.count("cached")
                self._give(call, [slot.lease])
                return
            elif call.wait != 0.0 and self._waiting.known_taken(slot):
                self._waiting.add(call, slot)
                return
        elif isinstance(call, LockMany) and all(not slot.works and self._answers(slot) for slot in slots):
            self._out.count("cached", len(slots))
            self._give(call, [slot.lease for slot in slots if slot.lease is not None])
            return
        if self._waiting.admits(call):
            self._want_lock(slots, [call], exclusive=call.exclusive, places=self._waiting.places(call))

    def _answers(self, slot: Slot) -> bool:
        """Whether the lease of a key answers a call now. The strategy, a user's object, decides."""
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

    def _start_lock(self, work: LockWork) -> None:
        """Begin to lock. Leases granted while it was in line answer it: locked anew, they would be lost."""
        if work.exclusive or not all(map(self._answers, work.slots)):
            super()._start_lock(work)
            return
        for call in work.live():
            self._waiting.remove(call)
            self._out.count("cached")
            self._give(call, [slot.lease for slot in work.slots if slot.lease is not None])
        self._finish(work)

    def _blocked_locally(self, call: LockCall, slots: Iterable[Slot]) -> Slot | None:
        """The first slot whose use in this Locker excludes the call (rule 9: shared against exclusive), or None."""
        exclusive = call.exclusive
        in_line = exclusive and not self._waiting.admitted(call)
        for slot in slots:
            if slot.works:
                # The state after the last work in line decides. After a release there is no lease.
                tail = slot.works[-1]
                if isinstance(tail, LockWork) and (exclusive or tail.exclusive):
                    return slot
            elif slot.lease is not None and (exclusive or slot.lease.exclusive):
                return slot
            if in_line and any(other.order < call.order for other in slot.waiters if not isinstance(other, Lock)):
                return slot  # first come, first served among holds
        return None

    # ---------------------------------------------------------------------------------- answers

    def _answered(self, request: Transact, began: float, outcome: TransactAnswer) -> None:
        """A transaction of the batch was answered."""
        items = self._batch.take(request)
        away = outage_of(outcome)
        if away is not None:
            self._away(items, began, away, failure_of(outcome)[1])
            return
        self._answered_for(items)
        if isinstance(outcome, Committed):
            for work, entries in self._batch.committed(items, outcome).granted:
                if isinstance(work, LockWork):
                    self._locked(work, entries)
                else:
                    self._released(work, True)
        elif isinstance(outcome, RolledBack) and outcome.refused:
            if any(refused.refusal is Refusal.INVALID_SESSION for refused in outcome.refused):
                self._session.lost("session destroyed")
                return
            for work, found in self._batch.rolled_back(items, outcome).refused:
                if isinstance(work, LockWork):
                    self._refused(work, found)
                else:
                    self._release_refused(work, found)
            self._withdraw_unwanted(items)
        elif isinstance(outcome, RefusedWhole) and len(items) > 1:
            self._batch.again(items, halves=True)
            self._withdraw_unwanted(items)
        elif isinstance(outcome, RefusedWhole):
            self._refused_whole(items[0][0], outcome)
        else:
            error, sent = failure_of(outcome)
            for work, _ in items:
                work.failed(sent)
                self._failed(work, error)

    def _withdraw_unwanted(self, items: list[Item]) -> None:
        """Do not send a work again when all its callers have gone meanwhile."""
        for work, _ in items:
            if isinstance(work, LockWork) and work.unwanted:
                self.withdraw(work)

    def _refused_whole(self, work: Work, outcome: RefusedWhole) -> None:
        """Consul refused a transaction with this work alone, so it refuses this work."""
        if outcome.of_key and len(work.slots) == 1:
            self._audit.refused.add(work.slots[0].key)
        if outcome.of_key:  # no doubt: Consul always refuses the key
            work.landings, work.unanswered = 0, False
        else:
            work.failed(sent=False)
        self._failed(work, error_of(outcome, tuple(slot.place_for or slot.id for slot in work.slots)))

    def _locked(self, work: LockWork, entries: dict[str, Entry]) -> None:
        life = self._session.current
        taken = [slot for slot in work.slots if not (work.many and slot.lease is not None)]
        if any(slot.key not in entries or entries[slot.key].session != life.session_id for slot in taken):
            error = ConsulUnavailable(
                "Consul's answer to a lock does not show the lock; its outcome is taken for unknown",
                operation="lock",
                sent=True,
            )
            work.failed(sent=True)
            self._failed(work, error)
            return
        for slot in taken:
            self._audit.saw_index(entries[slot.key].modify_index)
        self._waiting.granted(work)
        if any(entries[slot.key].modify_index <= slot.fence for slot in taken):
            # The number was kept because of a doubt, so the lock that the snapshot brought back is unchanged.
            for slot in taken:
                slot.unsure = self._ledger.tenure  # the next attempt takes another number
                self._doubts.leftover(slot)
            error = ConsulUnavailable(
                "a restored snapshot brought a lock back that had been released; try again", operation="lock", sent=True
            )
            self._not_locked(work, error, anew=True)
            return
        calls = work.live()
        if not calls:
            self._give_back(work, [(slot, entries[slot.key].modify_index) for slot in taken])
            return
        for slot in taken:
            self._grant(work, slot, entries[slot.key].modify_index, life)
        if work.takes_places:
            self._waiting.placed(work, entries.values())
            self._finish(work)
            return
        leases = [slot.lease for slot in work.slots if slot.lease is not None]
        for call in calls:
            self._give(call, leases)
        self._finish(work)

    def _give(self, call: LockCall, leases: list[BaseLease]) -> None:
        """Answer a call with its leases."""
        call.leases = tuple(leases)
        for lease in leases:
            lease.takers += 1
        self._out.settle(call, leases if call.is_set else leases[0])

    def _give_back(self, work: LockWork, taken: list[tuple[Slot, int]]) -> None:
        """No call wants these locks any more: they are released, so that nothing is left behind (rule 7)."""
        for slot, _ in taken:
            self._lost(slot, "taken again")
            self._doubts.leftover(slot)
        self._finish(work)
        for slot, index in taken:
            if not slot.works:
                self.release_found(slot, index)

    def _grant(self, work: LockWork, slot: Slot, fence: int, life: SessionLife) -> None:
        if slot.lease is not None:
            # Without a cache the same session takes the lock again: a new tenure, which ends the old.
            self._lost(slot, "taken again")
        lease = self._lease_type(slot.id, slot.key, life, fence, self._out.now, self._clock, work.exclusive)
        lease.cached = not (work.exclusive or slot.is_place) and self._keeps(lease)
        self._tell("lock_acquired", slot, "granted", lease=lease)
        self._ledger.grant(slot, lease)
        slot.leftover = False  # the doubts stay: an older acquire may commit after this tenure's release

    def _refused(self, work: LockWork, found: list[tuple[Operation, Refused]]) -> None:
        known = (Refusal.HELD, Refusal.LOCK_DELAY)
        lost = (Refusal.SESSION, Refusal.INDEX, Refusal.MISSING)
        if work.many and all(refused.refusal in lost for _, refused in found):
            # A lock of the set that was held may be lost: the audit will find out. Take them all again.
            error: ConsulLockerError = ConsulUnavailable(
                "a lock of the set that was held already may be lost; try again", operation="lock_many"
            )
            self._not_locked(work, error, anew=True)
            for operation, _ in found:
                self._audit.suspect(self._slot_of(work, operation.key))
            return
        if work.takes_places or not any(refused.refusal in known for _, refused in found):
            self._not_locked(work, self._refusal_error("lock", found))
            return
        losers = [(op, refused) for op, refused in found if refused.refusal in known]
        slots = [self._slot_of(work, op.key) for op, _ in losers]
        held = any(refused.refusal is Refusal.HELD for _, refused in losers)
        obstacle = Obstacle.HELD if held else Obstacle.LOCK_DELAY
        for slot in slots:
            slot.contested = slot.lease  # without a cache there may be one
        final: list[LockCall] = []
        for call in work.live():
            if self._waiting.may_wait(call):
                self._waiting.add(call, slots[0], obstacle)
            else:
                self._waiting.remove(call)
                final.append(call)
        self._finish(work)
        self.deny(slots, final, obstacle)
        for slot in slots:
            self._audit.suspect(slot)

    @staticmethod
    def _slot_of(work: Work, key: str) -> Slot:
        return next(slot for slot in work.slots if slot.key == key)

    def _failed(self, work: Work, error: ConsulLockerError) -> None:
        """No usable answer, and no outage; or a refusal that is no denial."""
        if isinstance(work, LockWork):
            self._not_locked(work, error)
        else:
            self._release_failed(work, error)

    def _not_locked(self, work: LockWork, error: ConsulLockerError, *, anew: bool = False) -> None:
        """A lock failed. ``anew``: the next attempt sends other operations, so each call that has time tries again."""
        # A transaction that was rolled back may be delivered once more, unless Consul refuses its key.
        if work.rounds and not isinstance(error, InvalidLockId):
            work.unanswered = True
        calls = work.live()
        if work.takes_places:
            if calls:
                self._waiting.not_placed(work, error)
            self._finish(work)
            return
        self._tell_failed(work.slots, error)
        for call in calls:
            if anew and self._waiting.may_wait(call):
                self._waiting.add(call, work.slots[0], Obstacle.FAILED, error)
            else:
                self._waiting.remove(call)
                self._out.settle(call, error=error)
        self._finish(work)

    def _left_behind(self, work: Work, calls: list[Call], error: ConsulUnavailable) -> None:
        """An attempt failed by an outage: answer the calls that do not ride on. A work not wanted again ends."""
        if isinstance(work, ReleaseWork):
            self._release_left_behind(work, calls, error)
            return
        if work.takes_places:
            if work.sent and work.live():
                self._waiting.not_placed(work, error)
        else:
            self._answer_left_behind(work, calls, error)
        if work.sent:
            self._finish(work)

    def _answer_left_behind(self, work: LockWork, calls: list[Call], error: ConsulLockerError) -> None:
        tells = work.sent and work.failures == 1 and not calls  # its callers had gone before
        for call in calls:
            assert isinstance(call, LockCall)  # the calls of a lock are
            obstacle = self._waiting.refused_by(call)
            self._waiting.remove(call)
            if obstacle is not None:
                self.deny([work.slots[0]], [call], obstacle)
            else:
                error, tells = self._outage.error(call), True
                self._out.settle(call, error=error)
        if tells:
            self._tell_failed(work.slots, error)

    # ------------------------------------------------------------------- for the queue of a fair Locker

    def take_places(self, places: tuple[Slot, ...], place_call: TakePlaces, show: bool) -> LockWork:
        """Take places, all or none. `FairLine.placed` or `not_placed` follows, unless ``place_call`` is settled.

        ``show``: whether the answer shows the queues.
        """
        return self._want_lock(places, [place_call], shows=show)

    def leave_place(self, place: Slot) -> None:
        """Give a place back."""
        self._want_release(place, None)

    def given_back(self, place: Slot) -> None:
        """The transaction that granted the lock has given back its place."""
        self._end_lease(place)
        self._ledger.drop(place)
        self._doubts.add_former(place)

    def suspect(self, slot: Slot) -> None:
        """There is a sign that the lease of a key is lost: have the key read."""
        self._audit.suspect(slot)

    # ------------------------------------------------------------------------------------- the end

    def abandon(self, call: LockCall) -> None:
        """The caller of a call is gone, and the call is settled: take it out of the line and of its works."""
        self._waiting.remove(call)
        for id_ in call.ids:
            slot = self._ledger.slots.get(id_)
            if slot is None:
                continue
            for work in list(slot.works):
                if isinstance(work, LockWork) and call in work.calls and work.unwanted:
                    self.withdraw(work)
            self._ledger.tidy(slot)

    def withdraw(self, work: LockWork) -> None:
        """Take an operation back if it was not sent yet. If it was, its lock is given back when it is answered."""
        if not work.sent and (not work.started or self._batch.unwant(work)):
            self._finish(work)

    def return_unused(self, call: LockCall) -> None:
        """A call was answered with leases, but its caller was gone: leases that no other call took are given back."""
        for lease in call.leases:
            lease.takers -= 1
            slot = self._ledger.slots.get(lease.id)
            if slot is not None and slot.lease is lease:
                self._give_back_untaken(slot)
        call.leases = ()
