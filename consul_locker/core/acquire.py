"""From a call to an operation, and from Consul's outcome to a grant, a denial, or a doubt.

Everything here happens in the state ready; a call that comes in another state never gets here
(core/machine.py). Calls that wait for a key are kept by the `Line`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import ConsulLockerError, ConsulUnavailable
from ..strategies import Strategy
from .audit import Audit
from .calls import Call, Lock, LockCall, LockMany, Obstacle
from .denials import Denials
from .key import LockWork, Slot
from .leases import Leases
from .ledger import Ledger
from .outage import Outage
from .pace import Pace
from .pipeline import Pipeline
from .release import Releases
from .requests import Entry, Operation, Refusal, Refused
from .session import Session
from .step import Outbox
from .waits import Line, Waits

__all__ = ["Grants"]


class Grants:
    """The locks of one Locker, while it is ready: the owner of each `LockWork` but those of `Places`.

    Args:
        strategy: says whether calls share a lock that is being asked for.
        outbox, session, ledger, pipeline, leases, releases, denials, line, waits, audit, outage, pace: of the
            Locker.
    """

    def __init__(
        self, strategy: Strategy, outbox: Outbox, session: Session, ledger: Ledger,
        pipeline: Pipeline, leases: Leases, releases: Releases, denials: Denials, line: Line, waits: Waits,
        audit: Audit, outage: Outage, pace: Pace
    ) -> None:  # fmt: skip
        self._strategy = strategy
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._pipeline = pipeline
        self._leases = leases
        self._releases = releases
        self._denials = denials
        self._line = line
        self._waits = waits
        self._audit = audit
        self._outage = outage
        self._pace = pace

    # ------------------------------------------------------------------------------------ calls

    def lock(self, call: LockCall) -> None:
        """A call wants its locks: from the cache, shared with one in flight, or from Consul."""
        slots = tuple(map(self._ledger.slot, call.ids))
        blocked = self._blocked_locally(call, slots)
        if blocked is not None:
            self._wait_or_deny(call, blocked)
            return
        if isinstance(call, Lock):
            slot = slots[0]
            if slot.works:
                tail = slot.works[-1]
                if isinstance(tail, LockWork) and not tail.many and self._strategy.shares_in_flight:
                    tail.calls.append(call)
                    self._out.count("shared")
                    self._pipeline.meet(tail)
                    return
            elif slot.lease is not None and self._leases.answers(slot):
                self._out.count("cached")
                self._leases.give(call, [slot.lease])
                return
        elif isinstance(call, LockMany) and all(not slot.works and self._leases.answers(slot) for slot in slots):
            self._out.count("cached", len(slots))
            self._leases.give(call, [slot.lease for slot in slots if slot.lease is not None])
            return
        self._line.ask(call, slots)

    def want(
        self,
        call: LockCall,
        slots: tuple[Slot, ...],
        places: tuple[Slot, ...] = (),
        unless: tuple[str, ...] = (),
        granted: Callable[[LockWork], None] | None = None,
    ) -> None:
        """The locks of a call are asked for, as soon as it is the turn of their keys."""
        work = LockWork(
            self, slots, [call], exclusive=call.exclusive, places=places, unless=unless, granted=granted
        )
        self._pipeline.want(work)

    def _blocked_locally(self, call: LockCall, slots: Iterable[Slot]) -> Slot | None:
        """The first slot whose use in this Locker excludes the call (rule 9: shared against exclusive), or None."""
        exclusive = call.exclusive
        for slot in slots:
            if slot.works:
                # The state after the last work in line decides. After a release there is no lease.
                tail = slot.works[-1]
                if isinstance(tail, LockWork) and (exclusive or tail.exclusive):
                    return slot
            elif slot.lease is not None and (exclusive or slot.lease.exclusive):
                return slot
            if exclusive and slot.waiters and self._line.overtakes(call, slot):
                return slot  # first come, first served among holds
        return None

    def _wait_or_deny(self, call: LockCall, slot: Slot) -> None:
        """A call is blocked by another call of this Locker: it waits, or is refused."""
        if self._waits.may_wait(call):
            self._line.wait(call, slot, Obstacle.LOCAL)
        else:
            self._line.leave(call)
            self._denials.deny_local(call, slot)

    def wait_over(self, call: LockCall) -> None:
        """A call's ``wait`` is over."""
        slot, waiting = self._line.blocked_at(call), call.waiting
        if waiting is None or (waiting.obstacle is Obstacle.FAILED and waiting.error is None):
            return  # Consul never refused it: it rides over the outage
        if slot is None:
            if self._pace.pausing:  # it does not wait for the end of the outage
                self._denials.deny([self._ledger.slot(call.id)], [call], waiting.obstacle)
                self.abandon(call)
            return  # an attempt is under way; its answer decides
        self._line.leave(call)
        if waiting.error is not None:
            self._out.settle(call, error=waiting.error)
        elif waiting.obstacle is Obstacle.LOCAL:
            self._denials.deny_local(call, slot)
        else:
            self._denials.deny([slot], [call], waiting.obstacle)

    def abandon(self, call: LockCall) -> None:
        """The caller of a call is gone, and the call is settled: take it out of the line and of its works."""
        self._line.leave(call)
        for id_ in call.ids:
            slot = self._ledger.slots.get(id_)
            if slot is None:
                continue
            for work in list(slot.works):
                if isinstance(work, LockWork) and call in work.calls and work.unwanted:
                    self._pipeline.withdraw(work)
            self._ledger.tidy(slot)

    def idle(self, slot: Slot) -> None:
        """A work of a key is over: whoever waits for the key goes on; a lock that no caller took is given back."""
        self._line.serve(slot)
        self._releases.give_back_untaken(slot)

    # ------------------------------------------------------------------------------------ a lock

    def start(self, work: LockWork) -> None:
        """It is the first on all its keys. Leases granted since answer it: locked anew, they would be lost."""
        if not work.exclusive and all(map(self._leases.answers, work.slots)):
            for call in work.live():
                self._line.leave(call)
                self._out.count("cached")
                self._leases.give(call, [slot.lease for slot in work.slots if slot.lease is not None])
        elif not work.unwanted:
            self._leases.tell("lock_requested", work.slots[0], "requests")
            for slot in work.slots[1:]:
                self._leases.tell("lock_requested", slot)
            self._pipeline.send_lock(work)
            return
        self._pipeline.finish(work)

    def done(self, work: LockWork, entries: dict[str, Entry]) -> None:
        """Consul has granted the locks: give them to the calls, or back when no call wants them any more."""
        life = self._session.current
        taken = work.taken
        if work.granted is not None:
            work.granted(work)
        if self._brought_back(taken, entries):
            # The number was kept because of a doubt, so the lock that the snapshot brought back is unchanged.
            for slot in taken:
                slot.unsure = self._ledger.tenure  # the next attempt takes another number
                self._audit.doubts.leftover(slot)
            error = ConsulUnavailable(
                "a restored snapshot brought a lock back that had been released; try again", operation="lock", sent=True
            )
            self._not_locked(work, error, anew=True)
            return
        calls = work.live()
        if not calls:
            self._releases.give_back_granted(work, [(slot, entries[slot.key].modify_index) for slot in taken])
            return
        for slot in taken:
            self._leases.grant(slot, entries[slot.key].modify_index, life, work.exclusive)
        leases = [slot.lease for slot in work.slots if slot.lease is not None]
        for call in calls:
            self._leases.give(call, leases)
        self._pipeline.finish(work)

    @staticmethod
    def _brought_back(taken: Iterable[Slot], entries: dict[str, Entry]) -> bool:
        """Whether a lock has the index of an earlier lease: a restored snapshot brought that lock back."""
        for slot in taken:  # noqa: SIM110 - a generator would cost each lock half a microsecond
            if entries[slot.key].modify_index <= slot.fence:
                return True
        return False

    def refused(self, work: LockWork, found: list[tuple[Operation, Refused]]) -> None:
        """Consul refused some of the locks, and so none was granted."""
        known = (Refusal.HELD, Refusal.LOCK_DELAY, Refusal.EXISTS)  # the last: of others who wait before it
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
        losers = [(op, refused) for op, refused in found if refused.refusal in known]
        if not losers:
            self.failed(work, self._pipeline.refusal_error("lock", found))
            return
        slots = list(dict.fromkeys(self._slot_of(work, op.key) for op, _ in losers))
        held = any(refused.refusal is not Refusal.LOCK_DELAY for _, refused in losers)
        obstacle = Obstacle.HELD if held else Obstacle.LOCK_DELAY
        for slot in slots:
            slot.contested = slot.lease  # without a cache there may be one
        final: list[LockCall] = []
        for call in work.live():
            if self._waits.may_wait(call):
                self._line.wait(call, slots[0], obstacle)
            else:
                self._line.leave(call)
                final.append(call)
        self._pipeline.finish(work)
        self._denials.deny(slots, final, obstacle)
        for slot in slots:
            self._audit.suspect(slot)

    @staticmethod
    def _slot_of(work: LockWork, key: str) -> Slot:
        return next((slot for slot in work.slots if slot.key == key), work.slots[0])  # that of `LockWork.unless`

    def failed(self, work: LockWork, error: ConsulLockerError) -> None:
        """No usable answer, and no outage; or a refusal that is no denial."""
        self._not_locked(work, error, anew=False)

    def _not_locked(self, work: LockWork, error: ConsulLockerError, *, anew: bool) -> None:
        """A lock failed. ``anew``: the next attempt sends other operations, so each call that has time tries again."""
        work.may_come_again(error)
        self._leases.tell_failed(work.slots, error)
        for call in work.live():
            if anew and self._waits.may_wait(call):
                self._line.wait(call, work.slots[0], Obstacle.FAILED, error)
            else:
                self._line.leave(call)
                self._out.settle(call, error=error)
        self._pipeline.finish(work)

    def left_behind(self, work: LockWork, calls: list[Call], error: ConsulLockerError) -> None:
        """An attempt failed by an outage: answer the calls that do not ride on. A work not wanted again ends."""
        tells = work.sent and work.failures == 1 and not calls  # its callers had gone before
        for call in calls:
            assert isinstance(call, LockCall)  # the calls of a lock are
            obstacle = self._waits.refused_by(call)
            self._line.leave(call)
            if obstacle is not None:
                self._denials.deny([work.slots[0]], [call], obstacle)
            else:
                error, tells = self._outage.error(call), True
                self._out.settle(call, error=error)
        if tells:
            self._leases.tell_failed(work.slots, error)
        if work.sent:
            self._pipeline.finish(work)
