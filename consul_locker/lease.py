"""The lease, as far as both faces share it, and the life of the session on which all its leases depend."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import LockLost
from .keys import lock_key

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "PLACE",
    "BaseLease",
    "SessionLife",
    "no_context_manager",
]


#: With this the id of a place in the queue of a lock begins; its key follows. No lock has such an id, since it is NUL.
PLACE = "\0"


class SessionLife:
    """How long one session can be relied on, and all else that its leases share: each has as little as it can.

    Attributes:
        generation: the number of the session within its Locker; rises with every attempt.
        session_id: Consul's id of it.
        deadline: the moment, on the Locker's clock, after which nothing may rely on it (rule 3);
            infinite for a session whose life is not watched.
        name: the Locker's.
        clock: the Locker's, in seconds.
        claims: the leases that were claimed, and by whom (`BaseLease.claim`).
        jobs: what a face is to do when a lease is over; only of those for whose end somebody waits, or has waited.
        loop: for the asyncio face: the event loop of its leases.
    """

    __slots__ = ("claims", "clock", "deadline", "generation", "jobs", "loop", "name", "session_id")

    def __init__(
        self, generation: int, session_id: str, deadline: float, name: str, clock: Callable[[], float]
    ) -> None:
        self.generation = generation
        self.session_id = session_id
        self.deadline = deadline
        self.name = name
        self.clock = clock
        self.claims: dict[BaseLease, object] = {}
        self.jobs: dict[BaseLease, list[Any]] = {}
        self.loop: Any = None


class BaseLease:
    """One tenure of one lock: from a grant to its release or loss.

    All callers that share a lock get the same lease. So its facts are read-only. A copy is the lease itself, since a
    separate copy would not notice the end of the lease.
    """

    __slots__ = (
        "__weakref__",
        "_acquired_at",
        "_fence",
        "_id",
        "_life",
        "_owner",
        "_reason",
        "cached",
        "exclusive",
        "shared",
        "takers",
    )

    def __init__(self, id: str, life: SessionLife, fence: int, now: float, exclusive: bool) -> None:
        self._id = id
        self._fence = fence
        self._acquired_at = now
        self.exclusive = exclusive
        self.cached = False  # whether it may answer other calls, as the strategy said
        self.takers = 0  # calls of the core that it answered, less those whose callers had gone (rule 7)
        self.shared = False  # whether a call on the fast path has it: then it is never given back untaken
        self._life = life
        self._reason: str | None = None
        self._owner: object = None

    def keep(self, owner: object) -> None:
        """For the faces: what must not be thrown away while this lease is held and the core, or a user, has it."""
        self._owner = owner

    @property
    def id(self) -> str:
        """The lock's id, as text."""
        return self._id

    @property
    def key(self) -> str:
        """Its key in Consul's KV store."""
        id = self._id
        return id[1:] if id[0] == PLACE else lock_key(self._life.name, id)

    @property
    def session_id(self) -> str:
        """The session that holds it."""
        return self._life.session_id

    @property
    def fence(self) -> int:
        """The key's ModifyIndex of the transaction that took the lock.

        It rises with every tenure of the key, also after the key was deleted. So the resource that the lock protects
        can refuse a holder that is late (docs/safety.rst).
        """
        return self._fence

    @property
    def acquired_at(self) -> float:
        """When it was granted, in seconds on the Locker's clock. `acquired_time` is a date."""
        return self._acquired_at

    @property
    def acquired_time(self) -> datetime:
        """When it was granted, as a date in UTC, computed from the machine's date and how long ago it was."""
        from datetime import datetime, timedelta, timezone  # here: an import of the library need not pay for it

        return datetime.now(timezone.utc) - timedelta(seconds=self._life.clock() - self._acquired_at)

    @property
    def valid(self) -> bool:
        """Whether the lock may still be relied on, as far as this process can know.

        False from the moment a release is submitted, a loss is noticed, or the session's deadline (start
        of the last successful renewal + ttl) passes.
        """
        return self._reason is None and self._life.clock() < self._life.deadline

    @property
    def is_place(self) -> bool:
        """For the core: whether it is no lock's lease, but that of a place in the queue of one (`Slot.is_place`)."""
        return self._id[0] == PLACE

    @property
    def live(self) -> bool:
        """For the core: not ended yet, whatever the clock says."""
        return self._reason is None

    @property
    def remaining(self) -> float:
        """Seconds until the lease would end if the session were never renewed again; 0.0 once it is over."""
        if self._reason is not None:
            return 0.0
        return max(0.0, self._life.deadline - self._life.clock())

    @property
    def reason(self) -> str | None:
        """Why the lease ended ("released", "session destroyed", …); None while it goes on."""
        if self._reason is None and self._life.clock() >= self._life.deadline:
            return "deadline passed"
        return self._reason

    def check(self) -> None:
        """Raise unless the lease is valid: for use right before each step that the lock protects.

        Raises:
            LockLost: the lease is over.
        """
        if self.reason is not None:
            raise self.loss()

    def loss(self) -> LockLost:
        """The error that says that this lease is over."""
        return LockLost(self._id, self.key, self.reason or "lost", self._fence)

    def guard(self) -> list[dict[str, Any]]:
        """The transaction operations that make a write of one's own in Consul's KV conditional on this lock.

        Returns:
            Two operations in the form that Consul's ``/v1/txn`` takes: check-session and check-index.
        """
        return [
            {"KV": {"Verb": "check-session", "Key": self.key, "Session": self.session_id}},
            {"KV": {"Verb": "check-index", "Key": self.key, "Index": self._fence}},
        ]

    def __repr__(self) -> str:
        state = "valid" if self.valid else (self.reason or "over")
        return f"<{type(self).__name__} {self._id!r} fence={self._fence} {state}>"

    def __copy__(self) -> BaseLease:
        return self

    def __deepcopy__(self, memo: object) -> BaseLease:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a lease cannot be pickled: it is valid only beside the Locker that renews its session; send lease.fence, "
            "lease.guard() or the lock's id instead"
        )

    def end(self, reason: str) -> bool:
        """For the core: the lease is over from now on. Wakes no caller. Returns False when it was over already."""
        if self._reason is not None:
            return False
        self._reason = reason
        self._owner = None
        self._life.claims.pop(self, None)
        return True

    def claim(self) -> bool:
        """Decide, once in the life of the lease: may the fast path use it, or may the core give it back?

        The fast path answers a call without the Locker's mutex, so the core does not count that call. The core, under
        the mutex, gives a lease back when all the calls that it counted have gone. Both claim the lease first. Proof
        that no caller gets a lease that the core gives back as untaken, in any order of events:

        - ``dict.setdefault`` is one atomic step, with and without the GIL: a lease has the hash and the equality of
          ``object``, so no code in Python runs within. While a lease goes on nothing takes out what is there. So of
          the claims of a lease that is not over one succeeds.
        - If it is the fast path's, each later claim of the core fails: the core keeps the lease.
        - If it is the core's, the fast path's fails and ``shared`` is never set: the call goes to the core, which
          answers it under the mutex, after the lease has ended.
        - ``shared`` is set only after a claim of the fast path that succeeded, and never reset: a call that reads True
          needs no claim. A call that reads False too early fails to claim and goes to the core; that costs only time.

        A lease may end for another reason (released, lost) before or after it is claimed. So the fast path checks last
        that the lease is valid, and it does not matter how many claims of one that is over succeed.

        Returns:
            True for the first claim, False for each later one.
        """
        claims, mine = self._life.claims, object()
        first = claims.setdefault(self, mine) is mine
        if self._reason is not None:
            claims.pop(self, None)  # it is over, and `end` may have come before this claim: leave nothing behind
        return first

    @property
    def awaited(self) -> bool:
        """For the core: whether somebody may wait for the end of the lease, so that `wake` must be called."""
        return self in self._life.jobs

    def wake(self) -> None:
        """For the runtime, outside every mutex, once the lease is over: wake the callers that wait for that."""
        raise NotImplementedError  # each face has its own way to wait


def no_context_manager(lease: BaseLease, statement: str) -> str:
    """The message for a ``with`` statement on a lease: the lock would not be released at its end."""
    return (
        f"a lease is no context manager: a lock got by lock() belongs to the Locker, which keeps {lease.id!r} until "
        f"release({lease.id!r}); to have it for the length of a block only, write "
        f"'{statement} locker.hold({lease.id!r}) as lease:'"
    )
