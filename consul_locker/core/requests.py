"""What the core asks Consul, and what it is answered.

The type of a request says what it is answered with: `RequestFor`. `step.Outbox.ask` sends it, together with the method
that takes its answer.

They are structures of msgspec, which makes one in a tenth of a frozen dataclass's time. An `Operation` and an `Entry`
have their names in Consul's JSON (``rename``), so the client writes and reads them without copies. ``gc=False``: the
garbage collector need not look at what holds no other object of that kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Generic, TypeVar, Union

from msgspec import Meta, Struct

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


class Operation(Struct, frozen=True, gc=False, omit_defaults=True, rename="pascal"):
    """One operation of a transaction. ``value`` is not yet in base64."""

    verb: Verb
    key: str
    value: Union[bytes, None] = None
    flags: int = 0
    session: Union[str, None] = None
    index: Union[int, None] = None


# ----------------------------------------------------------------------------------- answers


#: Raft's indexes, which a signed number of 64 bits holds for ever.
Index = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Entry(Struct, frozen=True, gc=False, rename="pascal"):
    """A key as Consul has it."""

    key: str
    flags: Annotated[int, Meta(ge=0)]
    create_index: Index
    modify_index: Index
    lock_index: Index
    value: Union[bytes, None] = None
    session: Union[str, None] = None


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


class Refused(Struct, frozen=True):
    """One failing operation: its position in the transaction, the reason, and Consul's own words."""

    position: int
    refusal: Refusal
    what: str


class SessionCreated(Struct, frozen=True):
    """The answer to a `CreateSession`."""

    session_id: str


class NodesFound(Struct, frozen=True):
    """The answer to a `FindNode`: the names of the servers' nodes; none where the token may not read them."""

    names: tuple[str, ...]


class Done(Struct, frozen=True):
    """Consul did what was asked; there is no result."""


class Renewed(Struct, frozen=True):
    """The session lives on."""

    ttl: float | None  #: in seconds, as Consul answered it


class Gone(Struct, frozen=True):
    """404: there is no such session."""


class SessionRead(Struct, frozen=True):
    """A session as Consul has it; None: there is none. ``index``: X-Consul-Index, from which a watch goes on."""

    session: SessionInfo | None
    index: int


class SessionsRead(Struct, frozen=True):
    """``sessions`` by their ids. ``index``: as of a `SessionRead`."""

    sessions: Mapping[str, SessionInfo]
    index: int


class KeysRead(Struct, frozen=True):
    """The keys that were asked for and are there.

    ``index``: as of a `SessionRead`; read by transaction, the key's own, 0 where it is not there.
    """

    entries: tuple[Entry, ...]
    index: int


class NamesRead(Struct, frozen=True):
    """The names of keys. An empty list may mean that an ACL hides them from the token.

    ``index``: as of a `SessionRead`.
    """

    names: tuple[str, ...]
    index: int = 0


class Committed(Struct, frozen=True):
    """``entries`` are the results, in the order of the operations that have one (a delete has none)."""

    entries: tuple[Entry, ...]


class RolledBack(Struct, frozen=True):
    """409: nothing was done. ``refused``: the failing operations, as far as Consul checked them."""

    refused: tuple[Refused, ...]


class RefusedWhole(Struct, frozen=True):
    """Nothing was done: Consul refuses the content of the request (it is no outage). ``what``: its words.

    It does not say which operation is the reason, so a half of them may be accepted.
    """

    status: int
    what: str

    @property
    def of_key(self) -> bool:
        """Whether the reason is a key: ``Invalid key in transaction: invalid key name, …`` (measured)."""
        return "invalid key" in self.what.lower()


class Failed(Struct, frozen=True):
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


class _Sending(Struct, frozen=True, eq=False, kw_only=True):
    timeout: Union[float, None] = None
    question: bool = False


class Request(_Sending, frozen=True, eq=False):
    """A request to Consul. Compared by identity: each is sent once and answered once.

    Attributes:
        generation: the Locker's session attempt it belongs to.
        timeout: the limit on the whole request, in seconds; None: the runtime's own.
        question: whether a user asked it, so that nothing of the Locker's own depends on it.
    """

    generation: int


class RequestFor(Request, Generic[AnswerT], frozen=True, eq=False):
    """A request that is answered with one of these."""


class CreateSession(RequestFor[CreateAnswer], frozen=True, eq=False):
    """Create a session."""

    name: str
    ttl: float | None
    lock_delay: float
    behavior: str
    checks: tuple[str, ...] | None
    node: str | None = None  #: that it belongs to; None: the agent's own


class FindNode(RequestFor[NodesAnswer], frozen=True, eq=False):
    """Look up the servers of a datacenter: a session can belong to the node of one."""

    dc: str


class DestroySession(RequestFor[DestroyAnswer], frozen=True, eq=False):
    """Destroy a session."""

    session_id: str


class RenewSession(RequestFor[RenewAnswer], frozen=True, eq=False):
    """Renew a session. Goes over a connection reserved for renewals (rule 1)."""

    session_id: str
    fresh: bool = False  #: on a new connection: the attempt before failed


class ReadSession(RequestFor[SessionAnswer], frozen=True, eq=False):
    """Read a session from the leader. ``confirms``: whether it confirms a destroy."""

    session_id: str
    confirms: bool = False


class ReadKey(RequestFor[KeyAnswer], frozen=True, eq=False):
    """Read a key from the leader: `KeysRead` has one entry or none."""

    key: str


class ReadPrefix(RequestFor[NamesAnswer], frozen=True, eq=False):
    """List the names of all keys with a prefix, from the leader."""

    prefix: str


class Transact(RequestFor[TransactAnswer], frozen=True, eq=False):
    """One transaction.

    Attributes:
        operations: at most 64.
        calls: the calls whose outcome depends on it; one that waits may carry it (`consul_locker.threads.runtime`).
        consistent: for reads, whether the leader confirms that it still is the leader, before it answers.
    """

    operations: tuple[Operation, ...]
    calls: tuple[Call, ...] = ()
    consistent: bool = False


class RawTransact(RequestFor[TransactAnswer], frozen=True, eq=False):
    """A transaction of a user's own operations, as Consul's JSON."""

    operations: tuple[Mapping[str, Any], ...]


class Watch(Request, frozen=True, eq=False):
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


class WatchSession(Watch, RequestFor[SessionAnswer], frozen=True, eq=False):
    """A watch on a session."""


class WatchKey(Watch, RequestFor[KeyAnswer], frozen=True, eq=False):
    """A watch on a key. `RefusedWhole` by a Consul that shows the key in transactions only."""


class PollKey(Watch, RequestFor[KeyAnswer], frozen=True, eq=False):
    """In place of a watch on such a key: a read by transaction, answered at once."""


class WatchNames(Watch, RequestFor[NamesAnswer], frozen=True, eq=False):
    """A watch on all keys with a prefix, the ``name``; answered with their names. A runtime may answer it `Failed`."""


class WatchNode(Watch, RequestFor[SessionsAnswer], frozen=True, eq=False):
    """A watch on all sessions of a node; only a runtime asks it."""
