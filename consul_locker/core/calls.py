"""A call of a user, as the core sees it."""

from __future__ import annotations

from typing import Any

from ..errors import ConsulLockerError
from ..lease import BaseLease

__all__ = ["LOCKS", "QUESTIONS", "RELEASES", "Call"]

#: The verbs of the calls that are the input ``lock`` of the machine.
LOCKS = frozenset(("lock", "lock_many", "hold", "hold_many"))
#: The verbs of the calls that are its input ``release``.
RELEASES = frozenset(("release", "release_all", "leave"))
#: The verbs of the calls that are no input: questions to Consul, sent in every state.
QUESTIONS = frozenset(("info", "holder", "session_info", "guarded"))


class Call:
    """One call of a user, from its submission until it is settled.

    Attributes:
        verb: ``lock``, ``release``, ``lock_many``, ``hold``, ``hold_many``, ``leave``, ``release_all``, ``start``,
            ``stop``, ``reboot``, ``info``, ``holder``, ``session_info``, ``guarded``; and ``queue``, the core's own,
            which stands for a waiting call while its places are being taken (core/fair_line.py).
        ids: the ids concerned, checked and as text.
        wait: how long to wait for another holder, in seconds; None for ever.
        timeout: the limit on the whole call, in seconds; None for none.
        waiter: data of the runtime, which it needs to answer the call; the core does not use it.
        argument: another argument of the verb.
        settled: whether it was answered already. The core sets it, and never answers twice.
        order: its number in the order of arrival, within its Locker.
        deadline: when its ``timeout`` is over, on the clock of ``now``; None for never.
        wait_until: when its ``wait`` is over, on that clock; None until it has to wait for the first time.
        reason: why it waits: ``held``, ``lock-delay``, ``local`` or ``failed``.
        error: the failure of its last attempt while it waited.
        leases: the leases that it was answered with.
        former_until: until when it waits for the end of a former session of its Locker; None if it never had to.
    """

    __slots__ = (
        "argument",
        "deadline",
        "error",
        "former_until",
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
        self.order = 0
        self.deadline: float | None = None
        self.wait_until: float | None = None
        self.reason = ""
        self.leases: tuple[BaseLease, ...] = ()
        self.error: ConsulLockerError | None = None
        self.former_until: float | None = None

    @property
    def id(self) -> str:
        """The id of a call that is about one lock."""
        return self.ids[0]

    def __repr__(self) -> str:
        return f"<Call {self.verb} {' '.join(self.ids)}{' settled' if self.settled else ''}>"
