"""What must be true of a Locker in an outage of Consul: one `OutageRules` watches over each `Player`.

Some of it is promised by the option ``outage_timeout`` only, and looked at once Lockers have it (`PATIENT`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeGuard

from consul_locker.config.options import LockerOptions
from consul_locker.core.calls import Call, Guarded, LeaveHold, LockCall, ManyReleases, Reboot, Start, Stop
from consul_locker.core.requests import (
    Committed,
    CreateSession,
    Failed,
    KeysRead,
    Operation,
    Outcome,
    RawTransact,
    RefusedWhole,
    Renewed,
    RenewSession,
    Request,
    RolledBack,
    SessionRead,
    Transact,
    Verb,
)
from consul_locker.errors import AccessDenied, ConsulUnavailable, LockTimeout
from consul_locker.keys import lock_key_of

from ..told import purpose_of
from .around import Violation

if TYPE_CHECKING:
    from .player import Player

#: Whether Lockers have the option ``outage_timeout``.
PATIENT = any(field.name == "outage_timeout" for field in fields(LockerOptions))
#: A renewal begins when this part of the TTL has passed since the last one began.
RENEW_AFTER = 1 / 3
#: One that failed is tried again after this part of the TTL.
RENEW_AGAIN = 1 / 30
#: One that was refused before it was done is tried again after so long, in seconds.
RENEW_REFUSED = 0.3
#: What a process that stood still may take besides, in seconds.
LATE = 0.02
#: The longest pause between two attempts in an outage, in seconds.
PAUSE = 2.0


def outage_timeout(options: LockerOptions) -> float | None:
    """The option, where there is one."""
    return getattr(options, "outage_timeout", None)


def _refused_before(outcome: Outcome) -> bool:
    """Whether an outage refused the request before it was done; a right that is missing is no outage."""
    if not isinstance(outcome, Failed) or outcome.sent:
        return False
    return isinstance(outcome.error, ConsulUnavailable) and outcome.error.outage


def _commits(request: Request) -> TypeGuard[Transact]:
    """Whether it is a group commit."""
    return isinstance(request, Transact) and purpose_of(request) == "commit"


def _wait(call: Call) -> float | None:
    """How long it waits for another holder."""
    return call.wait if isinstance(call, LockCall) else 0.0


@dataclass
class Attempt:
    """A lock that was asked for, by its value, which has the number of the tenure.

    Attributes:
        key: of the lock.
        session: that asks.
        since: when it was sent first, in the order of all that is sent and answered.
        unanswered: since when an attempt at it is without an answer for ever, in that order; None as long as none is.
        may_hold: whether the session held the key then, or may have, as the Locker knew.
    """

    key: str
    session: str | None
    since: int
    may_hold: bool
    unanswered: int | None = None


class OutageRules:
    """The rules, for one Locker.

    Args:
        player: whose.
        limit: on a request, in seconds.
    """

    def __init__(self, player: Player, limit: float) -> None:
        self._player = player
        self._limit = limit
        self._count = 0
        self._guarding: dict[int, Guarded] = {}  # by their operations, which are sent as they are
        self._guarded: set[Call] = set()  # sent, and not refused before anything was done
        self._attempts: dict[bytes, Attempt] = {}
        self._kept: dict[tuple[Call, str], bytes] = {}  # the values of calls' attempts that went unanswered
        self._unsure: dict[str, int] = {}  # key -> when a release of it was last left without an answer
        self._session = ""  # the session in use
        self._renewing: Request | None = None  # the renewal of it that is under way
        self._due = 0.0  # when the next renewal must have begun
        self._arrived: dict[Call, float] = {}
        self._refused: list[Call] = []  # calls that the step under way must refuse for want of a right
        self._heard = 0.0  # when Consul answered anything but a renewal last

    def _violated(self, invariant: str, text: str) -> None:
        raise Violation(invariant, text)

    # ----------------------------------------------------------------------------- what is sent and answered

    def asked(self, request: Request) -> None:
        """A request goes out."""
        self._count += 1
        if isinstance(request, RenewSession):
            self._renewal_begins(request)
        elif isinstance(request, RawTransact):
            call = self._guarding[id(request.operations)]
            if call in self._guarded or call.settled:
                self._violated("a guarded that may have been done is not sent again", f"{call}")
            self._guarded.add(call)
        elif _commits(request):
            for op in request.operations:
                if op.verb is Verb.LOCK and not lock_key_of(op.key):
                    self._lock_asked(request, op)

    def answered(self, request: Request, outcome: Outcome) -> None:
        """A request was answered, or failed; before the core hears of it."""
        self._count += 1
        failed = isinstance(outcome, Failed)
        sent = isinstance(outcome, Failed) and outcome.sent
        denied = isinstance(outcome, Failed) and isinstance(outcome.error, AccessDenied)
        self._refused = self._right_missing(request) if denied else []  # else it may be of a step that was broken off
        if isinstance(request, RenewSession):
            self._renewal_ends(request, outcome)
        elif isinstance(outcome, (Committed, RolledBack, RefusedWhole, KeysRead, SessionRead)):
            self._heard = self._player.around.now
        if isinstance(request, RawTransact) and failed and not sent:
            self._guarded.discard(self._guarding[id(request.operations)])
        if not _commits(request):
            return
        for op in request.operations:
            if op.verb in (Verb.UNLOCK, Verb.DELETE_CAS) and sent:
                self._unsure[op.key] = self._count
            elif op.verb is Verb.LOCK and not lock_key_of(op.key) and op.value is not None and sent:
                attempt = self._attempts[op.value]
                attempt.unanswered = attempt.unanswered or self._count
                for call in request.calls:
                    self._kept[call, op.key] = op.value

    # ---------------------------------------------------------------------------------- numbers of tenures

    def _lock_asked(self, request: Transact, op: Operation) -> None:
        assert op.value is not None
        if op.value not in self._attempts:
            slot = self._player.core.ledger.slots.get(op.key.split("/")[1])
            # A lease that has ended is still held in Consul while its release waits behind this lock.
            may_hold = slot is not None and (slot.leftover or slot.lease is not None)
            self._attempts[op.value] = Attempt(op.key, op.session, self._count, may_hold)
        for call in request.calls:
            before = self._kept.get((call, op.key))
            if not (PATIENT or _wait(call) == 0):
                continue  # it is one attempt after another then
            if before is None or before == op.value or op.key.split("/")[1] not in call.ids:
                continue
            attempt = self._attempts[before]
            held = self._attempts[op.value].may_hold  # then the number is a new one (rule 4)
            if not held and attempt.session == op.session and self._unsure.get(op.key, 0) < attempt.since:
                self._violated("a lock that is asked for again keeps its number", f"{call}: {before!r}, {op.value!r}")

    def overwritten(self, key: str, present: bytes | None, copy: bytes | None) -> None:
        """A copy of a lock changes what an attempt of the same session has locked."""
        late, own = self._attempts.get(copy or b""), self._attempts.get(present or b"")
        if not PATIENT or late is None or own is None or late.unanswered is None or own.may_hold:
            return
        if late.since < late.unanswered < own.since and not late.since < self._unsure.get(key, 0):
            self._violated("a late copy changes nothing under a new tenure", f"{copy!r} over {present!r}")

    # ----------------------------------------------------------------------------------------- renewals

    def _renewal_begins(self, request: RenewSession) -> None:
        if request.session_id == self._session:
            self._look_at_renewals()
            self._renewing = request

    def _renewal_ends(self, request: RenewSession, outcome: Outcome) -> None:
        ttl = self._player.options.ttl
        if request is not self._renewing or ttl is None:
            return
        now, self._renewing = self._player.around.now, None
        if isinstance(outcome, Renewed):
            self._due = max(now, self._player.sent_at[request] + ttl * RENEW_AFTER)
        elif PATIENT and _refused_before(outcome):
            self._due = now + RENEW_REFUSED
        else:
            self._due = now + ttl * RENEW_AGAIN

    def _look_at_renewals(self) -> None:
        around = self._player.around
        if self._player.options.ttl is None:
            return  # such a session is read instead
        if self._due + LATE < around.now and around.awake(self._player) + LATE < around.now:
            late = around.now - self._due
            self._violated("nothing holds up renewals", f"{self._session} of {self._player.number}: {late:.3f} s late")

    def session_ends(self, session_id: str, reason: str) -> None:
        """The end of a session is told."""
        if reason == "deadline passed" and session_id == self._session and not self._renewing:
            self._look_at_renewals()

    # -------------------------------------------------------------------------------------------- calls

    def stepped(self, request: Request, outcome: Outcome) -> None:
        """The step on an answer is over."""
        player = self._player
        life, ttl = player.core.session.life, player.options.ttl
        if life is not None and life.session_id != self._session and ttl is not None:
            self._session, self._renewing = life.session_id, None
            self._due = player.trust[life.session_id] - ttl * (1 - RENEW_AFTER)
        refused, self._refused = self._refused, []
        for call in refused:
            became = player.failed.get(call)  # a release of nothing may be answered
            if call in player.open or (became is not None and not isinstance(became, (AccessDenied, LockTimeout))):
                self._violated("a right that is missing is told at once", f"{call} of {player.number}: {became!r}")

    def _right_missing(self, request: Request) -> list[Call]:
        """The calls that must be told so at once."""
        player = self._player
        session = player.core.session
        if _commits(request) and request.generation == session.generation:
            # Leaving a hold raises nothing of that kind; who releases all is answered when all is.
            told = [call for call in request.calls if not isinstance(call, ManyReleases)]
            return [call for call in told if _wait(call) == 0 and call in player.open]
        if isinstance(request, CreateSession) and request.generation == session.generation and session.life is None:
            deferred = [queued.args[0] for queued in player.core.fsm.input_queue if queued.args]
            return [call for call in deferred if call in player.open and not isinstance(call, LeaveHold)]
        return []

    def arrived(self, call: Call) -> None:
        """A user calls."""
        self._arrived[call] = self._player.around.now
        if isinstance(call, Guarded):
            self._guarding[id(call.operations)] = call

    def look_at_calls(self) -> None:
        """No call lasts longer than ``outage_timeout`` and its request's limit, and its ``wait``."""
        player, around = self._player, self._player.around
        most = outage_timeout(player.options)
        if not most:  # None: for ever; 0: nothing is repeated
            return
        # The attempt under way may be another call's, and the pause after it; then comes its own.
        allowed = most + 2 * self._limit + 2 * PAUSE
        for call in player.open:
            began = max(self._arrived[call], self._heard, around.awake(player))
            wait = _wait(call)
            waits = isinstance(call, (Start, Stop, Reboot)) or wait is None
            if not waits and around.now > began + allowed + (wait or 0.0):
                lasts = around.now - began
                self._violated("an outage ends a call in its time", f"{call} of {player.number}: {lasts:.1f} s")
