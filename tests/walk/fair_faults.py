"""Planted bugs, more of them: the queue of a fair Locker. They stand in `faults.PLANTED`, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from consul_locker.core import fair_line as queue
from consul_locker.core.locker import LockerCore
from consul_locker.core.messages import Answered, Call, Command, Event
from consul_locker.core.requests import Committed, Entry, Failed, Outcome, Request, Transact, Verb
from consul_locker.keys import lock_key_of

from .faults import plant
from .lock_faults import not_renewed
from .streams import answer_at_once, change_commands, change_events, change_steps


def _queues(request: Request) -> bool:
    """Whether a request reads queues."""
    return isinstance(request, Transact) and any(op.verb is Verb.GET_TREE for op in request.operations)


def _show(patch: pytest.MonkeyPatch, change: Callable[[Entry, str], Entry | None]) -> None:
    """Put what `change` makes of it in place of each entry of a queue that is read; None: it is not shown.

    Its second argument is the session in use.
    """

    def show(core: LockerCore, event: Event) -> Event:
        life = core.session.life
        if not isinstance(event, Answered) or not isinstance(event.outcome, Committed) or life is None:
            return event
        if not _queues(event.request):
            return event
        entries = (change(entry, life.session_id) for entry in event.outcome.entries)
        return replace(event, outcome=Committed(tuple(entry for entry in entries if entry is not None)))

    change_events(patch, show)


@plant
def newcomer_does_not_look(patch: pytest.MonkeyPatch) -> None:
    """The first turn read of a call shows it an empty queue."""
    come: set[Call] = set()

    def empty(core: LockerCore, event: Event) -> Event:
        if not isinstance(event, Answered) or not isinstance(event.request, Transact) or not _queues(event.request):
            return event
        calls = set(event.request.calls)
        new = come.isdisjoint(calls) and isinstance(event.outcome, Committed)
        come.update(calls)
        return replace(event, outcome=Committed(())) if new else event

    change_events(patch, empty)


@plant
def lock_of_a_fair_locker_tried_whoever_waits(patch: pytest.MonkeyPatch) -> None:
    """Each waiter sees only its Locker's own places, and whether the lock is free."""

    def blind(entry: Entry, session_id: str) -> Entry | None:
        return entry if entry.session == session_id or not lock_key_of(entry.key) else None

    _show(patch, blind)


@plant
def places_in_the_order_of_their_names(patch: pytest.MonkeyPatch) -> None:
    def by_name(core: LockerCore, event: Event) -> Event:
        if isinstance(event, Answered) and isinstance(event.outcome, Committed) and _queues(event.request):
            entries = sorted(event.outcome.entries, key=lambda entry: entry.key)
            numbered = tuple(replace(entry, create_index=number) for number, entry in enumerate(entries))
            return replace(event, outcome=Committed(numbered))
        return event

    change_events(patch, by_name)


@plant
def place_of_a_dead_waiter_counts(patch: pytest.MonkeyPatch) -> None:
    """A place without a session is waited for as if somebody stood in it."""

    def haunted(entry: Entry, session_id: str) -> Entry:
        return replace(entry, session="?") if entry.session is None and lock_key_of(entry.key) else entry

    _show(patch, haunted)


@plant
def place_kept_by_who_gave_up(patch: pytest.MonkeyPatch) -> None:
    """The release of a place is not sent, and taken for done."""

    def keep(core: LockerCore, event: Event, request: Request) -> Outcome | None:
        operations = request.operations if isinstance(request, Transact) else ()
        of_places = all(op.verb in (Verb.CHECK_SESSION, Verb.DELETE_CAS) and lock_key_of(op.key) for op in operations)
        given_back = {op.verb for op in operations} == {Verb.CHECK_SESSION, Verb.DELETE_CAS}
        return Committed(()) if of_places and given_back else None

    answer_at_once(patch, keep)


@plant
def place_kept_by_who_was_served(patch: pytest.MonkeyPatch) -> None:
    """Whoever gave back its place together with the lock takes it once more."""

    def keep(event: Event, commands: list[Command]) -> list[Command]:
        if not isinstance(event, Answered) or not isinstance(event.outcome, Committed):
            return commands
        operations = event.request.operations if isinstance(event.request, Transact) else ()
        session = next((op.session for op in operations if op.session), None)
        again = tuple(replace(op, verb=Verb.LOCK, session=session) for op in operations if op.verb is Verb.DELETE)
        return [*commands, Transact(event.request.generation, again)] if again else commands

    change_commands(patch, keep)


@plant
def lost_place_not_noticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queue.FairLine, "lost", lambda self, place: None)


@plant
def place_that_may_come_late_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Its request counts as one that was never sent, and no turn read shows the place."""
    late: set[str] = set()

    def forget(core: LockerCore, event: Event) -> Event:
        if not isinstance(event, Answered) or not isinstance(event.request, Transact):
            return event
        places = {op.key for op in event.request.operations if op.verb is Verb.LOCK and lock_key_of(op.key)}
        if places and isinstance(event.outcome, Failed):
            late.update(places)
            return replace(event, outcome=replace(event.outcome, sent=False))
        if isinstance(event.outcome, Committed):
            return replace(event, outcome=Committed(tuple(one for one in event.outcome.entries if one.key not in late)))
        return event

    change_events(patch, forget)


@plant
def watch_on_the_place_before_not_renewed(patch: pytest.MonkeyPatch) -> None:
    change_steps(patch, not_renewed(fair=True))


@plant
def next_caller_of_the_same_locker_not_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queue.FairLine, "serve", lambda self, slot: None)
