"""Planted bugs, more of them: doubts, audits, grants, waiting and holds. They stand in `faults.PLANTED`, too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import pytest
from msgspec.structs import replace

from consul_locker.core import audit, line
from consul_locker.core.calls import Hold, LeaveHold, Release
from consul_locker.core.locker import LockerCore
from consul_locker.core.messages import Abandoned, Answered, Call, Command, Emit, Event, Settle
from consul_locker.core.requests import (
    Committed,
    Entry,
    Failed,
    KeysRead,
    NamesRead,
    Outcome,
    ReadKey,
    ReadPrefix,
    Refusal,
    Refused,
    RefusedWhole,
    Request,
    RolledBack,
    Transact,
    Verb,
    Watch,
    WatchKey,
)
from consul_locker.errors import AlreadyLocked
from consul_locker.keys import lock_key_of
from consul_locker.strategies import PermanentStrategy

from ..told import purpose_of
from .faults import plant
from .streams import Step, answer_at_once, callers, change_commands, change_events, change_steps, ended_sessions


def _keys(request: Request, *verbs: Verb) -> set[str]:
    """The keys of locks, not of places in queues, for which a transaction has one of the verbs."""
    operations = request.operations if isinstance(request, Transact) else ()
    return {op.key for op in operations if op.verb in verbs and not lock_key_of(op.key)}


def _locks(request: Request) -> set[str]:
    return _keys(request, Verb.LOCK)


def _releases(request: Request) -> set[str]:
    return _keys(request, Verb.UNLOCK, Verb.DELETE_CAS)


def _audits(request: Request) -> bool:
    """Whether a request is an audit: it checks indexes, and changes nothing."""
    return isinstance(request, Transact) and purpose_of(request) == "audit"


def not_renewed(fair: bool) -> Callable[[LockerCore, Event, Step], list[Command]]:
    """A change of steps: a watch on a key that was answered is not sent again, by Lockers of one of the two kinds."""

    def change(core: LockerCore, event: Event, take: Step) -> list[Command]:
        commands = take(event)
        if not isinstance(event, Answered) or not isinstance(event.request, Watch) or core.options.fair is not fair:
            return commands
        renewed = event.request.name
        return [one for one in commands if not (isinstance(one, WatchKey) and one.name == renewed)]

    return change


@plant
def ambiguous_acquire_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A lock whose outcome is unknown counts as one that was never sent."""

    def unsent(core: LockerCore, event: Event) -> Event:
        if isinstance(event, Answered) and isinstance(event.outcome, Failed) and _locks(event.request):
            return replace(event, outcome=replace(event.outcome, sent=False))
        return event

    change_events(patch, unsent)


def _forget(patch: pytest.MonkeyPatch, note: Callable[[LockerCore, Answered, set[str]], None]) -> None:
    """Each look shows that the keys which `note` has put into the set are not ours."""
    forgotten: dict[LockerCore, set[str]] = defaultdict(set)

    def look(core: LockerCore, event: Event) -> Event:
        if not isinstance(event, Answered) or not isinstance(event.request, Transact):
            return event
        operations, outcome, keys = event.request.operations, event.outcome, forgotten[core]
        note(core, event, keys)
        if isinstance(outcome, (Failed, RefusedWhole)) or {op.verb for op in operations} != {Verb.CHECK_SESSION}:
            return event
        refused = {one.position: one for one in outcome.refused} if isinstance(outcome, RolledBack) else {}
        for position, op in enumerate(operations):
            if op.key in keys:
                refused.setdefault(position, Refused(position, Refusal.SESSION, "forgotten"))
        return replace(event, outcome=RolledBack(tuple(refused.values()))) if refused else event

    change_events(patch, look)


@plant
def doubt_forgotten_with_the_next_grant(patch: pytest.MonkeyPatch) -> None:
    """A lock whose outcome is unknown is looked for no more once a later lock of its key was granted."""
    doubtful: dict[LockerCore, set[tuple[str, int]]] = defaultdict(set)

    def note(core: LockerCore, event: Answered, keys: set[str]) -> None:
        for key in _locks(event.request):
            if isinstance(event.outcome, Failed):
                keys.discard(key)
                doubtful[core].add((key, event.request.generation))
            elif isinstance(event.outcome, Committed) and (key, event.request.generation) in doubtful[core]:
                keys.add(key)

    _forget(patch, note)


@plant
def failed_release_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Its key is looked at no more, until it is locked again."""

    def note(core: LockerCore, event: Answered, keys: set[str]) -> None:
        if isinstance(event.outcome, Failed):
            keys.update(_releases(event.request))
        elif isinstance(event.outcome, Committed):
            keys.difference_update(_locks(event.request))

    _forget(patch, note)


@plant
def audit_verdict_believed_during_an_operation(patch: pytest.MonkeyPatch) -> None:
    def believe(self: Any, part: Any, outcome: Any) -> None:
        for lease in part:
            slot = self._ledger.slot(lease.id)
            if not isinstance(outcome, Failed) and hasattr(outcome, "refused") and slot.lease is not None:
                self.keeper.lose(slot, "key deleted")

    patch.setattr(audit.Audit, "audited", believe)


@plant
def audit_verdict_not_confirmed(patch: pytest.MonkeyPatch) -> None:
    """An audit that fails is enough: the read that is to confirm it is not sent, and counts as if it showed no key."""

    def believe(core: LockerCore, event: Event, request: Request) -> Outcome | None:
        audited = isinstance(event, Answered) and _audits(event.request) and isinstance(request, ReadKey)
        return KeysRead((), 0) if audited else None

    answer_at_once(patch, believe)


@plant
def audit_verdict_ignored(patch: pytest.MonkeyPatch) -> None:
    """Each audit shows that all is well."""

    def ignore(core: LockerCore, event: Event) -> Event:
        if isinstance(event, Answered) and _audits(event.request):
            return replace(event, outcome=Committed(()))
        return event

    change_events(patch, ignore)


@plant
def refused_and_released_keys_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """Only the keys of requests whose outcome is unknown are looked at."""
    doubtful: dict[LockerCore, set[str]] = defaultdict(set)

    def note(core: LockerCore, event: Answered, keys: set[str]) -> None:
        used = _locks(event.request) | _releases(event.request)
        if isinstance(event.outcome, Failed):
            doubtful[core] |= used
            keys -= used
        elif isinstance(event.outcome, RolledBack) or _releases(event.request):
            keys |= used - doubtful[core]

    _forget(patch, note)


@plant
def restored_snapshot_not_swept(patch: pytest.MonkeyPatch) -> None:
    """No key is listed for a sweep."""
    answer_at_once(patch, lambda core, event, request: NamesRead(()) if isinstance(request, ReadPrefix) else None)


@plant
def lease_valid_after_its_release_was_submitted(patch: pytest.MonkeyPatch) -> None:
    """A release gets into the core with the next event only."""
    late: dict[LockerCore, list[Event]] = defaultdict(list)

    def wait(core: LockerCore, event: Event, take: Step) -> list[Command]:
        if isinstance(event, Release):
            late[core].append(event)
            return []
        events, late[core] = [*late[core], event], []
        return [command for one in events for command in take(one)]

    change_steps(patch, wait)


@plant
def loser_of_a_batch_granted(patch: pytest.MonkeyPatch) -> None:
    """It is told that it has the lock which another Locker has."""
    highest = 0
    cores: WeakSet[LockerCore] = WeakSet()

    def grant(core: LockerCore, event: Event) -> Event:
        nonlocal highest
        cores.add(core)
        if not isinstance(event, Answered) or not isinstance(event.request, Transact):
            return event
        if isinstance(event.outcome, Committed):
            highest = max([highest, *(entry.modify_index for entry in event.outcome.entries)])
        if not isinstance(event.outcome, RolledBack) or len(event.request.operations) > 1:
            return event
        (op,) = event.request.operations
        leases = [lease for one in cores if one is not core for lease in one.ledger.leases.values()]
        had = any(lease.key == op.key and lease.valid for lease in leases)
        if not had or op.verb is not Verb.LOCK or lock_key_of(op.key):
            return event
        highest += 1
        entry = Entry(op.key, op.flags, highest, highest, 1, op.value, op.session)
        return replace(event, outcome=Committed((entry,)))

    change_events(patch, grant)


@plant
def abandoned_grant_kept(patch: pytest.MonkeyPatch) -> None:
    """The release is not sent that follows on the grant of a lock which no call wants any more."""

    def keep(event: Event, commands: list[Command]) -> list[Command]:
        if not isinstance(event, Answered) or not isinstance(event.outcome, Committed):
            return commands
        granted = _locks(event.request)
        return [one for one in commands if not (isinstance(one, Request) and _releases(one) & granted)]

    change_commands(patch, keep)


@plant
def lock_of_a_taker_that_was_gone_kept(patch: pytest.MonkeyPatch) -> None:
    """That its caller had gone when it was answered is counted, and no more."""

    def keep(core: LockerCore, event: Event, take: Step) -> list[Command]:
        if not isinstance(event, Abandoned) or not event.call.settled:
            return take(event)
        for lease in event.call.leases:
            lease.takers -= 1
        event.call.leases = ()
        return []

    change_steps(patch, keep)


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
    unanswered = callers()

    def forget(core: LockerCore, event: Event, take: Step) -> list[Command]:
        waiting = {call for call in unanswered(core, event) if call.waiting is not None}
        commands = take(event)
        if any(ended_sessions(commands)):
            core.fsm.discard(lambda queued: not waiting.isdisjoint(queued.args))
        return commands

    change_steps(patch, forget)


@plant
def holds_shared(patch: pytest.MonkeyPatch) -> None:
    """A call that a hold of the same Locker keeps out gets the lease of that hold."""

    def share(core: LockerCore, event: Event, take: Step) -> list[Command]:
        commands = take(event)
        for position, one in enumerate(commands):
            if isinstance(one, Settle) and isinstance(one.error, AlreadyLocked) and one.error.reason == "local":
                lease = core.ledger.leases.get(one.error.id)
                if lease is not None and lease.exclusive and len(one.call.ids) == 1:
                    commands[position] = Settle(one.call, lease)
        return commands

    change_steps(patch, share)


@plant
def release_ends_a_hold(patch: pytest.MonkeyPatch) -> None:
    def end(core: LockerCore, event: Event, take: Step) -> list[Command]:
        lease = core.ledger.leases.get(event.id) if isinstance(event, Release) else None
        if lease is None or not lease.exclusive:
            return take(event)
        return take(LeaveHold([lease])) + take(event)

    change_steps(patch, end)


@plant
def release_ends_a_hold_in_flight(patch: pytest.MonkeyPatch) -> None:
    """A release that comes while a hold is being taken ends it as soon as it is granted."""
    early: dict[LockerCore, set[str]] = defaultdict(set)
    unanswered = callers()

    def end(core: LockerCore, event: Event, take: Step) -> list[Command]:
        calls = unanswered(core, event)
        if isinstance(event, Release):
            holds = [call for call in calls if isinstance(call, Hold) and call.waiting is None]
            early[core].update(call.id for call in holds if call.id == event.id)
        commands = take(event)
        for one in list(commands):
            if isinstance(one, Settle) and isinstance(one.call, Hold) and one.call.id in early[core]:
                early[core].remove(one.call.id)
                if one.error is None:
                    commands += take(LeaveHold([one.value]))
        return commands

    change_steps(patch, end)


@plant
def lock_granted_while_another_stood_in_line_taken_again(patch: pytest.MonkeyPatch) -> None:
    """What stands in line starts in the step of an answer: there the strategy, a public interface, is not asked."""
    answering = False
    serves = PermanentStrategy.serves

    def note(core: LockerCore, event: Event, take: Step) -> list[Command]:
        nonlocal answering
        answering = isinstance(event, Answered)
        return take(event)

    change_steps(patch, note)
    patch.setattr(PermanentStrategy, "serves", lambda self, lease, now: not answering and serves(self, lease, now))


@plant
def watch_not_renewed(patch: pytest.MonkeyPatch) -> None:
    """Woken while the key is still taken, nobody watches any more."""
    change_steps(patch, not_renewed(fair=False))


@plant
def failed_watch_not_renewed(patch: pytest.MonkeyPatch) -> None:
    def give_up(core: LockerCore, event: Event, take: Step) -> list[Command]:
        failed = isinstance(event, Answered) and isinstance(event.outcome, Failed) and not core.options.fair
        of_key = isinstance(event, Answered) and isinstance(event.request, WatchKey)
        return [] if failed and of_key else take(event)

    change_steps(patch, give_up)


@plant
def waiter_behind_one_that_left_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Public methods: no command says that the rest is served because a call has left."""
    leave = line.FastestLine.leave

    def forget(self: Any, call: Call) -> None:
        self.serve = lambda slot: None
        leave(self, call)
        del self.serve

    patch.setattr(line.FastestLine, "leave", forget)
