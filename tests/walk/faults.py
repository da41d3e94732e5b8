"""Planted bugs: each breaks one rule of the core, and the walk must find it.

A bug that the walk does not find would mean that the walk does not look. Most change the events that go into the core
and the commands that come out (streams.py). Where that cannot say it, a few lines stand in place of a public method.
None knows a private name. ``PLANTED`` has them by name, `planted` puts one in place for a while.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec.structs import force_setattr, replace

from consul_locker.core import (
    key,
    ledger,
    lifecycle,
    machine,
    session,
)
from consul_locker.core.calls import Lock, ReleaseCall, Stop
from consul_locker.core.key import ReleaseWork, Stage
from consul_locker.core.locker import LockerCore
from consul_locker.core.messages import Abandoned, Answered, Call, Command, Event, Settle
from consul_locker.core.requests import (
    Committed,
    Failed,
    Operation,
    Renewed,
    RenewSession,
    Request,
    SessionCreated,
    Transact,
    Verb,
)
from consul_locker.errors import AlreadyLocked
from consul_locker.fsm import Queued, Table

from .streams import Step, change_commands, change_events, change_steps, ended_sessions

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


def _send(request: Transact, operations: list[Operation]) -> None:
    """Have a request carry out other operations. It stays the same object: the core knows it by its identity."""
    force_setattr(request, "operations", tuple(operations))


def _forget_on_stop(counts: Callable[[str], bool]) -> Callable[[LockerCore, Event, Step], list[Command]]:
    """A change of steps: a stop in one of these states answers no call but itself."""

    def change(core: LockerCore, event: Event, take: Step) -> list[Command]:
        forgets = isinstance(event, Stop) and counts(core.state)
        return [one for one in take(event) if not (forgets and isinstance(one, Settle) and one.call is not event)]

    return change


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


def _before_ready(patch: pytest.MonkeyPatch, change: Callable[[list[Queued]], list[Queued]]) -> None:
    """Defer other inputs in place of those that are deferred, right before the answer that makes the Locker ready."""

    def change_event(core: LockerCore, event: Event) -> Event:
        created = isinstance(event, Answered) and isinstance(event.outcome, SessionCreated)
        if created and core.state == machine.ACQUIRING:
            deferred = list(core.fsm.input_queue)
            core.fsm.discard(lambda queued: True)
            for queued in change(deferred):
                core.fsm.handle(queued.input, *queued.args)
        return event

    change_events(patch, change_event)


@plant
def deferred_dropped(patch: pytest.MonkeyPatch) -> None:
    _before_ready(patch, lambda queue: queue[:3])


@plant
def deferred_doubled(patch: pytest.MonkeyPatch) -> None:
    _before_ready(patch, lambda queue: [*queue, *queue[:1]])


@plant
def deferred_replayed_backwards(patch: pytest.MonkeyPatch) -> None:
    _before_ready(patch, lambda queue: queue[::-1])


@plant
def cache_without_deadline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session.Session, "deadline_passed", lambda self: False)


@plant
def cache_outlives_a_release(patch: pytest.MonkeyPatch) -> None:
    def keep(core: LockerCore, event: Event, take: Step) -> list[Command]:
        leases = dict(core.ledger.leases)
        commands = take(event)
        if isinstance(event, ReleaseCall):
            core.ledger.leases.update(leases)
        return commands

    change_steps(patch, keep)


@plant
def cache_outlives_its_session(patch: pytest.MonkeyPatch) -> None:
    def keep(core: LockerCore, event: Event, take: Step) -> list[Command]:
        leases = dict(core.ledger.leases)
        commands = take(event)
        if any(ended_sessions(commands)):
            core.ledger.leases.update(leases)
        return commands

    change_steps(patch, keep)


@plant
def deadline_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    """The time that a renewal took is added to the TTL that it is answered with: past what Consul grants."""
    sent: dict[Command, float] = {}
    take = LockerCore.step

    def step(self: Any, event: Event, now: float, more: bool = False) -> None:
        if isinstance(event, Answered) and isinstance(event.outcome, Renewed) and event.outcome.ttl is not None:
            took = now - sent[event.request]
            event = replace(event, outcome=Renewed(event.outcome.ttl + took))
        take(self, event, now, more)
        sent.update((command, now) for command in self.commands if isinstance(command, RenewSession))

    patch.setattr(LockerCore, "step", step)


@plant
def call_settled_twice(patch: pytest.MonkeyPatch) -> None:
    """Whoever wanted the same lock is answered, also those who gave up long ago."""
    gone: dict[LockerCore, list[Call]] = defaultdict(list)

    def again(core: LockerCore, event: Event, take: Step) -> list[Command]:
        if isinstance(event, Abandoned) and isinstance(event.call, Lock):
            gone[core].append(event.call)
        commands = take(event)
        granted = [one for one in commands if isinstance(one, Settle) and isinstance(one.call, Lock) and not one.error]
        for one in granted:
            commands += [Settle(call, one.value) for call in gone[core] if call.ids == one.call.ids]
        return commands

    change_steps(patch, again)


@plant
def denied_call_answered_again(patch: pytest.MonkeyPatch) -> None:
    def again(event: Event, commands: list[Command]) -> list[Command]:
        denied = [one for one in commands if isinstance(one, Settle) and isinstance(one.error, AlreadyLocked)]
        return [*commands, *denied]

    change_commands(patch, again)


@plant
def call_forgotten_on_stop(patch: pytest.MonkeyPatch) -> None:
    change_steps(patch, _forget_on_stop(lambda state: state == machine.READY))


@plant
def buffered_call_forgotten_on_stop(patch: pytest.MonkeyPatch) -> None:
    change_steps(patch, _forget_on_stop(lambda state: state != machine.READY))


@plant
def two_operations_of_a_key_in_flight(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger.Ledger, "startable", lambda self, work: work.stage is Stage.IN_LINE)


@plant
def release_overtakes_a_lock(patch: pytest.MonkeyPatch) -> None:
    want = ledger.Ledger.want

    def overtake(self: Any, work: Any) -> bool:
        return want(self, work) or isinstance(work, ReleaseWork)

    patch.setattr(ledger.Ledger, "want", overtake)


@plant
def generation_ignored(patch: pytest.MonkeyPatch) -> None:
    """The failure of an old request counts as one of what was asked last."""
    last: dict[LockerCore, Request] = {}

    def take_for_present(core: LockerCore, event: Event, take: Step) -> list[Command]:
        if isinstance(event, Answered) and isinstance(event.outcome, Failed) and core in last:
            if event.request.generation < last[core].generation == core.session.generation:
                event = replace(event, request=last[core])
        if isinstance(event, Answered) and event.request is last.get(core):
            del last[core]
        commands = take(event)
        last.update((core, one) for one in commands if isinstance(one, Request))
        return commands

    change_steps(patch, take_for_present)


@plant
def late_session_adopted(patch: pytest.MonkeyPatch) -> None:
    """A public method: no event makes the core forget the session that it has."""
    created = session.Session.created

    def adopt(self: Any, generation: int, outcome: Any) -> None:
        self.life = None
        created(self, self.generation, outcome)

    patch.setattr(session.Session, "created", adopt)


@plant
def value_without_tenure(patch: pytest.MonkeyPatch) -> None:
    def same(event: Event, commands: list[Command]) -> list[Command]:
        for one in commands:
            if isinstance(one, Transact):
                _send(one, [replace(op, value=b"{}") if op.verb is Verb.LOCK else op for op in one.operations])
        return commands

    change_commands(patch, same)


@plant
def fence_given_twice(patch: pytest.MonkeyPatch) -> None:
    """A grant whose index does not rise is refused, so the last fence has to be forgotten, too."""
    value_without_tenure(patch)
    patch.setattr(key.Slot, "fence", property(lambda slot: 0, lambda slot, fence: None))


@plant
def fence_from_the_lock_index(patch: pytest.MonkeyPatch) -> None:
    def wrong(core: LockerCore, event: Event) -> Event:
        if not isinstance(event, Answered) or not isinstance(event.outcome, Committed):
            return event
        entries = tuple(replace(entry, modify_index=entry.lock_index) for entry in event.outcome.entries)
        return Answered(event.request, replace(event.outcome, entries=entries))

    change_events(patch, wrong)


@plant
def release_unguarded(patch: pytest.MonkeyPatch) -> None:
    def unguarded(event: Event, commands: list[Command]) -> list[Command]:
        for one in commands:
            if isinstance(one, Transact):
                free = {op.key for op in one.operations if op.verb is Verb.UNLOCK}
                guards = [op.verb is Verb.CHECK_INDEX and op.key in free for op in one.operations]
                pairs = zip(one.operations, guards, strict=True)
                _send(one, [replace(op, verb=Verb.GET_TREE) if guard else op for op, guard in pairs])
        return commands

    change_commands(patch, unguarded)


@plant
def answers_taken_twice(patch: pytest.MonkeyPatch) -> None:
    def twice(event: Event, commands: list[Command]) -> list[Command]:
        if not isinstance(event, Answered) or not isinstance(event.request, Transact):
            return commands
        return [*commands, *(one for one in commands if isinstance(one, Settle))]

    change_commands(patch, twice)
