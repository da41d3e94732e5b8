"""The life of a Locker's session: generations, renewal, the deadline, and the end.

docs/safety.rst has the rules (1 to 3). The deadline counts from the *start* of the last successful renewal. Until it
passes, a failed renewal means "unknown", not "lost". The inquiry (gone.py) finds out whether a session is gone.

A session of another datacenter needs a node there. The first request has none, since the datacenter may be the agent's
own. If it is refused for its node, the servers there are looked up, and one of them is named.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from ..config.options import LockerOptions
from ..errors import ConsulLockerError, ConsulUnavailable
from ..lease import SessionLife
from ..models import LossReason
from .destroys import Destroys
from .gone import Evidence, Inquiry, Sign
from .outage import Outage, outage_of
from .refusals import lasting, needs_node, no_server
from .requests import (
    CreateAnswer,
    CreateSession,
    Failed,
    FindNode,
    Gone,
    NodesAnswer,
    Outcome,
    ReadSession,
    RenewAnswer,
    Renewed,
    RenewSession,
    SessionAnswer,
    SessionCreated,
    SessionRead,
)
from .session_watch import SessionWatch
from .step import Outbox

__all__ = ["Session", "SessionOwner"]

#: A renewal is due when this part of the TTL has passed since the last one began. Three attempts fit
#: before the deadline; Consul's own tools renew after half the TTL, which leaves one attempt.
RENEW_AFTER = 1 / 3
#: One attempt to renew may take at most this part of the TTL, so that a hanging one leaves time for
#: another on a fresh connection.
RENEW_ATTEMPT = 1 / 6
#: The pause after a failed renewal, as a part of the TTL: no hot loop against an agent that refuses.
RENEW_PAUSE = 1 / 30
#: After a renewal that Consul refused before it did anything (a rate limit, no connection), the next one is tried
#: within this time, in seconds; or within this part of the time left until the deadline, if that is shorter, but not
#: within less than the third. A TTL of 15 s leaves 10 s, so some 140 attempts: with 9 of 10 refused, one session in
#: three million is lost (0.9 ** 140). A refusal costs Consul next to nothing.
RENEW_SOON = 0.3
RENEW_SOON_PART = 1 / 40
RENEW_SOONEST = 0.02
#: A session without a TTL is read this often, in seconds, and trusted for this long after a good read.
READ_EVERY = 5.0
TRUST_AFTER_READ = 15.0


class SessionOwner(Protocol):
    """Who is told what becomes of a session."""

    def session_created(self) -> None:
        """There is a session."""

    def session_failed(self, refused: bool) -> None:
        """The attempt under way failed; ``refused``: for a lasting reason."""

    def session_lost(self, reason: LossReason) -> None:
        """The session in use is gone, or cannot be relied on any more."""

    def renewal_refused(self) -> None:
        """Consul refused a renewal before it did anything: all else of the Locker waits for one that is answered."""

    def renewal_answered(self) -> None:
        """Consul has answered a renewal, or an attempt at a session."""

    def snapshot_restored(self) -> None:
        """There is a sign of a restored snapshot, which may bring back keys of the session in use."""


class Session:
    """The session of a Locker, and the attempts to get one.

    Args:
        options: of the Locker.
        outbox: of the Locker.
        timeout: the limit on one request, in seconds.
        outage: of the Locker; it is told of attempts that fail, and of answers.

    Attributes:
        owner: is told what becomes of the session; set once.
        generation: the number of the attempt under way or in use; answers of older ones change nothing.
        life: the session in use, or None.
        renewed_at: when the last good renewal began, on the clock of the steps; at first the attempt that made it.
        cause: the error of the last failed attempt since there was a session.
        refusal: the lasting reason for which Consul refuses a session (refusals.py); None when time alone may help.
        destroys: the sessions that were given up.
    """

    def __init__(
        self, options: LockerOptions, outbox: Outbox, timeout: float, outage: Outage, clock: Callable[[], float]
    ) -> None:
        self._options = options
        self._clock = clock  # for its leases; the core never reads it
        self._out = outbox
        self._timeout = timeout
        self.owner: SessionOwner
        self._outage = outage
        self.generation = 0
        self.life: SessionLife | None = None
        self.cause: BaseException | None = None
        self.refusal: ConsulLockerError | None = None
        self._ttl = options.ttl
        self._attempt_began = 0.0  # when the attempt under way began
        self._renewing: RenewSession | ReadSession | None = None
        self._renewing_since = 0.0
        self.renewed_at = 0.0
        self._inquiry = Inquiry()
        self._watch = SessionWatch(outbox, lambda: self.read(self._restored), self._restored)
        self._reading: ReadSession | None = None  # the read that the inquiry sent after a 404
        self.destroys = Destroys(outbox, timeout)
        self._found_node: str | None = None  # of another datacenter, where a session was made or is tried
        self._node_searched = False  # whether the attempt under way looked for a node

    def _restored(self) -> None:
        self.owner.snapshot_restored()

    @property
    def current(self) -> SessionLife:
        """The session in use. Only while there is one: in ready, and for answers of its generation."""
        assert self.life is not None
        return self.life

    # ------------------------------------------------------------------------------------ creation

    def create(self) -> None:
        """Begin a new generation: ask Consul for a session."""
        self.generation += 1
        self._node_searched = False
        self._request(self._options.node or self._found_node)

    def _request(self, node: str | None) -> None:
        options = self._options
        self._attempt_began = self._out.now
        request = CreateSession(
            self.generation,
            options.name,
            options.ttl,
            options.lock_delay,
            options.behavior,
            options.session_checks,
            node,
            timeout=self._timeout,
        )
        self._out.ask(request, partial(self.created, self.generation), lasting=True)

    def abandon_attempt(self) -> None:
        """The attempt under way is not wanted any more; a session that it brings will be destroyed."""
        self.generation += 1

    def created(self, generation: int, outcome: CreateAnswer) -> None:
        """An attempt was answered; perhaps one that is not wanted any more."""
        late = generation != self.generation
        if isinstance(outcome, SessionCreated):
            if late:
                self.destroys.add(outcome.session_id)
            else:
                self._created(outcome.session_id)
        elif not late:
            self._found_node = None  # it may be gone, or ill: another one is looked for
            dc = needs_node(self._options, outcome.error)
            if dc is not None and not self._node_searched:
                self._node_searched = True
                find = FindNode(self.generation, dc, timeout=self._timeout)
                self._out.ask(find, partial(self._nodes_found, find), lasting=True)
            else:
                self._failed(outcome)

    def destroy_stray(self, session_id: str) -> None:
        """Consul has made a session that nobody asks for any more: it was asked for by a core before this one, say."""
        if self.life is None or self.life.session_id != session_id:  # it is not the same answer again
            self.destroys.add(session_id)

    def _created(self, session_id: str) -> None:
        deadline = self._attempt_began + self._trust
        if deadline <= self._out.now:  # its deadline has passed already; a next one would end the same way
            self.destroys.add(session_id)
            error = ConsulUnavailable(
                f"Consul created a session, but took longer than the {self._trust:g} s for which it can be trusted",
                operation="session create",
                sent=True,
            )
            self._failed(Failed(error))
            return
        self.life = SessionLife(self.generation, session_id, deadline, self._options.name, self._clock)
        self.destroys.hurry(self._attempt_began)
        self._outage.over()
        self.refusal = self.cause = None
        self.owner.session_created()

    def _nodes_found(self, request: FindNode, outcome: NodesAnswer) -> None:
        """The servers of the datacenter were looked up, for the attempt under way."""
        if request.generation != self.generation:
            return
        if isinstance(outcome, Failed):
            self._failed(outcome)
        elif not outcome.names:
            self._failed(Failed(no_server(request.dc)))
        else:
            # A random one, so that the sessions of many Lockers do not all end with one node.
            self._found_node = outcome.names[int(self._out.random() * len(outcome.names))]
            self._request(self._found_node)

    def _failed(self, failed: Failed) -> None:
        """The attempt under way failed."""
        self.cause = error = failed.error
        self._outage.no_session(error)
        self._hear_outage(self._attempt_began, failed)
        refused = lasting(self._options, error)
        if refused:
            self.refusal = error
        self.owner.session_failed(refused)

    def _hear_outage(self, began: float, outcome: Outcome) -> bool:
        """Note whether Consul has answered a request. Returns whether it has."""
        error = outage_of(outcome)
        if error is None:
            self._outage.over()
        else:
            self._outage.failed(began, error)
        return error is None

    # -------------------------------------------------------------------------------------- renewal

    def begin(self) -> None:
        """The session is in use: keep it alive, and notice its end."""
        self._renewing = self._reading = None
        self._inquiry = Inquiry()
        self.owner.renewal_answered()
        self.renewed_at = self._attempt_began
        self._schedule(self._attempt_began)
        self._set_deadline()
        self._watch.begin(self.current)

    def _schedule(self, since: float) -> None:
        every = READ_EVERY if self._ttl is None else self._ttl * RENEW_AFTER
        self._out.timer(("renew",), since + every, self.renew)

    def _set_deadline(self) -> None:
        # The step that this timer brings about does the rest: each one checks the deadline first.
        self._out.timer(("deadline",), self.current.deadline, lambda: None)

    @property
    def _trust(self) -> float:
        """How long the session can be relied on after a good answer, in seconds."""
        return self._ttl if self._ttl is not None else TRUST_AFTER_READ

    def renew(self, fresh: bool = False) -> None:
        """The renewal is due. A session without a TTL is read instead, unless a read did not find it."""
        if self.life is None or self._renewing is not None:
            return
        self._renewing_since = self._out.now
        if self._ttl is None and self._inquiry.evidence is Evidence.NONE:
            read = ReadSession(self.generation, self.life.session_id, timeout=min(self._timeout, READ_EVERY / 2))
            self._renewing = read
            self._out.ask(read, self._renewed_by_read)
        else:
            attempt = min(self._timeout, self._trust * RENEW_ATTEMPT)
            renewal = RenewSession(self.generation, self.life.session_id, fresh, timeout=attempt)
            self._renewing = renewal
            self._out.ask(renewal, self._renewed)

    def _renewed(self, outcome: RenewAnswer) -> None:
        """A renewal was answered."""
        self._renewing = None
        if isinstance(outcome, Renewed):
            if outcome.ttl is not None and self._ttl is not None:
                self._ttl = outcome.ttl  # the TTL that Consul applies
            self._extend()
        else:
            self._not_renewed(outcome, Sign.RENEWAL_404 if isinstance(outcome, Gone) else Sign.RENEWAL_SILENT)

    def _renewed_by_read(self, outcome: SessionAnswer) -> None:
        """The read in place of a renewal was answered."""
        self._renewing = None
        if not isinstance(outcome, SessionRead):
            self._not_renewed(outcome, Sign.READ_SILENT)
        elif outcome.session is None:
            self._not_renewed(outcome, Sign.UNSEEN)
        else:
            self._extend()

    def _extend(self) -> None:
        self._out.count("renewals")
        self._outage.over()
        self.owner.renewal_answered()
        self.renewed_at = self._renewing_since
        self.current.deadline = self._renewing_since + self._trust
        self._schedule(self._renewing_since)
        self._set_deadline()
        self._hear(Sign.LIVES)

    def _not_renewed(self, outcome: Outcome, sign: Sign) -> None:
        # Renewals go on in any case: the inquiry takes time, and the deadline does not wait for it.
        self._out.count("renewals_failed")
        if self._hear_outage(self._renewing_since, outcome):
            self.owner.renewal_answered()
        refused = isinstance(outcome, Failed) and not outcome.sent and self._outage.since is not None
        if refused:
            self.owner.renewal_refused()
            pause = self._soon()
        else:
            pause = (READ_EVERY if self._ttl is None else self._ttl) * RENEW_PAUSE
        # After a refusal the connection is good, or there is none.
        self._out.timer(("renew", "again"), self._out.now + pause, partial(self.renew, fresh=not refused))
        self._hear(sign)

    def _soon(self) -> float:
        """The pause before the next attempt to renew, in seconds, when Consul refused one before it did anything."""
        left = self.current.deadline - self._out.now
        pause = max(RENEW_SOONEST, min(RENEW_SOON, left * RENEW_SOON_PART))
        return pause * (1.0 - self._out.random() / 2.0)  # jitter: all Lockers of a Consul are refused together

    def is_renewal(self, request: ReadSession) -> bool:
        """Whether a read of the session is the renewal under way (of a session without a TTL)."""
        return request is self._renewing

    def deadline_passed(self) -> bool:
        """Whether the deadline is really over (a renewal may have moved it while its timer was due)."""
        return self.life is not None and self._out.now >= self.life.deadline

    # -------------------------------------------------------------------------------------- inquiry

    def _hear(self, sign: Sign) -> None:
        """Note a sign, and send the request that is still needed for proof."""
        evidence = self._inquiry.hear(sign)
        if evidence is Evidence.PROVEN:
            self.owner.session_lost("session destroyed")
            return
        if evidence is not Evidence.REFUSED:
            self._reading = None  # the 404 that it followed counts no more
        elif self._reading is None and sign is Sign.RENEWAL_404:
            self._reading = self.read(lambda: None)
        if sign is Sign.UNSEEN:
            self.renew()

    def read(self, if_alive: Callable[[], None]) -> ReadSession:
        """Have the leader read the session in use.

        Args:
            if_alive: called if the session is found.

        Returns:
            The request.
        """
        life = self.current
        request = ReadSession(life.generation, life.session_id, timeout=self._timeout)
        self._out.ask(request, partial(self._was_read, request, if_alive))
        return request

    def _was_read(self, request: ReadSession, if_alive: Callable[[], None], outcome: SessionAnswer) -> None:
        after_404 = request is self._reading
        if after_404:
            self._reading = None
        if not isinstance(outcome, SessionRead):
            self._hear(Sign.READ_SILENT)
        elif outcome.session is None:
            self._hear(Sign.READ_EMPTY if after_404 else Sign.UNSEEN)
        else:
            self._hear(Sign.LIVES)
            if_alive()

    def lost(self, reason: LossReason) -> None:
        """The session in use is gone: somebody else has the proof."""
        self.owner.session_lost(reason)

    # ------------------------------------------------------------------------------------------ end

    def end(self) -> SessionLife:
        """End the session in use, with all its timers; its generation is over."""
        life = self.current
        life.deadline = float("-inf")  # each lease that refers to it is over
        self.life = None
        self.generation += 1
        self._ttl = self._options.ttl
        self._renewing = self._reading = None
        for name in (("renew",), ("renew", "again"), ("deadline",)):
            self._out.cancel(name)
        self._watch.end()
        self._out.end_generation()
        return life
