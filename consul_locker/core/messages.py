"""What goes into the core and what comes out of it.

A runtime hands *events* to `LockerCore.step` together with the time, and carries out the *commands*
that it returns, in their order, outside its mutex:

=====================  ==========================================================================
event                  when
=====================  ==========================================================================
`Call`                 a user asks for something; the object stands for the call until it is settled
`Abandoned`            the caller of a `Call` is gone (timeout elsewhere, cancelled, interrupted)
`Answered`             a `Request` was answered, or failed
`TimerFired`           a timer of `SetTimer` is due
=====================  ==========================================================================

=====================  ==========================================================================
command                what a runtime does
=====================  ==========================================================================
a `Request`            sends it to Consul and returns an `Answered` with it, exactly once
`CancelRequest`        gives up a `Watch` early; no answer is wanted any more
`SetTimer`             a `TimerFired` at that time, in place of an earlier one of the same name
`CancelTimer`          no longer
`Settle`               the call has its result or its error
`LeaseEnded`           wakes those who wait for the end of a lease
`Emit`                 sends a signal to the observers
`Log`                  writes a line to the logger ``consul_locker``
=====================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Union

from ..errors import ConsulLockerError
from ..types import BaseLease, SessionInfo

# ---------------------------------------------------------------------------------------------- calls


class Call:
    """One call of a user, from its submission until it is settled.

    Attributes:
        verb: ``lock``, ``release``, ``lock_many``, ``hold``, ``leave``, ``release_all``, ``start``, ``stop``,
            ``reboot``, ``info``, ``holder``, ``session_info``, ``guarded``; and ``queue``, the core's own, which stands
            for a waiting call while its places are taken (core/queue.py).
        ids: the ids concerned, checked and as text.
        wait: how long to wait for another holder, in seconds; None for ever.
        timeout: the limit on the whole call, in seconds; None for none.
        waiter: whatever the runtime needs to answer it; the core never looks at it.
        settled: whether it was answered already. The core sets it, and never answers twice.
        argument: what a verb needs besides.
    """

    __slots__ = (
        "argument",
        "deadline",
        "error",
        "ids",
        "leases",
        "order",
        "reason",
        "settled",
        "timeout",
        "verb",
        "wait",
        "wait_until",
        "waiter",
    )

    def __init__(
        self,
        verb: str,
        ids: tuple[str, ...] = (),
        *,
        wait: float | None = 0.0,
        timeout: float | None = None,
        waiter: Any = None,
        argument: Any = None,
    ) -> None:
        self.verb = verb
        self.ids = ids
        self.wait = wait
        self.timeout = timeout
        self.waiter = waiter
        self.argument = argument
        self.settled = False
        self.order = 0  # of arrival, within its Locker
        self.deadline: float | None = None
        self.wait_until: float | None = None  # set when it first has to wait
        self.reason = ""  # why it waits
        self.leases: tuple[BaseLease, ...] = ()  # what it was answered with
        self.error: ConsulLockerError | None = None  # what the last attempt met while it waited

    @property
    def id(self) -> str:
        """The id of a call that is about one lock."""
        return self.ids[0]

    def __repr__(self) -> str:
        return f"<Call {self.verb} {' '.join(self.ids)}{' settled' if self.settled else ''}>"


# --------------------------------------------------------------------------------- what is asked of Consul


class Verb(str, Enum):
    """The verbs of transaction operations that the core uses; the values are Consul's."""

    LOCK = "lock"
    UNLOCK = "unlock"
    GET = "get"
    GET_TREE = "get-tree"
    SET = "set"
    DELETE = "delete"
    DELETE_CAS = "delete-cas"
    CHECK_INDEX = "check-index"
    CHECK_SESSION = "check-session"
    CHECK_NOT_EXISTS = "check-not-exists"


@dataclass(frozen=True)
class Operation:
    """One operation of a transaction. ``value`` is not yet in base64."""

    verb: Verb
    key: str
    value: bytes | None = None
    flags: int = 0
    session: str | None = None
    index: int | None = None


@dataclass(frozen=True, eq=False)
class Request:
    """Something to ask of Consul. Compared by identity: each is sent once and answered once.

    Attributes:
        generation: the Locker's session attempt it belongs to.
        timeout: the limit on the whole request, in seconds; None: the runtime's own.
    """

    generation: int
    timeout: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True, eq=False)
class CreateSession(Request):
    """Answered by `SessionCreated`."""

    name: str
    ttl: float | None
    lock_delay: float
    behavior: str
    checks: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class DestroySession(Request):
    """Answered by `Done`."""

    session_id: str


@dataclass(frozen=True, eq=False)
class RenewSession(Request):
    """Answered by `Renewed`, or `Gone`. Goes over a connection reserved for renewals (rule 1)."""

    session_id: str
    fresh: bool = False  #: on a new connection: the attempt before failed


@dataclass(frozen=True, eq=False)
class ReadSession(Request):
    """Answered by `SessionRead`. With a ``call`` it is a user's question."""

    session_id: str
    consistent: bool = True
    context: Any = None
    call: Call | None = None


@dataclass(frozen=True, eq=False)
class ReadKey(Request):
    """Answered by `KeysRead` with one entry or none. ``purpose`` tells the core what it wanted it for."""

    key: str
    purpose: str
    consistent: bool = True
    context: Any = None
    call: Call | None = None


@dataclass(frozen=True, eq=False)
class ReadPrefix(Request):
    """All keys below a prefix. Answered by `KeysRead`."""

    prefix: str
    purpose: str
    context: Any = None


@dataclass(frozen=True, eq=False)
class Transact(Request):
    """One transaction. Answered by `Committed`, `RolledBack` or `TooLarge`.

    Attributes:
        operations: at most 64.
        purpose: what the core wants it for: ``"commit"`` (group commit), ``"audit"``, ``"unheld"``, ``"holder"``,
            ``"look"`` or ``"tidy"`` (the queue of a fair Locker).
        calls: whose outcome depends on it; a blocked one of these may carry it (`consul_locker.carrying`).
        context: the core's own.
        consistent: whether the leader makes sure that it is one, before it answers; for one of reads.
    """

    operations: tuple[Operation, ...]
    purpose: str = "commit"
    calls: tuple[Call, ...] = ()
    context: Any = None
    consistent: bool = False


@dataclass(frozen=True, eq=False)
class RawTransact(Request):
    """A transaction of a user's own operations, as Consul's JSON. Answered by `Committed` or `RolledBack`."""

    operations: tuple[dict[str, Any], ...]
    call: Call


@dataclass(frozen=True, eq=False)
class Watch(Request):
    """A blocking query. Answered by what its target shows, when something changed there or ``wait`` is over.

    Attributes:
        target: ``"session"`` (`SessionRead`), ``"key"`` (`KeysRead`), or ``"node"``, all sessions there
            (`SessionsRead`), which only a runtime asks.
        name: the session's id, the node, or the key.
        index: the X-Consul-Index seen last; 0 asks for the present state at once.
        wait: how long Consul may hold it, in seconds; it adds up to a sixteenth of it.
        node: a session's, where it is known: a runtime may watch all sessions there instead, for many Lockers.
    """

    target: str
    name: str
    index: int
    wait: float
    node: str = ""


# ----------------------------------------------------------------------------------- what Consul answers


@dataclass(frozen=True)
class Entry:
    """A key as Consul has it."""

    key: str
    value: bytes | None
    flags: int
    session: str | None
    create_index: int
    modify_index: int
    lock_index: int


class Refusal(Enum):
    """Why Consul refused an operation of a transaction, read from its words (measured; tests/contract)."""

    HELD = "held"
    LOCK_DELAY = "lock-delay"
    NOT_HELD = "not held"
    INVALID_SESSION = "invalid session"
    INDEX = "index"
    SESSION = "session"
    MISSING = "missing"
    EXISTS = "exists"
    DENIED = "permission denied"
    OTHER = "other"


@dataclass(frozen=True)
class Refused:
    """One failing operation: its place in the transaction, why, and Consul's own words."""

    position: int
    refusal: Refusal
    what: str


@dataclass(frozen=True)
class SessionCreated:
    session_id: str


@dataclass(frozen=True)
class Done:
    """Consul said yes, and there is nothing more to tell."""


@dataclass(frozen=True)
class Renewed:
    ttl: float | None  #: in seconds, as Consul answered it


@dataclass(frozen=True)
class Gone:
    """404: there is no such session."""


@dataclass(frozen=True)
class SessionRead:
    session: SessionInfo | None
    index: int


@dataclass(frozen=True)
class SessionsRead:
    """``sessions`` by their ids."""

    sessions: Mapping[str, SessionInfo]
    index: int


@dataclass(frozen=True)
class KeysRead:
    entries: tuple[Entry, ...]
    index: int


@dataclass(frozen=True)
class Committed:
    """``entries`` are the results, in the order of the operations that have one (a delete has none)."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class RolledBack:
    """409: nothing was done; every failing operation that Consul looked at."""

    refused: tuple[Refused, ...]


@dataclass(frozen=True)
class TooLarge:
    """413."""


@dataclass(frozen=True)
class Failed:
    """No usable answer. ``sent``: the request may have taken effect, or may still take it (rule 5)."""

    error: ConsulLockerError
    sent: bool = True


Outcome = Union[
    SessionCreated, Done, Renewed, Gone, SessionRead, SessionsRead, KeysRead, Committed, RolledBack, TooLarge, Failed
]

# --------------------------------------------------------------------------------------------- events


@dataclass(frozen=True)
class Answered:
    request: Request
    outcome: Outcome


@dataclass(frozen=True)
class Abandoned:
    """The call's caller is gone, its answer unwanted.

    Nothing is left behind: a lock that comes for it alone is given back (rule 7).
    """

    call: Call


@dataclass(frozen=True)
class TimerFired:
    name: tuple[Any, ...]


Event = Union[Call, Answered, Abandoned, TimerFired]

# -------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True)
class CancelRequest:
    request: Request


@dataclass(frozen=True)
class SetTimer:
    name: tuple[Any, ...]
    at: float  #: on the same clock as the ``now`` of `LockerCore.step`, in seconds


@dataclass(frozen=True)
class CancelTimer:
    name: tuple[Any, ...]


@dataclass(frozen=True)
class Settle:
    call: Call
    value: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class LeaseEnded:
    lease: BaseLease


@dataclass(frozen=True)
class Emit:
    signal: str  #: its name in `consul_locker.signals`, with underscores: ``"lock_acquired"``
    facts: dict[str, Any]


@dataclass(frozen=True)
class Log:
    level: int  #: as in `logging`
    text: str


Command = Union[Request, CancelRequest, SetTimer, CancelTimer, Settle, LeaseEnded, Emit, Log]
