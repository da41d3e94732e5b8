"""Planted bugs, more of them: what is done wrong in an outage of Consul. They stand in `faults.PLANTED`, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from msgspec.structs import force_setattr, replace

from consul_locker.core.locker import LockerCore
from consul_locker.core.messages import Answered, Command, Event
from consul_locker.core.requests import (
    Committed,
    Failed,
    Outcome,
    RawTransact,
    RenewSession,
    Request,
    SessionCreated,
    Transact,
    Verb,
)
from consul_locker.errors import AccessDenied, ConsulUnavailable
from consul_locker.keys import lock_key_of

from ..told import purpose_of
from .faults import PLANTED, plant
from .streams import Step, answer_at_once, change_events, change_steps

_BEFORE = set(PLANTED)
#: So often a request is made again.
AGAIN = 3


def _unanswered(event: Event) -> bool:
    return isinstance(event, Answered) and isinstance(event.outcome, Failed) and event.outcome.sent


def _locks(request: Request) -> bool:
    """Whether a request asks for locks of the user's, and for nothing else."""
    operations = request.operations if isinstance(request, Transact) else ()
    return bool(operations) and all(op.verb is Verb.LOCK and not lock_key_of(op.key) for op in operations)


def _made_again(
    which: Callable[[Request], bool], change: Callable[[Request], None]
) -> Callable[[LockerCore, Event, Step], list[Command]]:
    """A change of steps: the core does not hear that these were not answered; they are sent again, changed."""
    times: Counter[Request] = Counter()

    def again(core: LockerCore, event: Event, take: Step) -> list[Command]:
        if not isinstance(event, Answered) or not _unanswered(event) or not which(event.request):
            return take(event)
        if times[event.request] == AGAIN or event.request.generation != core.session.generation:
            return take(event)
        times[event.request] += 1
        change(event.request)
        return [event.request]

    return again


@plant
def guarded_is_made_again(patch: pytest.MonkeyPatch) -> None:
    change_steps(patch, _made_again(lambda request: isinstance(request, RawTransact), lambda request: None))


@plant
def lock_made_again_under_another_number(patch: pytest.MonkeyPatch) -> None:
    def renumber(request: Request) -> None:
        assert isinstance(request, Transact)
        operations = tuple(replace(op, value=(op.value or b"") + b" ") for op in request.operations)
        force_setattr(request, "operations", operations)

    change_steps(patch, _made_again(_locks, renumber))


@plant
def lock_made_again_leaves_no_doubt(patch: pytest.MonkeyPatch) -> None:
    change_steps(patch, _made_again(_locks, lambda request: None))


@plant
def right_that_is_missing_is_ridden_over(patch: pytest.MonkeyPatch) -> None:
    def outage(core: LockerCore, event: Event) -> Event:
        if not isinstance(event, Answered) or not isinstance(event.outcome, Failed):
            return event
        if not isinstance(event.outcome.error, AccessDenied):
            return event
        return replace(event, outcome=Failed(ConsulUnavailable("an outage, it seems"), False))

    change_events(patch, outage)


def _pausing(
    patch: pytest.MonkeyPatch, holds_up: Callable[[Request], bool], ends: Callable[[Answered], bool]
) -> None:
    """Once Consul has refused a transaction before it was done, these fail without being sent until the pause ends."""
    pausing: dict[LockerCore, Outcome] = {}

    def answer(core: LockerCore, event: Event, request: Request) -> Outcome | None:
        return pausing.get(core) if holds_up(request) else None

    answer_at_once(patch, answer)

    def hear(core: LockerCore, event: Event) -> Event:
        if isinstance(event, Answered) and isinstance(event.request, Transact):
            if isinstance(event.outcome, Failed) and not event.outcome.sent:
                pausing[core] = event.outcome
        if isinstance(event, Answered) and ends(event):
            pausing.pop(core, None)
        return event

    change_events(patch, hear)


@plant
def pause_never_ends(patch: pytest.MonkeyPatch) -> None:
    _pausing(
        patch,
        lambda request: isinstance(request, Transact) and purpose_of(request) == "commit",
        lambda event: isinstance(event.outcome, SessionCreated),
    )


@plant
def pause_holds_up_renewals(patch: pytest.MonkeyPatch) -> None:
    _pausing(
        patch,
        lambda request: isinstance(request, RenewSession),
        lambda event: isinstance(event.request, Transact) and isinstance(event.outcome, Committed),
    )


NAMES = sorted(set(PLANTED) - _BEFORE)
