"""The life of a Locker's session: generations, renewal, the deadline, retries, and the end.

The rules (docs/safety.rst, rules 1 to 3): a session has a TTL and is renewed long before it is
over; failing to renew is "unknown", not "lost", until the deadline passes or Consul says 404; the
deadline counts from the *start* of the last successful renewal, since the answer may have taken long.
Consul itself ends a session only after twice its TTL (measured), so the client's deadline is the
earlier one but for the faults that docs/safety.rst names.
"""

from __future__ import annotations

from .messages import (
    CancelRequest,
    CreateSession,
    DestroySession,
    Failed,
    Gone,
    Outcome,
    ReadSession,
    Renewed,
    RenewSession,
    SessionCreated,
    SessionRead,
    Watch,
)
from .outbox import Outbox
from ..config import LockerOptions
from ..errors import ConfigurationError
from ..types import SessionLife, seconds

__all__ = ["FIRST_PAUSE", "Session"]

#: The first pause between attempts to create a session, in seconds; it doubles up to ``retry_interval``.
#: Short, since most failures are an agent that restarts (1 to 4 s measured for a new leader).
FIRST_PAUSE = 0.5
#: A renewal is due when this part of the TTL has passed since the last one began. Three attempts fit
#: before the deadline; Consul's own tools renew at a half, which leaves one.
RENEW_AFTER = 1 / 3
#: One attempt to renew may take at most this part of the TTL, so that a hanging one leaves time for
#: another on a fresh connection.
RENEW_ATTEMPT = 1 / 6
#: The pause after a failed renewal, as a part of the TTL: no hot loop against an agent that refuses.
RENEW_PAUSE = 1 / 30
#: A session without a TTL is read this often, in seconds, and trusted for this long after a good read.
READ_EVERY = 5.0
TRUST_AFTER_READ = 15.0
#: How long Consul may hold a watch on the session, in seconds: its own default (doc). An event wakes it in
#: 3 ms (measured), so the length only decides how often an idle one is renewed.
WATCH_WAIT = 300.0
#: A watch that took this part of its wait was idle; Consul never answers one before its wait is over unless something
#: happened, so the rest is for clocks that differ.
IDLE = 0.99
#: The first and the longest pause before a failed destroy is tried again, in seconds.
DESTROY_PAUSE = 1.0
DESTROY_PAUSE_MAX = 60.0


class Session:
    """The session of a Locker, and the attempts to get one.

    Attributes:
        generation: the number of the attempt under way or in use; answers of older ones change nothing.
        life: the session in use, or None.
        retries: failed attempts since the Locker was last ready; what `Locker.reboot_count` shows.
        cause: the error of the last failed attempt.
    """

    def __init__(self, options: LockerOptions, outbox: Outbox, timeout: float) -> None:
        self._options = options
        self._out = outbox
        self._timeout = timeout
        self.generation = 0
        self.life: SessionLife | None = None
        self.retries = 0
        self.cause: BaseException | None = None
        self._ttl = options.ttl
        self._asked = 0.0  # when the attempt under way began
        self._renewing: RenewSession | ReadSession | None = None
        self._renewing_since = 0.0
        self._watch: Watch | None = None
        self._watch_since = 0.0  # when it was sent
        self._watch_failures = 0
        self._looked = False  # whether the watch of this session was ever answered
        self._node = ""  # where the session is, once a watch has said so
        self._destroying: dict[str, int] = {}  # session id -> attempts so far
        self._latest: str | None = None  # the session that was created last, in use or not

    @property
    def current(self) -> SessionLife:
        """The session in use, for what happens only while there is one: in ready, and for answers of its generation."""
        assert self.life is not None
        return self.life

    # ------------------------------------------------------------------------------------ creation

    def create(self) -> None:
        """Begin a new generation: ask Consul for a session."""
        options = self._options
        self.generation += 1
        self._asked = self._out.now
        self._out.send(
            CreateSession(
                self.generation,
                options.name,
                options.ttl,
                options.lock_delay,
                options.behavior,
                options.session_checks,
                timeout=self._timeout,
            )
        )

    def abandon_attempt(self) -> None:
        """The attempt under way is not wanted any more; a session that it brings will be destroyed."""
        self.generation += 1

    def created(self, request: CreateSession, outcome: Outcome) -> str:
        """An attempt was answered.

        Returns:
            ``"created"``, ``"failed"``, or ``"late"`` for an attempt that is not wanted any more.
        """
        late = request.generation != self.generation or self.life is not None
        if isinstance(outcome, SessionCreated):
            self._latest = outcome.session_id
            if late:
                if self.life is None or self.life.session_id != outcome.session_id:  # not the same answer again
                    self.destroy(outcome.session_id)
                return "late"
            trust = self._ttl if self._ttl is not None else TRUST_AFTER_READ
            self.life = SessionLife(self.generation, outcome.session_id, self._asked + trust)
            return "created"
        if late:
            return "late"
        assert isinstance(outcome, Failed)  # requests.py answers a CreateSession with nothing else
        self.cause = outcome.error
        return "failed"

    def pause(self) -> float | None:
        """Count a failed attempt.

        Returns:
            How long to wait before the next one, in seconds; None when the retries are exhausted.
        """
        self.retries += 1
        limit = self._options.max_retries
        if limit is not None and self.retries > limit:
            return None
        interval = self._options.retry_interval
        if callable(interval):
            length = seconds("retry_interval", interval(self.retries))
            if length is None:
                raise ConfigurationError("retry_interval", None, "a callable that returns seconds, 0 or more")
            return length
        # Full pauses would bring all lockers of a site back at the same moment, so up to half is jitter.
        longest = min(interval, FIRST_PAUSE * 2.0 ** min(self.retries - 1, 60))
        return longest * (1.0 - self._out.random() / 2.0)

    # -------------------------------------------------------------------------------------- renewal

    def begin(self) -> None:
        """The session is in use: keep it alive, and notice its end."""
        self._renewing = None
        self._watch_failures = 0
        self._looked = False
        self._node = ""
        self._schedule(self._asked)
        self._out.timer(("deadline",), self.current.deadline)
        self._watch_again(0)

    def _schedule(self, since: float) -> None:
        every = READ_EVERY if self._ttl is None else self._ttl * RENEW_AFTER
        self._out.timer(("renew",), since + every)

    def renew(self, fresh: bool = False) -> None:
        """The renewal is due."""
        if self.life is None or self._renewing is not None:
            return
        self._renewing_since = self._out.now
        if self._ttl is None:
            self._renewing = ReadSession(
                self.generation, self.life.session_id, timeout=min(self._timeout, READ_EVERY / 2)
            )
        else:
            attempt = min(self._timeout, self._ttl * RENEW_ATTEMPT)
            self._renewing = RenewSession(self.generation, self.life.session_id, fresh, timeout=attempt)
        self._out.send(self._renewing)

    def renewed(self, request: RenewSession | ReadSession, outcome: Outcome) -> str | None:
        """A renewal was answered. Returns the reason when the session is lost, else None."""
        if request is not self._renewing or self.life is None:
            return None  # of an older generation
        self._renewing = None
        if isinstance(outcome, Gone) or (isinstance(outcome, SessionRead) and outcome.session is None):
            return "session destroyed"
        if isinstance(outcome, Failed):
            self._out.count("renewals_failed")
            pause = (READ_EVERY if self._ttl is None else self._ttl) * RENEW_PAUSE
            self._out.timer(("renew", "again"), self._out.now + pause)
            return None
        if isinstance(outcome, Renewed):
            if outcome.ttl is not None and self._ttl is not None:
                self._ttl = outcome.ttl  # what Consul will hold us to
            trust = self._ttl if self._ttl is not None else TRUST_AFTER_READ
        else:
            trust = TRUST_AFTER_READ
        self._out.count("renewals")
        self.life.deadline = self._renewing_since + trust
        self._schedule(self._renewing_since)
        self._out.timer(("deadline",), self.life.deadline)
        return None

    def is_renewal(self, request: ReadSession) -> bool:
        """Whether a read of the session is the renewal under way (of a session without a TTL)."""
        return request is self._renewing

    def deadline_passed(self) -> bool:
        """Whether the deadline is really over (a renewal may have moved it while its timer was due)."""
        return self.life is not None and self._out.now >= self.life.deadline

    # ---------------------------------------------------------------------------------------- watch

    def _watch_again(self, index: int) -> None:
        self._watch_since = self._out.now
        self._watch = Watch(self.generation, "session", self.current.session_id, index, WATCH_WAIT, self._node)
        self._out.send(self._watch)

    def watched(self, request: Watch, outcome: Outcome) -> str | None:
        """The watch on the session was answered.

        Returns:
            ``"confirm"`` when the session seems gone; ``"sweep"`` when the query came back with nothing
            new before its wait was over: that is what a restored snapshot does to it.
        """
        if request is not self._watch or self.life is None:
            return None
        self._watch = None
        if isinstance(outcome, SessionRead):
            self._watch_failures = 0
            if outcome.session is None:
                return "confirm"
            self._node = outcome.session.node
            if outcome.index == request.index and self._out.now - self._watch_since >= request.wait * IDLE:
                self._watch_again(outcome.index)  # its wait was over, and nothing had happened
                return None
            # An index that does not rise may mean a restored snapshot, in which the present one may be lower (doc,
            # measured): begin at nought again.
            self._watch_again(outcome.index if outcome.index > request.index else 0)
            # A look at the present state that is not the first may stand for a query that was broken off.
            looked_again, self._looked = self._looked and request.index == 0, True
            return "sweep" if looked_again or 0 < outcome.index <= request.index else None
        self._watch_failures += 1
        pause = min(2.0 ** min(self._watch_failures, 10) / 4, READ_EVERY)
        self._out.timer(("watch", "session"), self._out.now + pause * (0.5 + self._out.random() / 2))
        return None

    def rewatch(self) -> None:
        """Watch again, after a pause."""
        if self.life is not None and self._watch is None:
            self._watch_again(0)

    # ------------------------------------------------------------------------------------------ end

    def end(self) -> SessionLife:
        """Forget the session in use, with all its timers; its generation is over."""
        life = self.current
        self._forget()
        return life

    def _forget(self) -> None:
        if self.life is not None:
            self.life.deadline = float("-inf")  # whatever lease still points to it is over
            self.life = None
        self.generation += 1
        self._ttl = self._options.ttl
        self._renewing = None
        for name in (("renew",), ("renew", "again"), ("deadline",), ("watch", "session")):
            self._out.cancel(name)
        if self._watch is not None:
            self._out.send(CancelRequest(self._watch))
            self._watch = None

    def mend(self) -> None:
        """After a step that was broken off: there is no session, and none that was may live on in Consul."""
        self._forget()
        if self._latest is not None:
            self._destroying.setdefault(self._latest, 0)
        for session_id in self._destroying:
            self.destroy_again(session_id)

    def destroy(self, session_id: str) -> None:
        """Destroy a session in the background, again and again until Consul has answered."""
        if session_id not in self._destroying:
            self._destroying[session_id] = 0
            self.destroy_again(session_id)

    def destroy_again(self, session_id: str) -> None:
        """One attempt to destroy a session in the background."""
        self._out.send(DestroySession(self.generation, session_id, timeout=self._timeout))

    def destroyed(self, request: DestroySession, outcome: Outcome) -> None:
        """A destroy in the background was answered; a failed one is tried again after a pause."""
        attempts = self._destroying.get(request.session_id)
        if attempts is None:
            return
        if not isinstance(outcome, Failed):
            del self._destroying[request.session_id]
            return
        self._destroying[request.session_id] = attempts + 1
        pause = min(DESTROY_PAUSE_MAX, DESTROY_PAUSE * 2.0 ** min(attempts, 10))
        self._out.timer(("destroy", request.session_id), self._out.now + pause)
