"""Planted bugs, more of them: what is believed of the end of a session. They stand in `faults.PLANTED`, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from consul_locker.core.locker import LockerCore
from consul_locker.core.messages import Answered, Command, Event
from consul_locker.core.requests import (
    DestroySession,
    Done,
    Gone,
    Outcome,
    ReadSession,
    RenewSession,
    Request,
    SessionRead,
    Watch,
    WatchSession,
)

from .faults import PLANTED, plant
from .streams import Step, answer_at_once, change_events, change_steps, ended_sessions

_BEFORE = set(PLANTED)


def _believe(patch: pytest.MonkeyPatch, is_sign: Callable[[Answered], bool]) -> None:
    """After that sign of a session's end nothing else is believed of it: each other answer says that it is gone."""
    gone: set[str] = set()

    def hear(core: LockerCore, event: Event) -> Event:
        life = core.session.life
        if not isinstance(event, Answered) or life is None or event.request.generation != life.generation:
            return event
        if is_sign(event):
            gone.add(life.session_id)
        if life.session_id not in gone or event.request.question:
            return event
        if isinstance(event.request, RenewSession):
            return replace(event, outcome=Gone())
        if isinstance(event.request, ReadSession) and not event.request.confirms:
            return replace(event, outcome=SessionRead(None, 0))
        return event

    change_events(patch, hear)


def _read_empty(event: Answered) -> bool:
    """Whether the session in use was read, or watched, and not found."""
    request = event.request
    asked = isinstance(request, ReadSession) and not request.question and not request.confirms
    watched = isinstance(request, Watch) and isinstance(request, WatchSession)
    return (asked or watched) and isinstance(event.outcome, SessionRead) and event.outcome.session is None


@plant
def a_404_believed_alone(patch: pytest.MonkeyPatch) -> None:
    """A server that has just started answers it for sessions that live."""
    _believe(patch, lambda event: isinstance(event.request, RenewSession) and isinstance(event.outcome, Gone))


@plant
def an_empty_read_believed_alone(patch: pytest.MonkeyPatch) -> None:
    """An ACL without session:read shows no session at all."""
    _believe(patch, _read_empty)


@plant
def a_stop_believed_without_a_read(patch: pytest.MonkeyPatch) -> None:
    """A server that has just started says yes to a destroy and does nothing."""

    def believe(core: LockerCore, event: Event, request: Request) -> Outcome | None:
        of_the_stop = isinstance(request, ReadSession) and request is core.stop.request
        return SessionRead(None, 0) if of_the_stop else None

    answer_at_once(patch, believe)


@plant
def a_destroy_in_the_background_believed_without_a_read(patch: pytest.MonkeyPatch) -> None:
    def believe(core: LockerCore, event: Event, request: Request) -> Outcome | None:
        of_the_background = isinstance(request, ReadSession) and request.confirms and request is not core.stop.request
        return SessionRead(None, 0) if of_the_background else None

    answer_at_once(patch, believe)


@plant
def a_session_given_up_not_destroyed(patch: pytest.MonkeyPatch) -> None:
    """Its destroy is not sent, and taken for done."""

    def leave(core: LockerCore, event: Event, take: Step) -> list[Command]:
        commands = take(event)
        given_up = set(ended_sessions(commands))
        for command in [one for one in commands if isinstance(one, DestroySession) and one.session_id in given_up]:
            commands.remove(command)
            (read,) = take(Answered(command, Done()))
            assert isinstance(read, ReadSession)
            commands += take(Answered(read, SessionRead(None, 0)))
        return commands

    change_steps(patch, leave)


NAMES = sorted(set(PLANTED) - _BEFORE)
