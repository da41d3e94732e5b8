"""The events that go into the core, and the commands that come out.

A runtime hands *events* to `LockerCore.step` together with the time, and carries out the *commands*
that it returns, in their order, outside its mutex:

=====================  ==========================================================================
event                  when
=====================  ==========================================================================
`Call`                 a user asks for something; the object stands for the call until it is settled
`Abandoned`            the caller of a `Call` is gone (its own timeout, cancelled, interrupted)
`Answered`             a `Request` was answered, or failed
`TimerFired`           a timer of `SetTimer` is due
=====================  ==========================================================================

=====================  ==========================================================================
command                what a runtime does
=====================  ==========================================================================
a `Request`            sends it to Consul and returns an `Answered` with it, exactly once
`CancelRequest`        gives up a `Watch` early; no answer is wanted any more
`SetTimer`             a `TimerFired` at that time, in place of an earlier one of the same name
`CancelTimer`          cancels the timer of that name
`Settle`               the call has its result or its error
`LeaseEnded`           wakes the calls that wait for the end of a lease
`Emit`                 sends a signal to the observers
`Log`                  writes a line to the logger ``consul_locker``
`Forget`               cancels all timers, and gives up every `Watch`: those of a core that was replaced
=====================  ==========================================================================
"""

from __future__ import annotations

from typing import Any, Union

from msgspec import Struct

from ..lease import BaseLease
from .calls import Call as Call  # it is one of the events, so it is found here, too
from .requests import DestroySession, Failed, Outcome, ReadSession, Request

#: What tells the timers of a Locker apart.
TimerName = tuple[object, ...]


def confirmed_destroy(request: DestroySession, outcome: Outcome) -> ReadSession | None:
    """The read that confirms a destroy; None if the destroy failed."""
    if isinstance(outcome, Failed):
        return None
    return ReadSession(request.generation, request.session_id, confirms=True, timeout=request.timeout)


# --------------------------------------------------------------------------------------------- events


class Answered(Struct, frozen=True):
    """A request was answered, or failed."""

    request: Request
    outcome: Outcome


class Abandoned(Struct, frozen=True):
    """The caller of a call is gone, so the call needs no answer.

    Nothing is left behind: a lock that is granted for this call alone is given back (rule 7).
    """

    call: Call


class TimerFired(Struct, frozen=True):
    """The timer of that name is due."""

    name: TimerName


Event = Union[Call, Answered, Abandoned, TimerFired]

#: There is no timer of this name: a step in which nothing happens, but what is wanted is sent.
GATHERED = TimerFired(("gathered",))

# -------------------------------------------------------------------------------------------- commands


class CancelRequest(Struct, frozen=True):
    """A `Watch` is given up; it needs no answer any more."""

    request: Request


class SetTimer(Struct, frozen=True):
    """Set a timer, in place of an earlier one of that name."""

    name: TimerName
    at: float  #: on the same clock as the ``now`` of `LockerCore.step`, in seconds


class CancelTimer(Struct, frozen=True):
    """Cancel the timer of that name, if it is set."""

    name: TimerName


class Settle(Struct, frozen=True):
    """The call has its result, or its error."""

    call: Call
    value: Any = None
    error: BaseException | None = None


class LeaseEnded(Struct, frozen=True):
    """The lease is over: wake the calls that wait for that."""

    lease: BaseLease


class Emit(Struct, frozen=True):
    """A signal for the observers, with its facts."""

    signal: str  #: its name in `consul_locker.signals`, with underscores: ``"lock_acquired"``
    facts: dict[str, Any]


class Log(Struct, frozen=True):
    """A line for the logger ``consul_locker``."""

    level: int  #: as in `logging`
    text: str


class Forget(Struct, frozen=True):
    """The core before this one was replaced: its timers are cancelled, and its watches given up."""


Command = Union[Request, CancelRequest, SetTimer, CancelTimer, Settle, LeaseEnded, Emit, Log, Forget]
