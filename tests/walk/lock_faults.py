"""Planted bugs, more of them: doubts, audits, grants, waiting and holds. They stand in `faults.PLANTED`, too."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core import (
    acquire as grants,
)
from consul_locker.core import (
    audit,
    doubts,
    ledger,
)
from consul_locker.core import (
    line as waiting,
)
from consul_locker.core import (
    pipeline as operations,
)
from consul_locker.core.ledger import Kind
from consul_locker.core.messages import Call, Command, Emit, Event
from consul_locker.core.requests import Failed, KeysRead

from .faults import plant
from .streams import change_commands


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
    patch.setattr(doubts.Doubts, "asked", lambda self, slot: None)


@plant
def restored_snapshot_not_swept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(audit.Audit, "sweep", lambda self: None)


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
    def both(event: Event, commands: list[Command]) -> list[Command]:
        told = [one for one in commands if isinstance(one, Emit) and one.signal == "released"]
        return [*commands, *(Emit("lock_lost", {**one.facts, "reason": "released"}) for one in told)]

    change_commands(patch, both)


@plant
def loss_not_told(patch: pytest.MonkeyPatch) -> None:
    def silent(event: Event, commands: list[Command]) -> list[Command]:
        return [one for one in commands if not (isinstance(one, Emit) and one.signal == "lock_lost")]

    change_commands(patch, silent)


@plant
def session_ended_told_before_its_leases(patch: pytest.MonkeyPatch) -> None:
    def early(event: Event, commands: list[Command]) -> list[Command]:
        return sorted(commands, key=lambda one: not (isinstance(one, Emit) and one.signal == "session_ended"))

    change_commands(patch, early)


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
    settle_down = waiting.Waiting._settle_down

    def forget(self: Any, slot: Any) -> None:
        serve, self.serve = self.serve, lambda slot: None
        settle_down(self, slot)
        self.serve = serve

    patch.setattr(waiting.Waiting, "_settle_down", forget)
