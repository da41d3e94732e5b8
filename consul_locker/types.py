"""What a user holds: Lease, LockInfo, SessionInfo, and the form of a strategy."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future, TimeoutError as FutureTimeout
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .errors import ConfigurationError, LockLost

__all__ = ["BaseLease", "Lease", "LockInfo", "SessionInfo", "SessionLife", "Strategy", "observing", "seconds"]

#: Has ``here`` in the threads that call observers, where nothing may wait (`consul_locker.delivery`).
observing = threading.local()


def seconds(option: str, value: float | None) -> float | None:
    """A time limit as an argument: None, or seconds from nought on.

    Raises:
        ConfigurationError: it is anything else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value) or value < 0:
        raise ConfigurationError(option, value, "seconds, 0 or more, or None")
    return None if value == math.inf else float(value)


class SessionLife:
    """How long one session can be relied on; shared by all its leases.

    Attributes:
        generation: the number of the session within its Locker; rises with every attempt.
        session_id: Consul's id of it.
        deadline: the moment, on the Locker's clock, after which nothing may rely on it (rule 3);
            infinite for a session whose life is not watched.
    """

    __slots__ = ("deadline", "generation", "session_id")

    def __init__(self, generation: int, session_id: str, deadline: float) -> None:
        self.generation = generation
        self.session_id = session_id
        self.deadline = deadline


class BaseLease:
    """One tenure of one lock: from a grant to its release or loss.

    Attributes:
        id: the lock's id, as text.
        key: its key in Consul's KV store.
        session_id: the session that holds it.
        fence: the key's ModifyIndex of the acquiring transaction. It rises with every tenure of the key,
            also after the key was deleted, so whatever the lock protects can refuse a holder that is
            late (docs/safety.rst).
        acquired_at: when it was granted, in seconds on the Locker's clock.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_life",
        "_reason",
        "acquired_at",
        "cached",
        "exclusive",
        "fence",
        "id",
        "key",
        "session_id",
        "takers",
    )

    def __init__(
        self, id: str, key: str, life: SessionLife, fence: int, now: float, clock: Callable[[], float], exclusive: bool
    ) -> None:
        self.id = id
        self.key = key
        self.session_id = life.session_id
        self.fence = fence
        self.acquired_at = now
        self.exclusive = exclusive
        self.cached = False  # whether it may answer other calls, as the strategy said
        self.takers = 0  # calls that it answered; one whose caller is gone gives its share back (rule 7)
        self._life = life
        self._clock = clock
        self._reason: str | None = None

    @property
    def valid(self) -> bool:
        """Whether the lock may still be relied on, as far as this process can know.

        False from the moment a release is submitted, a loss is noticed, or the session's deadline (start
        of the last successful renewal + ttl) passes.
        """
        return self._reason is None and self._clock() < self._life.deadline

    @property
    def live(self) -> bool:
        """For the core: not ended yet, whatever the clock says."""
        return self._reason is None

    @property
    def remaining(self) -> float:
        """Seconds until the lease would end if the session were never renewed again; 0.0 once it is over."""
        if self._reason is not None:
            return 0.0
        return max(0.0, self._life.deadline - self._clock())

    @property
    def reason(self) -> str | None:
        """Why the lease ended ("released", "session destroyed", …); None while it goes on."""
        if self._reason is None and self._clock() >= self._life.deadline:
            return "deadline passed"
        return self._reason

    def check(self) -> None:
        """Raise unless the lease is valid: for use right before each step that the lock protects.

        Raises:
            LockLost: the lease is over.
        """
        reason = self.reason
        if reason is not None:
            raise LockLost(self.id, self.key, reason, self.fence)

    def guard(self) -> list[dict[str, Any]]:
        """The transaction operations that make a write of one's own in Consul's KV conditional on this lock.

        Returns:
            Two operations in the form that Consul's ``/v1/txn`` takes: check-session and check-index.
        """
        return [
            {"KV": {"Verb": "check-session", "Key": self.key, "Session": self.session_id}},
            {"KV": {"Verb": "check-index", "Key": self.key, "Index": self.fence}},
        ]

    def __repr__(self) -> str:
        state = "valid" if self.valid else (self.reason or "over")
        return f"<{type(self).__name__} {self.id!r} fence={self.fence} {state}>"

    def end(self, reason: str) -> bool:
        """For the core: the lease is over from now on. Wakes nobody. Returns False when it was over already."""
        if self._reason is not None:
            return False
        self._reason = reason
        return True

    def wake(self) -> None:
        """For the runtime, outside every mutex: whoever waits for the end of the lease goes on."""
        raise NotImplementedError  # each face has its own way to wait


class Lease(BaseLease):
    """A lease of the threaded Locker. See `BaseLease`."""

    __slots__ = ("_guard", "_waiters")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._guard = threading.Lock()
        self._waiters: list[Future[str]] = []

    def wait_lost(self, timeout: float | None = None) -> str | None:
        """Wait until the lease is over.

        Args:
            timeout: how long to wait, in seconds; None waits as long as it takes.

        Returns:
            The reason it ended, or None when the time was over first.

        Raises:
            ConfigurationError: ``timeout`` cannot be meant.
            RuntimeError: the lease is not over yet, and this is an observer.
        """
        limit = seconds("timeout", timeout)
        if self._reason is not None:
            return self._reason
        if hasattr(observing, "here"):
            raise RuntimeError("this call would wait inside an observer of a signal; let one of lock_lost hear of it")
        waiter: Future[str] = Future()
        with self._guard:
            if self._reason is not None:
                return self._reason
            self._waiters.append(waiter)
        try:
            return waiter.result(limit)
        except FutureTimeout:
            return self.reason
        finally:
            with self._guard:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def wake(self) -> None:
        """For the runtime: set everyone going who waits in `wait_lost`."""
        with self._guard:
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.set_result(self._reason or "over")


@dataclass(frozen=True)
class SessionInfo:
    """A session as Consul has it.

    Attributes:
        id: its id.
        name: its name; for a session of a Locker, the Locker's.
        node: the node of the agent it was created through.
        ttl: in seconds, or None for a session without one.
        lock_delay: in seconds.
        behavior: what its end does to its keys, ``"release"`` or ``"delete"``.
        checks: the health checks that end it when they fail.
        create_index: Consul's index of its creation.
    """

    id: str
    name: str
    node: str
    ttl: float | None
    lock_delay: float
    behavior: str
    checks: tuple[str, ...]
    create_index: int


@dataclass(frozen=True)
class LockInfo:
    """The key of a lock as Consul has it.

    Attributes:
        id: the lock's id.
        key: its key.
        session_id: the session that holds it, or None when it is free.
        value: what its holder wrote, decoded from JSON; None when it is empty, the raw text when it is no JSON.
        fence: its ModifyIndex.
        lock_index: how often it was acquired since it was created.
        flags: Consul's flags of the key.
        session: the holder's `SessionInfo`, where it was read; else None.
    """

    id: str
    key: str
    session_id: str | None
    value: Any
    fence: int
    lock_index: int
    flags: int = 0
    session: SessionInfo | None = field(default=None)

    def with_session(self, session: SessionInfo | None) -> LockInfo:
        """The same, with the holder's session."""
        return replace(self, session=session)

    def described(self) -> str:
        """The holder in words, for messages: process and host where its value tells them."""
        parts = []
        if isinstance(self.value, Mapping):
            if "pid" in self.value:
                parts.append(f"process {self.value['pid']}")
            if "host" in self.value:
                parts.append(f"on {self.value['host']}")
        who = " ".join(parts) or "another session"
        return f"{who} (session {self.session_id})" if self.session_id else who


class Strategy(Protocol):
    """What a Locker remembers of its grants; `consul_locker.PermanentStrategy` says what its methods must not do."""

    @property
    def shares_in_flight(self) -> bool:
        """Whether callers who ask while a request is in flight share its answer."""
        ...

    def keeps(self, lease: BaseLease) -> bool:
        """Whether a granted lease is remembered at all."""
        ...

    def serves(self, lease: BaseLease, now: float) -> bool:
        """Whether a remembered lease answers a call made at ``now``, in seconds on the Locker's clock."""
        ...
