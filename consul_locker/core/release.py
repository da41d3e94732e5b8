"""Releases: from a call that gives a lock back to its outcome: released, not ours any more, or unknown.

The place in the queue with which a fair Locker got a lock is given back in the same transaction. If the lock ends in
another way, it is given back by itself.
"""

from __future__ import annotations

from functools import partial

from ..config.options import LockerOptions
from ..errors import ConsulLockerError, ConsulUnavailable, InvalidLockId
from ..models import LossReason
from .batch import Batch
from .calls import Call, LeaveHold, LockCall, ManyReleases, Release, ReleaseAll, ReleaseCall
from .doubts import Doubts
from .key import LockWork, ReleaseWork, Slot
from .leases import Leases
from .ledger import Ledger
from .outage import Outage, outage_of
from .pace import Pace
from .pipeline import Pipeline
from .refused_keys import failure_of
from .requests import Entry, KeyAnswer, KeysRead, Operation, ReadKey, Refusal, Refused
from .session import Session
from .step import Outbox

__all__ = ["Releases"]


class Releases:
    """The releases of one Locker, and the ends of its holds: the owner of each `ReleaseWork`.

    Args:
        options, outbox, session, ledger, pipeline, leases, doubts, outage, pace: of the Locker.
        timeout: the limit on one request, in seconds.

    Attributes:
        places: id of a lock of a fair Locker -> the place in its queue with which it was got.
    """

    __slots__ = (
        "_doubts", "_leases", "_ledger", "_options", "_out", "_outage", "_pace", "_pipeline", "_session",
        "_timeout", "_to_read", "places",
    )  # fmt: skip

    def __init__(
        self, options: LockerOptions, outbox: Outbox, session: Session, ledger: Ledger, pipeline: Pipeline,
        leases: Leases, doubts: Doubts, outage: Outage, pace: Pace, timeout: float
    ) -> None:  # fmt: skip
        self._options = options
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._pipeline = pipeline
        self._leases = leases
        self._doubts = doubts
        self._outage = outage
        self._pace = pace
        self._timeout = timeout
        self._to_read: list[ReleaseWork] = []  # whose keys are to be read, once that may be sent
        self.places: dict[str, Slot] = {}

    # ------------------------------------------------------------------------------------------ calls

    def release(self, call: Release) -> None:
        """A call gives a lock back. Its lease is over at once, for all who share it (rule 8)."""
        slot = self._ledger.slot(call.id)
        if slot.lease is not None and not slot.lease.exclusive:
            self._leases.end(slot)
        if self._is_hold(slot):
            self._out.settle(call, False)  # release never ends a hold (rule 9), granted or wanted
            return
        self._pipeline.want(ReleaseWork(self, slot, call))

    def release_all(self, call: ReleaseAll) -> None:
        """Every shared lock is given back; the call is answered with their number."""
        ledger = self._ledger
        for lease in list(ledger.leases.values()):
            if not lease.exclusive:
                ledger.slot(lease.id)
        self._release_many(call, [slot for slot in ledger.slots.values() if self._is_shared(slot)])

    def leave(self, call: LeaveHold) -> None:
        """A hold ends: each of its leases is released; those lost before stay lost."""
        self._release_many(call, [self._ledger.slot(lease.id) for lease in call.leases if lease.live])

    def _release_many(self, call: ManyReleases, slots: list[Slot]) -> None:
        call.left = len(slots)
        if not slots:
            self._out.settle(call, 0)
        for slot in slots:
            self._leases.end(slot)
            self._pipeline.want(ReleaseWork(self, slot, call))

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

    # ------------------------------------------------------------------------------------- a release

    def give_back(self, slot: Slot) -> None:
        """Give a lock, or a place, back that no call has."""
        self._pipeline.want(ReleaseWork(self, slot, None))

    def keep_place(self, lock: Slot, place: Slot) -> None:
        """A lock was got with a place, which is given back together with it: those behind it watch the place."""
        self.give_back_place(lock)  # of an earlier grant, or of another call of this one
        self.places[lock.id] = place

    def give_back_place(self, lock: Slot) -> None:
        """Give back the place with which a lock was got, without the lock: that is held no longer."""
        place = self.places.pop(lock.id, None)
        if place is not None:
            self.give_back(place)

    def lost_place(self, place: Slot) -> None:
        """A place is gone: if a lock was got with it, there is nothing to give back."""
        if self.places.get(place.place_for) is place:
            del self.places[place.place_for]

    def take_places(self) -> list[Slot]:
        """A stop begins: all these places are given back by themselves, before the locks."""
        places = list(self.places.values())
        self.places.clear()
        return places

    def give_back_untaken(self, slot: Slot) -> None:
        """Give back a lock that no caller took, since all had gone by then, unless a work wants it (rule 7)."""
        lease = slot.lease
        # The claim is last: a call on the fast path, which is not counted here, may have taken the lease (`claim`).
        if lease is not None and lease.takers == 0 and not (slot.works or slot.is_place) and lease.claim():
            self._leases.end(slot)
            self.give_back(slot)

    def return_unused(self, call: LockCall) -> None:
        """A call was answered with leases, but its caller was gone: leases that no other call took are given back."""
        for lease in call.leases:
            lease.takers -= 1
            if self._ledger.idle(lease):
                self.give_back_untaken(self._ledger.slot(lease.id))
        call.leases = ()

    def release_found(self, slot: Slot, index: int) -> None:
        """Consul shows our session on an idle key without a lease: give it back at the index read (rule 5)."""
        work = ReleaseWork(self, slot, None)
        work.index = index
        self._ledger.want(work)
        self._pipeline.start(work)

    def give_back_granted(self, work: LockWork, taken: list[tuple[Slot, int]]) -> None:
        """No call wants what was granted any more: it is released, so that nothing is left behind (rule 7).

        Args:
            work: whose calls have gone.
            taken: the keys, and the index of each.
        """
        for slot, _ in taken:
            self._leases.lose(slot, "taken again")
            self._doubts.leftover(slot)
        self._pipeline.finish(work)
        for slot, index in taken:
            if not slot.works:
                self.release_found(slot, index)

    def lose(self, slot: Slot, reason: LossReason) -> None:
        """The lease of a key is lost, but not the session."""
        self._leases.lose(slot, reason)
        self._pipeline.on_idle(slot)
        self._ledger.tidy(slot)

    def start(self, work: ReleaseWork) -> None:
        """It is the first on its key."""
        slot = work.slot
        if slot.lease is not None:
            self._leases.end(slot)  # granted while this release was in line
            work.lease, work.index = slot.lease, slot.lease.fence
            self._ledger.drop(slot)
        place = self.places.pop(slot.id, None)
        if place is not None:
            work.take_along(place)
        if work.index is None:
            self._want_read(work)
        else:
            self._send(work)

    def _send(self, work: ReleaseWork) -> None:
        options = self._options
        session_id = self._session.current.session_id
        self._pipeline.send(work, Batch.releasing(work, session_id, options.flags, options.delete_on_release))

    def _want_read(self, work: ReleaseWork) -> None:
        """Read the key: its index is not known, or another one by now."""
        self._to_read.append(work)
        self.flush()

    def flush(self) -> None:
        """Send the reads that may be sent."""
        while self._to_read and self._pace.may_send:
            work = self._to_read.pop(0)
            self._pace.sent()
            read = ReadKey(self._session.generation, work.slot.key, timeout=self._timeout)
            self._out.ask(read, partial(self._read, work, self._out.now))

    def end_generation(self) -> None:
        """The session is over, and with it all releases."""
        self._to_read.clear()
        self.places.clear()

    def _read(self, work: ReleaseWork, began: float, outcome: KeyAnswer) -> None:
        """The key was read, because the index of a release was unknown or refused."""
        away = outage_of(outcome)
        if away is not None:
            self._read_again(work, began, away)
            return
        self._pipeline.heard([work])
        if not isinstance(outcome, KeysRead):
            self.failed(work, failure_of(outcome, (work.slot.id,))[0])
            return
        entry = outcome.entries[0] if outcome.entries else None
        if entry is None or entry.session != self._session.current.session_id:
            # If an attempt went unanswered, that one has released it.
            self._released(work, work.unanswered)
            return
        work.index = entry.modify_index
        self._send(work)

    def _read_again(self, work: ReleaseWork, began: float, error: ConsulUnavailable) -> None:
        """Consul did not answer the read."""
        left = self._pipeline.left_behind(work, began, error, False, {})
        self._outage.failed(began, error)
        if not self._pipeline.patient:
            self.failed(work, error)
            return
        self._to_read.insert(0, work)
        self._pace.failed()
        self._answer_left(left)

    def left_behind(self, work: ReleaseWork, calls: list[Call], error: ConsulUnavailable) -> None:
        """An attempt failed by an outage. The release is made again, whoever waits for it."""
        if work.sent:
            self.failed(work, error)
        else:
            self._answer_left(calls)

    def _answer_left(self, calls: list[Call]) -> None:
        for call in calls:
            if isinstance(call, LeaveHold):
                self._out.settle(call, call.released)
            else:
                self._out.settle(call, error=self._outage.error(call))

    def done(self, work: ReleaseWork, entries: dict[str, Entry]) -> None:
        """Consul released the lock, and deleted the place."""
        place, work.place = work.place, None
        if place is not None:
            self._leases.end(place)
            self._ledger.drop(place)
            self._doubts.add_former(place)
        self._released(work, True)

    def refused(self, work: ReleaseWork, found: list[tuple[Operation, Refused]]) -> None:
        """409: the index is another one, or the lock is not ours. Read the key to find out which (rule 5)."""
        if any(refused.refusal in (Refusal.DENIED, Refusal.OTHER) for _, refused in found):
            self.failed(work, self._pipeline.refusal_error("release", found))
        else:
            self._want_read(work)

    def _released(self, work: ReleaseWork, held: bool) -> None:
        slot = work.slot
        if held:  # if not, a sweep may have seen newer state than this answer: the next look decides
            slot.leftover = False
        if work.lease is not None:
            if held:
                self._leases.tell("released", slot, "released", lease=work.lease)
            else:
                self._leases.tell_lost(work.lease, "not held any more")
        elif held and work.call is not None:
            # A user released a lock without a known lease: the signal is sent too, as by the original.
            self._leases.tell("released", slot, lease=None)
        if work.call is not None:
            self._answer_release(work.call, held, None)
        self._finish(work)

    def failed(self, work: ReleaseWork, error: ConsulLockerError) -> None:
        """The outcome is unknown: the key is looked at until it is known."""
        slot = work.slot
        self._doubts.leftover(slot)
        if work.index is not None:  # else its key was only read, and there is no late copy of a release
            slot.unsure = self._ledger.tenure
        if work.lease is not None:
            self._leases.tell_lost(work.lease, "release failed")
        # A key that Consul does not take was never locked, so there was nothing to release.
        nothing = work.lease is None and isinstance(error, InvalidLockId) and isinstance(work.call, ReleaseAll)
        if work.call is not None:
            self._answer_release(work.call, False, None if nothing else error)
        self._finish(work)

    def _finish(self, work: ReleaseWork) -> None:
        """It is over. If the place was not deleted with the lock, it is given back by itself."""
        self._pipeline.finish(work)
        if work.place is not None:
            self.give_back(work.place)

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
