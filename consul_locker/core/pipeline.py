"""The way of a work: it is wanted, started in its order, sent in a batch, and finished.

What a work does, and what becomes of its calls, is a matter of its `Owner`: `Grants`, `Releases`, or `Places`.

A work whose transaction failed by an outage (core/outage.py) is wanted again as it is, before all others, as long as a
call rides on; a release goes on until it is answered, or the session ends. When it is sent, `Pace` decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..config.options import LockerOptions
from ..errors import ConsulLockerError, ConsulUnavailable
from .audit import Audit
from .batch import Batch, Item
from .calls import Call, LeaveHold, LockCall
from .key import LockWork, Progress, ReleaseWork, Slot, Stage, Work
from .ledger import Ledger
from .outage import Outage, outage_of
from .pace import Pace
from .refusals import denied
from .refused_keys import error_of, failure_of
from .requests import (
    Committed,
    Entry,
    Operation,
    Refusal,
    Refused,
    RefusedWhole,
    RolledBack,
    Transact,
    TransactAnswer,
)
from .session import Session
from .step import Outbox
from .waits import Waits, rider_of

__all__ = ["Pipeline"]

_JSON = json.JSONEncoder(separators=(",", ":"))  # made once: that costs more than its use


class Pipeline:
    """The works of one Locker.

    Args:
        options, outbox, session, ledger, batch, audit, waits, outage, pace: of the Locker.
        identity: what goes into every lock's value.
        timeout: the limit on one request, in seconds.

    Attributes:
        repeats: whether works are made again after an outage: until a stop begins.
        on_idle: called when a work of a key is finished; set once.
    """

    def __init__(
        self, options: LockerOptions, outbox: Outbox, session: Session, ledger: Ledger, batch: Batch, audit: Audit,
        waits: Waits, outage: Outage, pace: Pace, *, identity: Mapping[str, Any], timeout: float
    ) -> None:  # fmt: skip
        self._options = options
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._batch = batch
        self._audit = audit
        self._doubts = audit.doubts
        self._waits = waits
        self._outage = outage
        self._pace = pace
        pace.on_closed = self._meet_all
        self._timeout = timeout
        self.repeats = True
        self.on_idle: Callable[[Slot], None]
        # The values of all tenures differ only in the number at the end, so JSON is made once: fast.
        value = _JSON.encode({**identity, **(options.value or {})})
        self._value = value[:-1] + ("," if len(value) > 2 else "") + '"tenure":'

    # ---------------------------------------------------------------------------- from wanted to sent

    def want(self, work: Work) -> None:
        """A work is wanted: it is started when it is the first on all its keys."""
        first = self._ledger.want(work)
        if self._pace.pausing:
            self.meet(work)
        if first:
            self.start(work)

    def start(self, work: Work) -> None:
        """Start a work, which is first in line on all its keys."""
        work.go_on(Progress.FIRST)
        work.owner.start(work)

    def send_lock(self, work: LockWork) -> None:
        """A work was started: have its keys locked."""
        work.tenures = self._ledger.tenures_of(work)
        self.send(work, Batch.locking(work, self._session.current.session_id, self._value, self._options.flags))

    def send(self, work: Work, operations: list[Operation]) -> None:
        """Put a work into the batch, with the operations that do it."""
        if self._audit.refused.any_of(work.slots):
            work.limit = 1  # most likely refused again: a transaction of its own
        self._batch.want(work, operations)

    def flush(self) -> None:
        """At the end of a step: send what may be sent."""
        while self._pace.may_send:
            request = self._batch.pack(self._session.generation, self._timeout)
            if request is None:
                break
            self._pace.sent()
            self._out.count("transactions")
            self._out.ask(request, partial(self._answered, request, self._out.now, self._audit.highest))

    # ------------------------------------------------------------------------------------ the answers

    def _answered(self, request: Transact, began: float, floor: int, outcome: TransactAnswer) -> None:
        """A transaction of the batch was answered. ``began``: when it was sent; ``floor``: as of `Audit.saw_index`."""
        items = self._batch.take(request)
        away = outage_of(outcome)
        if away is not None:
            self._away(items, began, away, failure_of(outcome)[1])
            return
        self.heard([work for work, _ in items])
        if isinstance(outcome, Committed):
            entries = self._batch.committed(items, outcome)
            for work, _ in items:
                if not isinstance(work, LockWork) or self._shows(work, entries, floor):
                    work.owner.done(work, entries)
        elif isinstance(outcome, RolledBack) and outcome.refused:
            if any(refused.refusal is Refusal.INVALID_SESSION for refused in outcome.refused):
                self._session.lost("session destroyed")
                return
            for work, found in self._batch.rolled_back(items, outcome):
                work.owner.refused(work, found)
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
                work.owner.failed(work, error)

    def _shows(self, work: LockWork, entries: dict[str, Entry], floor: int) -> bool:
        """Whether Consul's answer shows that the keys of a work are ours now."""
        session_id = self._session.current.session_id
        taken = work.taken
        for slot in taken:
            entry = entries.get(slot.key)
            if entry is None or entry.session != session_id:
                what = "Consul's answer to a lock does not show the lock; its outcome is taken for unknown"
                work.failed(sent=True)
                work.owner.failed(work, ConsulUnavailable(what, operation="lock", sent=True))
                return False
        for slot in taken:
            self._audit.saw_index(entries[slot.key].modify_index, floor)
        return True

    def heard(self, works: list[Work]) -> None:
        """Consul has answered a request for these works."""
        self._pace.answered()
        self._outage.over()
        for work in works:
            for call in work.answers:
                rider = rider_of(call)
                if rider.riding is not None:
                    self._outage.answered(rider)

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
        work.owner.failed(work, error_of(outcome, tuple(slot.place_for or slot.id for slot in work.slots)))

    def refusal_error(self, operation: str, found: list[tuple[Operation, Refused]]) -> ConsulLockerError:
        """The error for a refusal that is not about the holder: missing rights, or something unexpected."""
        for _, refused in found:
            if refused.refusal is Refusal.DENIED:
                return denied(self._options, operation, refused.what, f"{self._options.name}/")
        what = found[0][1].what
        return ConsulUnavailable(f"Consul refused the {operation}: {what}", operation=operation, status=409)

    # ---------------------------------------------------------------------------------------- the end

    def finish(self, work: Work) -> None:
        """A work is over: start the works behind it, and serve the calls that wait."""
        if work.stage is not Stage.SENT:
            self._batch.unwant(work)
        if work.tenures:
            self._note_doubts(work)
        for slot in work.slots:
            # Only a request that may have reached Consul can be delivered once more.
            if slot.lease is None and (work.landings or isinstance(work, ReleaseWork)):
                self._doubts.add_former(slot)
        for following in self._ledger.finish(work):
            self.start(following)
        for slot in work.slots:
            self.on_idle(slot)

    def _note_doubts(self, work: Work) -> None:
        """A lock ends, however: if an attempt went unanswered, that one may still be granted at any time (rule 5)."""
        for slot, tenure in zip(work.slots, work.tenures, strict=True):
            if tenure and (work.unanswered or tenure in slot.doubts):
                slot.doubt(tenure, work.landings)
                if work.unanswered:
                    self._doubts.add(slot)

    def withdraw(self, work: LockWork) -> None:
        """Take a work back if it was not sent yet. If it was, its lock is given back when it is answered."""
        if work.stage is Stage.IN_LINE or (work.stage is Stage.WANTED and self._batch.unwant(work)):
            self.finish(work)

    def stop(self) -> list[LockCall]:
        """A stop begins: nothing is made again, and locks that were not sent yet are taken back.

        Those in flight are still answered by Consul; a lock granted by one of them is given back.

        Returns:
            The calls that wanted locks.
        """
        self.repeats = False
        self._pace.end()
        calls: list[LockCall] = []
        for work in list(self._ledger.works()):
            if not isinstance(work, LockWork):
                continue
            if not work.takes_places:
                calls.extend(work.live())
            work.calls.clear()
            if not work.sent:
                self._batch.unwant(work)
                for following in self._ledger.finish(work):
                    if isinstance(following, ReleaseWork):
                        self.start(following)
        return calls

    def end_generation(self) -> None:
        """The session is over, and with it all works."""
        self._batch.clear()
        self.repeats = True
        self._pace.end()

    # ---------------------------------------------------------------------------------- an outage

    @property
    def patient(self) -> bool:
        """Whether a release is made again after an outage."""
        return self.repeats and self._options.outage_timeout != 0.0

    def meet(self, work: Work) -> None:
        """A work is wanted: while requests wait for the end of an outage, its calls ride from now on."""
        if self._pace.pausing:
            for call in work.answers:
                if not call.settled:
                    # If the time of one is over already, its timer is due: it answers the call.
                    self._waits.rides(call, self._out.now)

    def _meet_all(self) -> None:
        """Requests go out no longer as they come."""
        for work in self._ledger.works():
            if not work.sent:
                self.meet(work)

    def _away(self, items: list[Item], began: float, error: ConsulUnavailable, sent: bool) -> None:
        """Consul did not answer a transaction: an outage. Its works are wanted again where a call rides on."""
        rode: dict[Call, bool] = {}
        again: list[Item] = []
        over: list[tuple[Work, list[Call]]] = []
        for work, operations in items:
            work.failed(sent)
            left = self.left_behind(work, began, error, sent, rode)
            if self.patient if work.persists else self.repeats and any(rode.get(call) for call in work.answers):
                again.append((work, operations))
            over.append((work, left))
        self._batch.first(again)
        self._outage.failed(began, error)
        if again or self.patient or self._pace.pausing:
            self._pace.failed()
        for work, left in over:
            work.owner.left_behind(work, left, error)

    def left_behind(
        self, work: Work, began: float, error: ConsulUnavailable, sent: bool, rode: dict[Call, bool]
    ) -> list[Call]:
        """An attempt failed by an outage. Returns the calls of the work that do not ride on.

        Args:
            work: which.
            began: when the attempt was sent.
            error: its failure.
            sent: whether it may have taken effect.
            rode: whether a call rides on; each has one attempt, however many of its works are in it.
        """
        work.failures += 1
        left = []
        for call in work.answers:
            if call.settled:
                continue
            # The caller who leaves a hold goes on at once, the release in the background (rule 9).
            if not isinstance(call, LeaveHold) and call not in rode:
                rode[call] = self.repeats and self._waits.rides(call, began, error, sent=sent)
            if not rode.get(call):
                left.append(call)
        return left
