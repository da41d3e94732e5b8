"""Planted bugs: each breaks one rule of the core, and the walk must find it.

A bug that the walk does not find would mean that the walk does not look. Each is a few lines put in place of a method
of the core; ``PLANTED`` has them by name, `planted` puts one in place for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from consul_locker.core import (
    acquire as grants,
)
from consul_locker.core import (
    audit,
    batch,
    doubts,
    ledger,
    lifecycle,
    locker,
    machine,
    session,
)
from consul_locker.core import (
    fair_line as queue,
)
from consul_locker.core import (
    fair_places as standing,
)
from consul_locker.core import (
    line as waiting,
)
from consul_locker.core import (
    pipeline as operations,
)
from consul_locker.core import (
    step as outbox,
)
from consul_locker.core.ledger import Kind
from consul_locker.core.messages import Answered, Call
from consul_locker.core.requests import Failed, KeysRead, Operation, Verb
from consul_locker.fsm import Queued, Table

Plant = Callable[[pytest.MonkeyPatch], None]

#: name -> what puts the bug in place.
PLANTED: dict[str, Plant] = {}


def plant(function: Plant) -> Plant:
    """Add a bug to the list; its name is the function's, in words."""
    PLANTED[function.__name__.replace("_", " ")] = function
    return function


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The core with one bug in it."""
    with pytest.MonkeyPatch.context() as patch:
        PLANTED[name](patch)
        yield


# -------------------------------------------------------------------- every state has a row for every input


def _table_without(state: str, input: str) -> Table:
    states = dict(machine.TABLE.states)
    old = states[state]
    inputs = {name: reaction for name, reaction in old.inputs.items() if name != input}
    states[state] = type(old)(on_enter=old.on_enter, on_exit=old.on_exit, inputs=inputs)
    return Table(states, initial_state=machine.ACQUIRING, namespace="locker")


@plant
def row_for_a_reboot_in_stopped_missing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lifecycle, "TABLE", _table_without(machine.STOPPED, "reboot"))


@plant
def row_for_a_failure_in_acquiring_missing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lifecycle, "TABLE", _table_without(machine.ACQUIRING, "session_failed"))


# --------------------------------------------------------------------------------------- deferred inputs


def _on_ready(patch: pytest.MonkeyPatch, change: Callable[[list[Queued]], list[Queued]]) -> None:
    enter = locker.LockerCore.enter_ready

    def enter_ready(self: Any) -> None:
        enter(self)
        self.fsm._queue = change(self.fsm._queue)

    patch.setattr(locker.LockerCore, "enter_ready", enter_ready)


@plant
def deferred_dropped(patch: pytest.MonkeyPatch) -> None:
    _on_ready(patch, lambda queue: queue[:3])


@plant
def deferred_doubled(patch: pytest.MonkeyPatch) -> None:
    _on_ready(patch, lambda queue: [*queue, *queue[:1]])


@plant
def deferred_replayed_backwards(patch: pytest.MonkeyPatch) -> None:
    _on_ready(patch, lambda queue: queue[::-1])


# ------------------------------------------------------------------------------------ the cache and deadlines


@plant
def cache_without_deadline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session.Session, "deadline_passed", lambda self: False)


@plant
def cache_outlives_a_release(patch: pytest.MonkeyPatch) -> None:
    def drop(self: Any, slot: Any) -> None:
        slot.lease = None

    patch.setattr(ledger.Ledger, "drop", drop)
    patch.setattr(grants.Grants, "_end_lease", lambda self, slot: slot.lease and self._out.end(slot.lease, "released"))


@plant
def cache_outlives_its_session(patch: pytest.MonkeyPatch) -> None:
    def end(self: Any, reason: str, released: bool = False) -> Any:
        leases = dict(self._ledger.leases)
        calls = ends(self, reason, released)
        self._ledger.leases.update(leases)
        return calls

    ends = grants.Grants.end_generation
    patch.setattr(grants.Grants, "end_generation", end)


@plant
def deadline_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    """The deadline counts from the answer of a renewal, twice as long: past what Consul grants."""
    renewed = session.Session.renewed

    def late(self: Any, request: Any, outcome: Any) -> Any:
        reason = renewed(self, request, outcome)
        if self.life is not None:
            self.life.deadline = self._out.now + 3 * 15.0
        return reason

    patch.setattr(session.Session, "renewed", late)


# --------------------------------------------------------------------------------- calls are settled once


@plant
def call_settled_twice(patch: pytest.MonkeyPatch) -> None:
    """Whoever shares an operation is answered, also those who gave up long ago."""
    settle = outbox.Outbox.settle

    def again(self: Any, call: Call, value: Any = None, error: BaseException | None = None) -> None:
        call.settled = False
        settle(self, call, value, error)

    patch.setattr(outbox.Outbox, "settle", again)
    patch.setattr(ledger.Work, "live", lambda self: list(self.calls))


@plant
def denied_call_answered_again(patch: pytest.MonkeyPatch) -> None:
    deny = grants.Grants._deny_now

    def twice(self: Any, slots: Any, calls: list[Call], *rest: Any) -> None:
        deny(self, slots, calls, *rest)
        for call in calls:
            call.settled = False
        deny(self, slots, calls, *rest)

    patch.setattr(grants.Grants, "_deny_now", twice)


@plant
def call_forgotten_on_stop(patch: pytest.MonkeyPatch) -> None:
    refuse = grants.Grants.refuse_waiting

    def forget(self: Any) -> list[Call]:
        refuse(self)
        return []

    patch.setattr(grants.Grants, "refuse_waiting", forget)


@plant
def buffered_call_forgotten_on_stop(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(locker.LockerCore, "enter_stopped", lambda self: self.session.abandon_attempt())


# ------------------------------------------------------------------------- one operation of a key in flight


@plant
def two_operations_of_a_key_in_flight(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger.Ledger, "startable", lambda self, work: not work.started)


@plant
def release_overtakes_a_lock(patch: pytest.MonkeyPatch) -> None:
    startable = ledger.Ledger.startable

    def overtake(self: Any, work: Any) -> bool:
        return (work.kind is Kind.RELEASE and not work.started) or startable(self, work)

    patch.setattr(ledger.Ledger, "startable", overtake)


# ------------------------------------------------------------------------------------- ended generations


@plant
def generation_ignored(patch: pytest.MonkeyPatch) -> None:
    answered = locker.LockerCore._answered

    def any_generation(self: Any, request: Any, outcome: Any) -> None:
        if self.session.life is not None:
            object.__setattr__(request, "generation", self.session.generation)
        answered(self, request, outcome)

    patch.setattr(locker.LockerCore, "_answered", any_generation)
    patch.setattr(batch.Batch, "clear", lambda self: self._wanted.clear())


@plant
def late_session_adopted(patch: pytest.MonkeyPatch) -> None:
    created = session.Session.created

    def adopt(self: Any, request: Any, outcome: Any) -> str:
        object.__setattr__(request, "generation", self.generation)
        self.life = None
        return created(self, request, outcome)

    patch.setattr(session.Session, "created", adopt)


# -------------------------------------------------------------------------------------- tenures and fences


@plant
def value_without_tenure(patch: pytest.MonkeyPatch) -> None:
    operations = batch.Batch.operations

    def same(work: Any, session_id: str, value: bytes, flags: int, delete: bool) -> list[Operation]:
        return operations(work, session_id, b"{}" if work.kind is Kind.LOCK else value, flags, delete)

    patch.setattr(batch.Batch, "operations", staticmethod(same))


@plant
def fence_from_the_lock_index(patch: pytest.MonkeyPatch) -> None:
    done = grants.Grants._done

    def wrong(self: Any, work: Any, entries: Any) -> None:
        for entry in entries.values():
            object.__setattr__(entry, "modify_index", entry.lock_index)
        done(self, work, entries)

    patch.setattr(grants.Grants, "_done", wrong)


@plant
def release_unguarded(patch: pytest.MonkeyPatch) -> None:
    operations = batch.Batch.operations

    def unguarded(work: Any, session_id: str, value: bytes, flags: int, delete: bool) -> list[Operation]:
        if work.kind is Kind.LOCK:
            return operations(work, session_id, value, flags, delete)
        return [Operation(Verb.UNLOCK, work.slots[0].key, b"", flags, session_id)]

    patch.setattr(batch.Batch, "operations", staticmethod(unguarded))


# --------------------------------------------------------------------------------------- doubts and audits


@plant
def ambiguous_acquire_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grants.Grants, "_doubt", lambda self, work: None)


@plant
def doubt_forgotten_with_the_next_grant(patch: pytest.MonkeyPatch) -> None:
    grant = ledger.Ledger.grant

    def forget(self: Any, slot: Any, lease: Any) -> None:
        grant(self, slot, lease)
        slot.doubts.clear()

    patch.setattr(ledger.Ledger, "grant", forget)


@plant
def failed_release_forgotten(patch: pytest.MonkeyPatch) -> None:
    failed = grants.Grants._release_failed

    def forget(self: Any, work: Any, error: Any) -> None:
        failed(self, work, error)
        work.slots[0].leftover = False
        self._ledger.tidy(work.slots[0])

    patch.setattr(grants.Grants, "_release_failed", forget)


@plant
def audit_verdict_believed_during_an_operation(patch: pytest.MonkeyPatch) -> None:
    def believe(self: Any, request: Any, outcome: Any) -> None:
        for slot, _ in request.context:
            if not isinstance(outcome, Failed) and hasattr(outcome, "refused") and slot.lease is not None:
                self.keeper.lose(slot, "key deleted")

    patch.setattr(audit.Audit, "audited", believe)


@plant
def audit_verdict_not_confirmed(patch: pytest.MonkeyPatch) -> None:
    """A read that was sent before the present tenure was granted counts against it."""

    def suspect(self: Any, slot: Any) -> None:
        if slot.lease is not None:
            self.keeper.lose(slot, "key taken over")

    patch.setattr(audit.Audit, "suspect", suspect)


@plant
def audit_verdict_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(audit.Audit, "audited", lambda self, request, outcome: None)


@plant
def refused_and_released_keys_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(doubts.Doubts, "add_former", lambda self, slot: None)


@plant
def restored_snapshot_not_swept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(audit.Audit, "sweep", lambda self: None)


# ---------------------------------------------------------------------------------------- grants and ends


@plant
def lease_valid_after_its_release_was_submitted(patch: pytest.MonkeyPatch) -> None:
    release = grants.Grants.release

    def late(self: Any, call: Call) -> None:
        slot = self._ledger.slot(call.id)
        lease = slot.lease
        release(self, call)
        if lease is not None and not lease.exclusive:
            lease._reason = None

    patch.setattr(grants.Grants, "release", late)


@plant
def loser_of_a_batch_granted(patch: pytest.MonkeyPatch) -> None:
    refused = grants.Grants._refused

    def granted(self: Any, work: Any, found: Any) -> None:
        life = self._session.life
        if work.kind is Kind.LOCK and not work.many and not self._batch._in_flight and work.live():
            self._grant(work, work.slots[0], self._audit._highest + 1, life)
            for call in work.live():
                self._out.settle(call, work.slots[0].lease)
            self._finish(work)
        else:
            refused(self, work, found)

    patch.setattr(grants.Grants, "_refused", granted)


@plant
def abandoned_grant_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grants.Grants, "_give_back", lambda self, work, taken: self._finish(work))


@plant
def lock_of_a_taker_that_was_gone_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grants.Grants, "_give_back_untaken", lambda self, slot: None)


@plant
def released_and_lost_both_told(patch: pytest.MonkeyPatch) -> None:
    released = grants.Grants._released

    def both(self: Any, work: Any, held: bool) -> None:
        released(self, work, held)
        if held and work.lease is not None:
            self._tell_lost(work.slots[0], work.lease, "released")

    patch.setattr(grants.Grants, "_released", both)


@plant
def loss_not_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grants.Grants, "_tell_lost", lambda self, slot, lease, reason: None)


@plant
def session_ended_told_before_its_leases(patch: pytest.MonkeyPatch) -> None:
    end = grants.Grants.end_generation

    def early(self: Any, reason: str, released: bool = False) -> Any:
        self._out.emit("session_ended", session_id=self._session.life.session_id, reason=reason)
        return end(self, reason, released)

    patch.setattr(grants.Grants, "end_generation", early)
    patch.setattr(locker.LockerCore, "_end_session", lambda self, reason: self.session.end())


# ----------------------------------------------------------------------------------------- waiting and holds


@plant
def waiters_of_a_lost_session_forgotten(patch: pytest.MonkeyPatch) -> None:
    end = grants.Grants.end_generation

    def forget(self: Any, reason: str, released: bool = False) -> Any:
        for slot in self._ledger.slots.values():
            slot.waiters.clear()
        return end(self, reason, released)

    patch.setattr(grants.Grants, "end_generation", forget)


@plant
def holds_shared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grants.Grants, "_blocked_locally", lambda self, call, slots: None)


@plant
def release_ends_a_hold(patch: pytest.MonkeyPatch) -> None:
    def release(self: Any, call: Call) -> None:
        slot = self._ledger.slot(call.id)
        self._end_lease(slot)
        self._want(Kind.RELEASE, (slot,), [call])

    patch.setattr(grants.Grants, "release", release)


@plant
def release_ends_a_hold_in_flight(patch: pytest.MonkeyPatch) -> None:
    def is_hold(slot: Any) -> bool:
        return slot.lease is not None and bool(slot.lease.exclusive)

    patch.setattr(grants.Grants, "_is_hold", staticmethod(is_hold))


@plant
def lock_granted_while_another_stood_in_line_taken_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grants.Grants, "_start", operations.Operations._start)


@plant
def watch_not_renewed(patch: pytest.MonkeyPatch) -> None:
    """Woken while the key is still taken, nobody watches any more."""
    watch = waiting.Waiting._watch

    def once(self: Any, slot: Any, index: int) -> None:
        if index == 0:
            watch(self, slot, index)

    patch.setattr(waiting.Waiting, "_watch", once)


@plant
def failed_watch_not_renewed(patch: pytest.MonkeyPatch) -> None:
    watched = waiting.Waiting.watched

    def give_up(self: Any, request: Any, outcome: Any) -> None:
        if isinstance(outcome, KeysRead):
            watched(self, request, outcome)

    patch.setattr(waiting.Waiting, "watched", give_up)


@plant
def waiter_behind_one_that_left_forgotten(patch: pytest.MonkeyPatch) -> None:
    settle_down = waiting.Waiting._end_unneeded_watch

    def forget(self: Any, slot: Any) -> None:
        serve, self.serve = self.serve, lambda slot: None
        settle_down(self, slot)
        self.serve = serve

    patch.setattr(waiting.Waiting, "_end_unneeded_watch", forget)


# ------------------------------------------------------------------------------------ the queue of a fair Locker


@plant
def newcomer_does_not_look(patch: pytest.MonkeyPatch) -> None:
    admits = queue.FairLine.admits

    def at_once(self: Any, call: Call) -> bool:
        if call not in self._contenders:
            self._enter(call)
            self._remove_from_line(self._contenders[call])
            self._contenders[call].has_turn = True
        return admits(self, call)

    patch.setattr(queue.FairLine, "admits", at_once)


@plant
def lock_of_a_fair_locker_tried_whoever_waits(patch: pytest.MonkeyPatch) -> None:
    """Each waiter looks only whether the lock is free."""
    take_turn = queue.FairLine._take_turn

    def blind(self: Any, standing: Any, entries: Any) -> None:
        own = {place.key for place in standing.places.values()}
        take_turn(self, standing, [entry for entry in entries if entry.key in own or entry.key.endswith("/lock")])

    patch.setattr(queue.FairLine, "_take_turn", blind)


@plant
def places_in_the_order_of_their_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "_order", lambda entry: entry.key)


@plant
def place_of_a_dead_waiter_counts(patch: pytest.MonkeyPatch) -> None:
    """A place without a session is waited for as if somebody stood in it."""
    take_turn = queue.FairLine._take_turn

    def haunted(self: Any, standing: Any, entries: Any) -> None:
        take_turn(self, standing, [replace(one, session="?") if is_ghost(one) else one for one in entries])

    def is_ghost(entry: Any) -> bool:
        return entry.session is None and not entry.key.endswith("/lock")

    patch.setattr(queue.FairLine, "_take_turn", haunted)


@plant
def place_kept_by_who_gave_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grants.Grants, "leave_place", lambda self, place: None)


@plant
def place_kept_by_who_was_served(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queue.FairLine, "places", lambda self, call: ())
    patch.setattr(queue.FairLine, "_leave_places", lambda self, standing: None)


@plant
def lost_place_not_noticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queue.FairLine, "lost", lambda self, place: None)


@plant
def place_that_may_come_late_forgotten(patch: pytest.MonkeyPatch) -> None:
    doubt = grants.Grants._doubt

    def forget(self: Any, work: Any) -> None:
        if not work.takes_places:
            doubt(self, work)

    patch.setattr(grants.Grants, "_doubt", forget)
    patch.setattr(queue.FairLine, "_tidy_up", lambda self, found, session_id: None)


@plant
def watch_on_the_place_before_not_renewed(patch: pytest.MonkeyPatch) -> None:
    def deaf(self: Any, request: Any, outcome: Any) -> None:
        standing = self._watched.pop(request, None)
        if standing is not None:
            standing.watch = None

    patch.setattr(queue.FairLine, "watched", deaf)


@plant
def next_caller_of_the_same_locker_not_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queue.FairLine, "serve", lambda self, slot: None)


@plant
def answers_taken_twice(patch: pytest.MonkeyPatch) -> None:
    step = locker.LockerCore.step

    def twice(self: Any, event: Any, now: float) -> Any:
        commands = step(self, event, now)
        if isinstance(event, Answered) and getattr(event.request, "purpose", "") == "commit":
            commands = [*commands, *commands]
        return commands

    patch.setattr(locker.LockerCore, "step", twice)
