"""What the core asks Consul, and what it is answered.

The type of a request says what it is answered with: `RequestFor`. `step.Outbox.ask` sends it, together with the method
that takes its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar, Union

from ..errors import ConsulLockerError
from ..models import SessionInfo
from .calls import Call

# ----------------------------------------------------------------------------- operations of transactions


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

# ----------------------------------------------------------------------------------- answers


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
    """Why Consul refused an operation of a transaction, as its message says (measured; tests/contract)."""

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
    """One failing operation: its position in the transaction, the reason, and Consul's own words."""

    position: int
    refusal: Refusal
    what: str


@dataclass(frozen=True)
class SessionCreated:
    """The answer to a `CreateSession`."""

    session_id: str


@dataclass(frozen=True)
class NodesFound:
    """The answer to a `FindNode`: the names of the servers' nodes; none where the token may not read them."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """Consul did what was asked; there is no result."""


@dataclass(frozen=True)
class Renewed:
    """The session lives on."""

    ttl: float | None  #: in seconds, as Consul answered it


@dataclass(frozen=True)
class Gone:
    """404: there is no such session."""


@dataclass(frozen=True)
class SessionRead:
    """A session as Consul has it; None: there is none. ``index``: X-Consul-Index, from which a watch goes on."""

    session: SessionInfo | None
    index: int


@dataclass(frozen=True)
class SessionsRead:
    """``sessions`` by their ids. ``index``: as of a `SessionRead`."""

    sessions: Mapping[str, SessionInfo]
    index: int


@dataclass(frozen=True)
class KeysRead:
    """The keys that were asked for and are there.

    ``index``: as of a `SessionRead`; read by transaction, the key's own, 0 where it is not there.
    """

    entries: tuple[Entry, ...]
    index: int


@dataclass(frozen=True)
class NamesRead:
    """The names of keys. An empty list may mean that an ACL hides them from the token.

    ``index``: as of a `SessionRead`.
    """

    names: tuple[str, ...]
    index: int = 0


@dataclass(frozen=True)
class Committed:
    """``entries`` are the results, in the order of the operations that have one (a delete has none)."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class RolledBack:
    """409: nothing was done. ``refused``: the failing operations, as far as Consul checked them."""

    refused: tuple[Refused, ...]


@dataclass(frozen=True)
class RefusedWhole:
    """Nothing was done: Consul refuses the content of the request (it is no outage). ``what``: its words.

    It does not say which operation is the reason, so a half of them may be accepted.
    """

    status: int
    what: str

    @property
    def of_key(self) -> bool:
        """Whether the reason is a key: ``Invalid key in transaction: invalid key name, …`` (measured)."""
        return "invalid key" in self.what.lower()


@dataclass(frozen=True)
class Failed:
    """No usable answer. ``sent``: the request may have taken effect, or may still do so (rule 5).

    It is False if no byte was sent, or if Consul refused the request before it did anything.
    """

    error: ConsulLockerError
    sent: bool = True


Outcome = Union[
    SessionCreated,
    NodesFound,
    Done,
    Renewed,
    Gone,
    SessionRead,
    SessionsRead,
    KeysRead,
    NamesRead,
    Committed,
    RolledBack,
    RefusedWhole,
    Failed,
]

#: The answers to each kind of request.
CreateAnswer = Union[SessionCreated, Failed]
NodesAnswer = Union[NodesFound, Failed]
DestroyAnswer = Union[Done, Failed]
RenewAnswer = Union[Renewed, Gone, Failed]
SessionAnswer = Union[SessionRead, Failed]
SessionsAnswer = Union[SessionsRead, Failed]
KeyAnswer = Union[KeysRead, RefusedWhole, Failed]
NamesAnswer = Union[NamesRead, RefusedWhole, Failed]
TransactAnswer = Union[Committed, RolledBack, RefusedWhole, Failed]

# --------------------------------------------------------------------------------- requests

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, eq=False)
class Request:
    """A request to Consul. Compared by identity: each is sent once and answered once.

    Attributes:
        generation: the Locker's session attempt it belongs to.
        timeout: the limit on the whole request, in seconds; None: the runtime's own.
        question: whether a user asked it, so that nothing of the Locker's own depends on it.
    """

    generation: int
    timeout: float | None = field(default=None, kw_only=True)
    question: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, eq=False)
class RequestFor(Request, Generic[AnswerT]):
    """A request that is answered with one of these."""


@dataclass(frozen=True, eq=False)
class CreateSession(RequestFor[CreateAnswer]):
    """Create a session."""

    name: str
    ttl: float | None
    lock_delay: float
    behavior: str
    checks: tuple[str, ...] | None
    node: str | None = None  #: that it belongs to; None: the agent's own


@dataclass(frozen=True, eq=False)
class FindNode(RequestFor[NodesAnswer]):
    """Look up the servers of a datacenter: a session can belong to the node of one."""

    dc: str


@dataclass(frozen=True, eq=False)
class DestroySession(RequestFor[DestroyAnswer]):
    """Destroy a session."""

    session_id: str


@dataclass(frozen=True, eq=False)
class RenewSession(RequestFor[RenewAnswer]):
    """Renew a session. Goes over a connection reserved for renewals (rule 1)."""

    session_id: str
    fresh: bool = False  #: on a new connection: the attempt before failed


@dataclass(frozen=True, eq=False)
class ReadSession(RequestFor[SessionAnswer]):
    """Read a session from the leader. ``confirms``: whether it confirms a destroy."""

    session_id: str
    confirms: bool = False


@dataclass(frozen=True, eq=False)
class ReadKey(RequestFor[KeyAnswer]):
    """Read a key from the leader: `KeysRead` has one entry or none."""

    key: str


@dataclass(frozen=True, eq=False)
class ReadPrefix(RequestFor[NamesAnswer]):
    """List the names of all keys with a prefix, from the leader."""

    prefix: str


@dataclass(frozen=True, eq=False)
class Transact(RequestFor[TransactAnswer]):
    """One transaction.

    Attributes:
        operations: at most 64.
        calls: the calls whose outcome depends on it; one that waits may carry it (`consul_locker.threads.runtime`).
        consistent: for reads, whether the leader confirms that it still is the leader, before it answers.
    """

    operations: tuple[Operation, ...]
    calls: tuple[Call, ...] = ()
    consistent: bool = False


@dataclass(frozen=True, eq=False)
class RawTransact(RequestFor[TransactAnswer]):
    """A transaction of a user's own operations, as Consul's JSON."""

    operations: tuple[Mapping[str, Any], ...]
    question: bool = field(default=True, kw_only=True)


@dataclass(frozen=True, eq=False)
class Watch(Request):
    """A blocking query. Answered when its target has changed, or when ``wait`` is over.

    Attributes:
        name: the session's id, the key, or the node.
        index: the X-Consul-Index seen last; 0 asks for the present state at once.
        wait: how long Consul may hold it, in seconds; it adds up to a sixteenth of it.
        node: a session's, where it is known: a runtime may watch all sessions there instead, for many Lockers.
    """

    name: str
    index: int
    wait: float
    node: str = ""


@dataclass(frozen=True, eq=False)
class WatchSession(Watch, RequestFor[SessionAnswer]):
    """A watch on a session."""


@dataclass(frozen=True, eq=False)
class WatchKey(Watch, RequestFor[KeyAnswer]):
    """A watch on a key. `RefusedWhole` by a Consul that shows the key in transactions only."""


@dataclass(frozen=True, eq=False)
class PollKey(Watch, RequestFor[KeyAnswer]):
    """In place of a watch on such a key: a read by transaction, answered at once."""


@dataclass(frozen=True, eq=False)
class WatchNames(Watch, RequestFor[NamesAnswer]):
    """A watch on all keys with a prefix, the ``name``; answered with their names. A runtime may answer it `Failed`."""


@dataclass(frozen=True, eq=False)
class WatchNode(Watch, RequestFor[SessionsAnswer]):
    """A watch on all sessions of a node; only a runtime asks it."""
