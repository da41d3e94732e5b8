"""Outages of the walk's Consul: for a while it is away, refuses before it does anything, or answers nobody.

They happen in a part of the schedules, decided by a `Random` of their own, so all other schedules stay as they were.
What a request meets is told as the client tells it: `Failed`, with the same attributes of its error.
"""

from __future__ import annotations

from enum import Enum
from random import Random
from typing import TYPE_CHECKING, Any

from consul_locker.core.requests import (
    CreateSession,
    DestroySession,
    Failed,
    RenewSession,
    Request,
    Transact,
    Verb,
)
from consul_locker.errors import AccessDenied, ConsulLockerError, ConsulUnavailable

from .outage_rules import PATIENT

if TYPE_CHECKING:
    from .player import Player
    from .traffic import Traffic

#: In this part of the schedules there are outages.
PART = 0.25
#: How often one begins there, at each event.
BEGINS = 0.06
#: How long it lasts, in seconds, if the calm does not end it; one is longer than a session lives.
LENGTHS = (0.3, 2.0, 8.0, 25.0, 45.0)
#: How long a Locker's calls ride over one, in seconds.
TIMEOUTS = (0.0, 5.0, 20.0, 20.0, None)
#: How much longer the time between two events is meanwhile, in seconds at most, so that long outages are lived through.
SLOWER = 2.0
#: How soon a refusal comes at the latest, in seconds.
QUICK = 0.02
#: The parts of the requests that a rate limit refuses.
SHARES = (0.6, 0.9)


class Kind(Enum):
    """What an outage is like."""

    #: Connections are refused, those that are there break.
    AWAY = "away"
    #: There is no leader: answered so, at once or after a while; nothing was done.
    LEADERLESS = "leaderless"
    #: Over a rate limit: most requests are refused before they are done.
    LIMITED = "limited"
    #: The same, for renewals alone.
    RENEWALS_LIMITED = "renewals limited"
    #: Nobody is answered; requests are done at once, later, or never.
    MUTE = "mute"
    #: No outage: the token lacks all rights. What is refused so must be told at once.
    DENIED = "denied"


class Outages:
    """The outages of one schedule.

    Attributes:
        meant: whether there may be any.
        kind: of the one under way, or None.
    """

    def __init__(self, around: Traffic, seed: int | str) -> None:
        self._around = around
        self._rng = Random(f"{seed} outages")
        self.meant = self._rng.random() < PART
        self.kind: Kind | None = None
        self._number = 0
        self._share = 0.0

    def options(self) -> dict[str, Any]:
        """Options of a Locker that are about outages, where there are some."""
        return {"outage_timeout": self._rng.choice(TIMEOUTS)} if PATIENT and self.meant else {}

    def pass_time(self) -> float:
        """Before an event of a user: perhaps one begins. Returns how much later the event comes, in seconds."""
        if not self.meant:
            return 0.0
        if self.kind is not None:
            return self._rng.random() * SLOWER
        if self._rng.random() < BEGINS:
            self._begin(self._rng.choice([*Kind, Kind.MUTE]), self._rng.choice(LENGTHS))
        return 0.0

    def _begin(self, kind: Kind, seconds: float) -> None:
        around = self._around
        around.log.append(f"{around.now:.3f} {kind.value} for {seconds:g} s")
        self.kind = kind
        self._number += 1
        self._share = self._rng.choice(SHARES)
        number = self._number
        around.at(around.now + seconds, lambda: self.end(number))
        if kind in (Kind.AWAY, Kind.MUTE):
            around.break_watches(self._rng)

    def end(self, number: int | None = None) -> None:
        """Consul is there again: after the outage of that number, or after any."""
        if number in (None, self._number):
            self.kind = None

    def meets(self, player: Player, request: Request, limit: float) -> bool:
        """Decide over a request that goes out now. False: it is served as ever."""
        rng, now, kind = self._rng, self._around.now, self.kind
        if kind is Kind.LIMITED and rng.random() > self._share:
            return False
        if kind is Kind.RENEWALS_LIMITED and (not isinstance(request, RenewSession) or rng.random() > self._share):
            return False
        soon = now + rng.random() * QUICK
        if kind is Kind.AWAY:
            self._fails(player, request, soon, _unavailable("no connection"))
        elif kind is Kind.LEADERLESS:
            slow = now + rng.random() * limit
            self._fails(player, request, rng.choice([soon, slow]), _unavailable("No cluster leader", 500))
        elif kind is Kind.DENIED:
            self._fails(player, request, soon, AccessDenied("transaction", 403, "Permission denied"))
        elif kind is Kind.MUTE:
            fails = now + rng.choice([rng.random(), 1.0]) * limit  # the connection breaks, or its time is over
            self._around.perhaps_commit(request, rng.choice([None, soon, fails + rng.random() * self._around.latest]))
            self._fails(player, request, fails, ConsulUnavailable("no answer", sent=True, outage=True), sent=True)
        else:
            self._fails(player, request, soon, _unavailable("rate limit exceeded", 503 if _writes(request) else 429))
        return True

    def _fails(
        self, player: Player, request: Request, when: float, error: ConsulLockerError, sent: bool = False
    ) -> None:
        self._around.fails(player, request, when, Failed(error, sent))


def _unavailable(words: str, status: int | None = None) -> ConsulUnavailable:
    return ConsulUnavailable(words, status=status, sent=False, outage=True)


def _writes(request: Request) -> bool:
    if isinstance(request, Transact):
        return any(op.verb in (Verb.LOCK, Verb.UNLOCK, Verb.DELETE, Verb.DELETE_CAS) for op in request.operations)
    return isinstance(request, (CreateSession, DestroySession, RenewSession))
