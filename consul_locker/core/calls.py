"""The calls of users, as the core sees them: a class for each kind of call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from math import inf
from typing import Any, ClassVar

from ..errors import ConsulLockerError
from ..lease import BaseLease

__all__ = [
    "Call",
    "Guarded",
    "Hold",
    "HoldMany",
    "Holder",
    "Info",
    "LeaveHold",
    "Lock",
    "LockCall",
    "LockMany",
    "ManyReleases",
    "Obstacle",
    "Question",
    "ReadSessionInfo",
    "Reboot",
    "Release",
    "ReleaseAll",
    "ReleaseCall",
    "Ride",
    "Start",
    "Stop",
    "TakePlaces",
    "Wait",
    "Waiters",
]


class Obstacle(Enum):
    """Why a call cannot have its lock now. The values are those of `AlreadyLocked.reason`, but for `FAILED`."""

    HELD = "held"
    LOCK_DELAY = "lock-delay"
    LOCAL = "local"
    FAILED = "failed"  #: the last attempt had no usable answer


class Wait:
    """What only a call has that had to wait for a lock.

    Attributes:
        until: when its ``wait`` is over, on the clock of ``now``; infinite for never.
        obstacle: why it waits.
        error: the failure of its last attempt while it waited.
        former_until: until when it waits for the end of a former session of its Locker; None if it never had to.
    """

    __slots__ = ("error", "former_until", "obstacle", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.obstacle = Obstacle.HELD
        self.error: ConsulLockerError | None = None
        self.former_until: float | None = None


class Ride:
    """What only a call has that meets an outage of Consul (core/outage.py).

    Attributes:
        since: when its clock began, on the clock of ``now``.
        sessions: how many attempts at a session had failed by then.
        limit: when its time is over; None until that is known, infinite for never.
        attempts: its attempts that failed.
        cause: the failure of the last one.
        sent: whether one of them may have taken effect.
    """

    __slots__ = ("attempts", "cause", "limit", "sent", "sessions", "since")

    def __init__(self, since: float, sessions: int) -> None:
        self.since = since
        self.sessions = sessions
        self.limit: float | None = None
        self.attempts = 0
        self.cause: ConsulLockerError | None = None
        self.sent = False


class Call:
    """One call of a user, from its submission until it is settled.

    Attributes:
        verb: its name, for messages.
        ids: the ids concerned, checked and as text.
        timeout: the limit on the whole call, in seconds; None for none.
        waiter: data of the runtime, which it needs to answer the call; the core does not use it.
        settled: whether it was answered already. The core sets it, and never answers twice.
        order: its number in the order of arrival, within its Locker.
        deadline: when its ``timeout`` is over, on the clock of ``now``; None for never.
        waiting: what a call has that had to wait for a lock; None for all others.
        riding: what a call has that meets an outage of Consul, until Consul answers it; None for all others.
    """

    __slots__ = ("deadline", "order", "riding", "settled", "timeout", "waiter")

    verb: ClassVar[str]
    ids: tuple[str, ...] = ()
    waiting: Wait | None = None

    def __init__(self, *, timeout: float | None = None, waiter: Any = None) -> None:
        self.timeout = timeout
        self.waiter = waiter
        self.settled = False
        self.order = 0
        self.deadline: float | None = None
        self.riding: Ride | None = None

    @property
    def limit(self) -> float:
        """Until when it waits at most, for whatever reason, on the clock of ``now``; infinite for ever."""
        until = self.waiting.until if self.waiting is not None else inf
        return until if self.deadline is None else min(self.deadline, until)

    def __repr__(self) -> str:
        return f"<Call {self.verb} {' '.join(self.ids)}{' settled' if self.settled else ''}>"


# -------------------------------------------------------------------------------------------------- locks


class LockCall(Call):
    """A call that wants locks, all or none: the machine's input ``lock``.

    Attributes:
        exclusive: whether it holds them, so that no other call of its Locker has them meanwhile.
        is_set: whether it is answered with a list of leases.
        wait: how long to wait for another holder, in seconds; None for ever.
        leases: the leases that it was answered with.
    """

    __slots__ = ("ids", "leases", "wait", "waiting")

    exclusive: ClassVar[bool] = False
    is_set: ClassVar[bool] = False

    def __init__(
        self, ids: Iterable[str], *, wait: float | None = 0.0, timeout: float | None = None, waiter: Any = None
    ) -> None:
        super().__init__(timeout=timeout, waiter=waiter)
        self.ids = tuple(ids)
        self.wait = wait
        self.leases: tuple[BaseLease, ...] = ()
        self.waiting: Wait | None = None

    @property
    def id(self) -> str:
        """The id of a call that is about one lock."""
        return self.ids[0]


class Lock(LockCall):
    """`Locker.lock`."""

    __slots__ = ()
    verb = "lock"


class LockMany(LockCall):
    """`Locker.lock_many`."""

    __slots__ = ()
    verb = "lock_many"
    is_set = True


class Hold(LockCall):
    """`Locker.hold`."""

    __slots__ = ()
    verb = "hold"
    exclusive = True


class HoldMany(LockCall):
    """`Locker.hold_many`."""

    __slots__ = ()
    verb = "hold_many"
    exclusive = True
    is_set = True


class TakePlaces(LockCall):
    """The core's own: it stands for a waiting call while its places in queues are taken (core/fair_line.py).

    Attributes:
        call: the waiting call.
    """

    __slots__ = ("call",)
    verb = "queue"

    def __init__(self, call: LockCall) -> None:
        super().__init__(call.ids, wait=call.wait, waiter=call.waiter)
        self.call = call
        self.deadline = call.deadline
        self.waiting = call.waiting


# ----------------------------------------------------------------------------------------------- releases


class ReleaseCall(Call):
    """A call that gives locks back: the machine's input ``release``."""

    __slots__ = ()


class Release(ReleaseCall):
    """`Locker.release`. Answered with whether this Locker had the lock."""

    __slots__ = ("ids",)
    verb = "release"

    def __init__(self, id: str, *, timeout: float | None = None, waiter: Any = None) -> None:
        super().__init__(timeout=timeout, waiter=waiter)
        self.ids = (id,)

    @property
    def id(self) -> str:
        """The id of the lock."""
        return self.ids[0]


class ManyReleases(ReleaseCall):
    """A call that waits for several releases. Answered with how many locks were released.

    Attributes:
        left: how many releases were not answered yet.
        released: how many locks were released.
        error: the first failure.
    """

    __slots__ = ("error", "left", "released")

    def __init__(self, *, timeout: float | None = None, waiter: Any = None) -> None:
        super().__init__(timeout=timeout, waiter=waiter)
        self.left = 0
        self.released = 0
        self.error: ConsulLockerError | None = None


class ReleaseAll(ManyReleases):
    """`Locker.release_all`: every lock but the holds."""

    __slots__ = ()
    verb = "release_all"


class LeaveHold(ManyReleases):
    """The end of a hold. It raises nothing: releases that fail go on in the background (rule 9).

    Attributes:
        leases: of the hold.
    """

    __slots__ = ("ids", "leases")
    verb = "leave"

    def __init__(self, leases: Iterable[BaseLease], *, waiter: Any = None) -> None:
        super().__init__(waiter=waiter)
        self.leases = tuple(leases)
        self.ids = tuple(lease.id for lease in self.leases)


# ---------------------------------------------------------------------------------------------- the session


class Start(Call):
    """`Locker.start`."""

    __slots__ = ()
    verb = "start"


class Stop(Call):
    """`Locker.stop`."""

    __slots__ = ()
    verb = "stop"


class Reboot(Call):
    """`Locker.reboot`."""

    __slots__ = ()
    verb = "reboot"


# ------------------------------------------------------------------------------------------------ questions


class Question(Call):
    """A call that is no input of the machine: it asks Consul something, in every state."""

    __slots__ = ()


class Info(Question):
    """`Locker.info`: the key of a lock as Consul has it, or None."""

    __slots__ = ("id", "ids")
    verb = "info"

    def __init__(self, id: str, *, timeout: float | None = None, waiter: Any = None) -> None:
        super().__init__(timeout=timeout, waiter=waiter)
        self.id = id
        self.ids = (id,)


class Holder(Info):
    """`Locker.holder`: the same with its session; None if no session has the lock."""

    __slots__ = ()
    verb = "holder"


class Waiters(Info):
    """`Locker.waiters`: the places of those who wait for a lock, in their order."""

    __slots__ = ()
    verb = "waiters"


class ReadSessionInfo(Question):
    """`Locker.session_info`. ``session_id`` is None if there is no session to read."""

    __slots__ = ("session_id",)
    verb = "session_info"

    def __init__(self, session_id: str | None, *, timeout: float | None = None, waiter: Any = None) -> None:
        super().__init__(timeout=timeout, waiter=waiter)
        self.session_id = session_id


class Guarded(Question):
    """`Locker.guarded`.

    Attributes:
        lease: whose guard the operations have.
        operations: the guard's, and then the user's own, as Consul's JSON.
    """

    __slots__ = ("ids", "lease", "operations")
    verb = "guarded"

    def __init__(
        self,
        lease: BaseLease,
        operations: Iterable[Mapping[str, Any]],
        *,
        timeout: float | None = None,
        waiter: Any = None,
    ) -> None:
        super().__init__(timeout=timeout, waiter=waiter)
        self.lease = lease
        self.operations = tuple(operations)
        self.ids = (lease.id,)
