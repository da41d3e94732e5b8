"""The way of a work: it is wanted, started in its order, sent in a batch, and finished.

Locks and releases have this in common; `Releases` and `Grants` build on it.

A work whose transaction failed by an outage (core/outage.py) is wanted again as it is, before all others, as long as a
call rides on; a release goes on until it is answered, or the session ends. When it is sent, `Pace` decides.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..config.options import LockerOptions
from ..errors import ConsulLockerError, ConsulUnavailable
from ..lease import BaseLease, SessionLife
from ..models import LossReason
from ..strategies import Strategy
from .audit import Audit
from .batch import Batch, Item
from .calls import Call, LeaveHold, LockCall, ReleaseCall
from .ledger import Ledger, LockWork, ReleaseWork, Slot, Work
from .line import Waiting, rider_of
from .outage import Outage
from .pace import Pace
from .refusals import denied
from .requests import KeyAnswer, Operation, ReadKey, Refusal, Refused, Transact, TransactAnswer
from .session import Session
from .step import Outbox

__all__ = ["LeaseType", "Operations", "Parts"]

LeaseType = Callable[[str, str, SessionLife, int, float, Callable[[], float], bool], BaseLease]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts and the arguments of a Locker that `Operations` need; see `LockerCore`."""

    options: LockerOptions
    identity: Mapping[str, Any]
    strategy: Strategy
    lease_type: LeaseType
    clock: Callable[[], float]
    outbox: Outbox
    session: Session
    ledger: Ledger
    batch: Batch
    waiting: Waiting
    audit: Audit
    outage: Outage
    pace: Pace
    timeout: float


class Operations(ABC):
    """The operations of one Locker, while it is ready."""

    def __init__(self, parts: Parts) -> None:
        self._options = options = parts.options
        self._strategy = parts.strategy
        self._lease_type = parts.lease_type
        self._clock = parts.clock
        self._out = parts.outbox
        self._session = parts.session
        self._ledger = parts.ledger
        self._batch = parts.batch
        self._waiting = parts.waiting
        self._audit = parts.audit
        self._doubts = parts.audit.doubts
        self._outage = parts.outage
        self._pace = parts.pace
        self._pace.on_closed = self._meet_all
        self._repeats = True  # until a stop begins
        self._to_read: deque[ReleaseWork] = deque()  # releases whose keys are to be read, once that may be sent
        self._timeout = parts.timeout
        # The values of all tenures differ only in the number at the end, so JSON is made once: fast.
        value = json.dumps({**parts.identity, **(options.value or {})}, separators=(",", ":"))
        self._value = value[:-1] + ("," if len(value) > 2 else "") + '"tenure":'

    def _want_lock(
        self,
        slots: tuple[Slot, ...],
        calls: list[LockCall],
        *,
        exclusive: bool = False,
        places: tuple[Slot, ...] = (),
        shows: bool = False,
    ) -> LockWork:
        work = self._ledger.want_lock(slots, calls, exclusive=exclusive, places=places, shows=shows)
        self._meet(work)
        if self._ledger.startable(work):
            self._start(work)
        return work

    def _want_release(self, slot: Slot, call: ReleaseCall | None) -> None:
        work = self._ledger.want_release(slot, call)
        self._meet(work)
        if self._ledger.startable(work):
            self._start(work)

    def _tell(self, signal: str, slot: Slot, counter: str | None = None, **facts: Any) -> None:
        """Send a signal and count it, for a lock; not for a place in a queue."""
        if not slot.is_place:
            if counter is not None:
                self._out.count(counter)
            self._out.emit(signal, id=slot.id, key=slot.key, **facts)

    def _tell_lost(self, slot: Slot, lease: BaseLease, reason: LossReason) -> None:
        self._tell("lock_lost", slot, "lost", lease=lease, reason=reason)

    def _start(self, work: Work) -> None:
        """Start a work, which is first in line on all its keys."""
        work.started = True
        if isinstance(work, LockWork):
            self._start_lock(work)
        else:
            self._start_release(work)

    def _start_lock(self, work: LockWork) -> None:
        if work.unwanted:
            self._finish(work)
            return
        self._tell("lock_requested", work.slots[0], "requests")
        for slot in work.slots[1:]:
            self._tell("lock_requested", slot)
        work.tenures = self._ledger.tenures_of(work)
        self._send(work, Batch.locking(work, self._session.current.session_id, self._value, self._options.flags))

    def _start_release(self, work: ReleaseWork) -> None:
        slot = work.slot
        if slot.lease is not None:
            self._end_lease(slot)  # granted while this release was in line
            work.lease, work.index = slot.lease, slot.lease.fence
            self._ledger.drop(slot)
        if work.index is None:
            self._read_for_release(work)
        else:
            self._send_release(work)

    def _send_release(self, work: ReleaseWork) -> None:
        options = self._options
        session_id = self._session.current.session_id
        self._send(work, Batch.releasing(work, session_id, options.flags, options.delete_on_release))

    def _send(self, work: Work, operations: list[Operation]) -> None:
        if any(slot.key in self._audit.refused for slot in work.slots):
            work.limit = 1  # most likely refused again: a transaction of its own
        self._batch.want(work, operations)

    @abstractmethod
    def _answered(self, request: Transact, began: float, outcome: TransactAnswer) -> None:
        """A transaction of the batch was answered. ``began``: when it was sent."""

    def _read_for_release(self, work: ReleaseWork) -> None:
        """Read the key of a release: its index is not known, or another one by now."""
        self._to_read.append(work)
        self._send_reads()

    def _send_reads(self) -> None:
        while self._to_read and self._pace.may_send:
            work = self._to_read.popleft()
            self._pace.sent()
            read = ReadKey(self._session.current.generation, work.slot.key, timeout=self._timeout)
            self._out.ask(read, partial(self._read, work, self._out.now))

    @abstractmethod
    def _read(self, work: ReleaseWork, began: float, outcome: KeyAnswer) -> None:
        """The key was read for a release. ``began``: when the read was sent."""

    def flush(self) -> None:
        """At the end of a step: send what may be sent."""
        life = self._session.life
        if life is None:
            return
        while self._pace.may_send:
            request = self._batch.pack(life.generation, self._timeout)
            if request is None:
                break
            self._pace.sent()
            self._out.count("transactions")
            self._out.ask(request, partial(self._answered, request, self._out.now))
        self._send_reads()
        self._waiting.read_turns(life.generation, self._timeout)
        self._pace.settle()

    # ---------------------------------------------------------------------------------- an outage

    @property
    def _patient(self) -> bool:
        """Whether a release is made again after an outage."""
        return self._repeats and self._options.outage_timeout != 0.0

    def _meet(self, work: Work) -> None:
        """A work is wanted: while requests wait for the end of an outage, its calls ride from now on."""
        if self._pace.pausing:
            for call in work.answers:
                if not call.settled:
                    # If the time of one is over already, its timer is due: it answers the call.
                    self._waiting.rides(call, self._out.now)

    def _meet_all(self) -> None:
        """Requests go out no longer as they come."""
        for work in self._ledger.works():
            if not work.sent:
                self._meet(work)

    def _answered_for(self, items: list[Item]) -> None:
        """Consul has answered a transaction."""
        self._pace.answered()
        self._outage.over()
        for work, _ in items:
            for call in work.answers:
                self._outage.answered(rider_of(call))

    def _away(self, items: list[Item], began: float, error: ConsulUnavailable, sent: bool) -> None:
        """Consul did not answer a transaction: an outage. Its works are wanted again where a call rides on."""
        rode: dict[Call, bool] = {}
        again: list[Item] = []
        over: list[tuple[Work, list[Call]]] = []
        for work, operations in items:
            work.failed(sent)
            work.failures += 1
            left = []
            for call in work.answers:
                if not call.settled and not self._rides(call, rode, began, error, sent):
                    left.append(call)
            goes_on = self._patient if isinstance(work, ReleaseWork) else self._repeats and len(left) < len(work.live())
            if goes_on:
                again.append((work, operations))
            over.append((work, left))
        self._batch.first(again)
        self._outage.failed(began, error)
        if again or self._patient or self._pace.pausing:
            self._pace.failed()
        for work, left in over:
            self._left_behind(work, left, error)

    def _rides(self, call: Call, rode: dict[Call, bool], began: float, error: ConsulUnavailable, sent: bool) -> bool:
        """Whether a call rides on after a failed attempt; each call has one, however many of its works are in it."""
        if isinstance(call, LeaveHold):
            return False  # its caller goes on at once, the release in the background (rule 9)
        if call not in rode:
            rode[call] = self._repeats and self._waiting.rides(call, began, error, sent=sent)
        return rode[call]

    @abstractmethod
    def _left_behind(self, work: Work, calls: list[Call], error: ConsulUnavailable) -> None:
        """An attempt failed by an outage: answer the calls that do not ride on. A work not wanted again ends.

        One that is wanted again does not count as sent any more.
        """

    def _end_lease(self, slot: Slot) -> None:
        """End the lease of a slot for all its callers, before the release is sent."""
        if slot.lease is not None:
            self._out.end(slot.lease, "released")
            self._ledger.leases.pop(slot.id, None)

    def _lost(self, slot: Slot, reason: LossReason) -> None:
        lease = slot.lease
        if lease is not None:
            self._out.end(lease, reason)
            self._ledger.drop(slot)
            self._doubts.add_former(slot)
            self._tell_lost(slot, lease, reason)

    def lose(self, slot: Slot, reason: LossReason) -> None:
        """The lease of a key is lost, but not the session."""
        self._lost(slot, reason)
        if slot.is_place:
            self._waiting.lost(slot)
        self._waiting.serve(slot)
        self._ledger.tidy(slot)

    def _finish(self, work: Work) -> None:
        """A work is over: start the works behind it, and serve the calls that wait."""
        if not work.sent:
            self._batch.unwant(work)
        if isinstance(work, LockWork):
            self._note_doubts(work)
        for slot in work.slots:
            # Only a request that may have reached Consul can be delivered once more.
            if slot.lease is None and (work.landings or isinstance(work, ReleaseWork)):
                self._doubts.add_former(slot)
        for following in self._ledger.finish(work):
            self._start(following)
        for slot in work.slots:
            self._waiting.serve(slot)
            self._give_back_untaken(slot)

    def _give_back_untaken(self, slot: Slot) -> None:
        """Give back a lock that no caller took, since all had gone by then, unless a work wants it (rule 7)."""
        lease = slot.lease
        # The claim is last: a call on the fast path, which is not counted here, may have taken the lease (`claim`).
        if lease is not None and lease.takers == 0 and not (slot.works or slot.is_place) and lease.claim():
            self._end_lease(slot)
            self._want_release(slot, None)

    def _note_doubts(self, work: LockWork) -> None:
        """A lock ends, however: if an attempt went unanswered, that one may still be granted at any time (rule 5)."""
        for slot, tenure in zip(work.slots, work.tenures, strict=False):  # it has no tenures if it was not started
            if tenure and (work.unanswered or tenure in slot.doubts):
                slot.doubt(tenure, work.landings)
                if work.unanswered:
                    self._doubts.add(slot)

    def _refusal_error(self, operation: str, found: list[tuple[Operation, Refused]]) -> ConsulLockerError:
        """The error for a refusal that is not about the holder: missing rights, or something unexpected."""
        for _, refused in found:
            if refused.refusal is Refusal.DENIED:
                return denied(self._options, operation, refused.what, f"{self._options.name}/")
        what = found[0][1].what
        return ConsulUnavailable(f"Consul refused the {operation}: {what}", operation=operation, status=409)
