"""What tests call the core's calls and requests by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from consul_locker.core.calls import (
    Call,
    Guarded,
    Hold,
    Holder,
    HoldMany,
    Info,
    LeaveHold,
    Lock,
    LockCall,
    LockMany,
    ReadSessionInfo,
    Reboot,
    Release,
    ReleaseAll,
    Start,
    Stop,
    Waiters,
)
from consul_locker.core.requests import Transact, Verb

_KINDS: dict[str, Any] = {
    kind.verb: kind
    for kind in (
        Guarded, Hold, HoldMany, Holder, Info, LeaveHold, Lock, LockMany, ReadSessionInfo, Reboot, Release, ReleaseAll,
        Start, Stop, Waiters,
    )
}  # fmt: skip

#: The operations of the transactions that only read, and one that only tidies up. All others are group commits.
_READS = {
    frozenset((Verb.GET_TREE,)): "turn",
    frozenset((Verb.GET,)): "holder",
    frozenset((Verb.CHECK_INDEX,)): "audit",
    frozenset((Verb.CHECK_SESSION,)): "look",
    frozenset((Verb.DELETE_CAS,)): "tidy",
}


def call_of(verb: str, ids: Iterable[Any] = (), **more: Any) -> Call:
    """A call by its name. ``ids``: of the locks, or what else the kind of call takes."""
    kind = _KINDS[verb]
    call: Call = kind(ids, **more) if issubclass(kind, LockCall) else kind(*ids, **more)
    return call


def purpose_of(request: Transact) -> str:
    """What a transaction is for; a sweep is called a look, too."""
    purpose = _READS.get(frozenset(operation.verb for operation in request.operations), "commit")
    # A set of locks that are all held, of a Locker without a cache, is asked for by checks alone.
    return "commit" if purpose == "audit" and request.calls else purpose
