"""The life of a Locker, from the first session to the last stop: the actions of its table (core/machine.py)."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from ..config.options import LockerOptions
from ..errors import ConsulLockerError, SessionEnded, SessionUnavailable
from ..fsm import Fsm, Queued
from ..models import LossReason
from .acquire import Grants
from .attempts import Attempts
from .audit import Audit
from .calls import Call, LeaveHold, LockCall, ManyReleases, Release, ReleaseAll, ReleaseCall, Stop
from .denials import Denials
from .endings import Endings
from .leases import Leases
from .ledger import Ledger
from .machine import READY, STOPPED, TABLE, Actions
from .outage import Outage
from .pace import Pace
from .release import Releases
from .session import Session
from .step import Outbox
from .stop import Stopping

__all__ = ["Lifecycle"]


class Lifecycle:
    """What a Locker does in each state of its table, and what becomes of its session.

    Args:
        closed: whether nothing will begin the Locker again: calls that are refused are told so.
        options, outbox, outage, pace, session, attempts, stop, ledger, leases, audit, denials, releases, grants,
            endings: of the Locker.

    Attributes:
        fsm: the machine.
    """

    def __init__(
        self, options: LockerOptions, closed: Callable[[], bool], outbox: Outbox, outage: Outage, pace: Pace,
        session: Session, attempts: Attempts, stop: Stopping, ledger: Ledger, leases: Leases, audit: Audit,
        denials: Denials, releases: Releases, grants: Grants, endings: Endings
    ) -> None:  # fmt: skip
        self._options = options
        self._closed = closed
        self._out = outbox
        self._outage = outage
        self._pace = pace
        self._session = session
        self._attempts = attempts
        self._stop = stop
        self._ledger = ledger
        self._leases = leases
        self._audit = audit
        self._denials = denials
        self._releases = releases
        self._grants = grants
        self._endings = endings
        self._gave_up = False
        actions: Actions = self
        self.fsm = Fsm(TABLE, actions, begin=False, mutex=None)  # under the Locker's mutex, or on its loop
        self.fsm.on("transition", self._tell_transition)
        self.fsm.on("deferred", self._tell_deferred)

    # ----------------------------------------------------------------------- the actions of the table

    def create_session(self) -> None:
        """On entering acquiring."""
        self._session.create()

    def enter_ready(self) -> None:
        """On entering ready."""
        self._attempts.retries = 0
        self._session.begin()
        self._audit.begin()

    def enter_paused(self) -> None:
        """On entering paused: if Consul refuses a session for good, calls that wait for one are refused at once."""
        if self._session.refusal is not None:
            self._refuse_buffered()
        self.count_retry()

    def count_retry(self) -> None:
        """One more failed attempt: wait for the next, or give up."""
        if not self._attempts.again():
            self._gave_up = True
            self.fsm.handle("give_up")

    def leave_paused(self) -> None:
        """On leaving paused."""
        self._attempts.cancel()

    def enter_stopped(self) -> None:
        """On entering stopped: deferred calls are refused (the original never answers them)."""
        self._session.abandon_attempt()
        if not self._starting:
            self._refuse_buffered()
        if self._gave_up:
            self._out.warn(f"Locker {self._options.name!r}: retry limit exceeded, stopped")

    @property
    def _starting(self) -> bool:
        """Whether a start that came during a stop follows it. Other deferred calls came after that start."""
        return any(queued.input == "start" for queued in self.fsm.input_queue)

    def _refuse_buffered(self) -> None:
        buffered = [queued.args[0] for queued in self.fsm.input_queue if queued.input in ("lock", "release")]
        self.fsm.discard(lambda queued: queued.input in ("lock", "release"))
        for call in buffered:
            self._out.settle(call, error=self._refusal())

    def leave_stopped(self) -> None:
        """On leaving stopped: a new beginning, with all retries."""
        self._attempts.retries = 0
        self._attempts.fault = None
        self._session.cause = None
        self._gave_up = False

    def await_session(self, call: LockCall | ReleaseCall) -> None:
        """A call without a session: it waits for one, unless Consul refuses one for good."""
        if self._session.refusal is None:
            self._defer(call)
        else:
            self._out.settle(call, error=self._refusal())

    def _defer(self, call: LockCall | ReleaseCall) -> None:
        """A call waits for a session, at most until its ``outage_timeout`` is over."""
        if self._outage.ride(call, self._out.now):
            self.fsm.defer_until_transition(READY)
            self._attempts.hurry()
        else:
            self._out.settle(call, error=self._outage.error(call))

    def retry(self) -> None:
        """The pause before the next attempt is over."""
        self.fsm.handle("retry")

    def without_session(self) -> bool:
        """Whether there is no session now."""
        return self._session.life is None

    def waited_for(self) -> bool:
        """Whether calls wait for a session."""
        return any(queued.input in ("lock", "release") for queued in self.fsm.input_queue)

    def ride_over(self, call: Call) -> None:
        """The ``outage_timeout`` of a call is over: it is answered, and leaves nothing behind."""
        error = self._outage.error(call)
        if isinstance(call, LockCall) and self._session.life is not None:
            self._denials.fail(call, map(self._ledger.slot, call.ids), error)
        self._out.settle(call, error=error)
        self.withdraw(call)

    def withdraw(self, call: Call) -> None:
        """A settled call leaves the buffer, the line, and what was not sent yet."""
        self.fsm.discard(lambda queued: bool(queued.args) and queued.args[0] is call)
        if isinstance(call, LockCall):
            self._grants.abandon(call)
        if isinstance(call, Stop) and call in self._stop.calls:
            self._stop.calls.remove(call)
            if not self._stop.calls:
                self._stop.give_up()  # no call waits for it any more, but a stop is final

    def _refusal(self) -> ConsulLockerError:
        if self._session.refusal is not None:
            # A copy for each call: an error collects a traceback wherever it is raised.
            return copy(self._session.refusal)
        if self._gave_up:
            cause = self._attempts.fault or self._session.cause
            return SessionUnavailable(self._options.name, max(0, self._attempts.retries - 1), cause)
        return self._ended()

    def _ended(self) -> SessionEnded:
        why, cause = (" since it gave up", self._session.cause) if self._gave_up else ("", None)
        return SessionEnded(self._options.name, why, cause, self._closed())

    def refuse(self, call: Call) -> None:
        """Locks and releases in stopped."""
        self._out.settle(call, error=self._ended())

    def _refuse_all(self, calls: list[LockCall]) -> None:
        for call in calls:
            self.refuse(call)

    def release_early(self, call: ReleaseCall) -> None:
        """A release while there is no session: there is nothing to release, unless a lock stands before it."""
        if self._buffered_locks(call.id if isinstance(call, Release) else None):
            self._defer(call)
        else:
            self._out.settle(call, 0 if isinstance(call, ManyReleases) else True)

    def _buffered_locks(self, id: str | None) -> list[Queued]:
        return [
            queued
            for queued in self.fsm.input_queue
            if queued.input in ("lock", "release") and (id is None or id in queued.args[0].ids)
        ]

    def ask_lock(self, call: LockCall) -> None:
        """A lock in ready."""
        if call.settled:
            return  # its timeout was over while it was deferred
        if self._stop.under_way:
            self._call_while_stopping(call)
        else:
            self._grants.lock(call)

    def _call_while_stopping(self, call: LockCall | ReleaseCall) -> None:
        """A call during a stop: refused, or deferred if a start is to follow."""
        if self._starting:
            self._defer(call)
        else:
            self.refuse(call)

    def ask_release(self, call: ReleaseCall) -> None:
        """A release in ready."""
        if call.settled:
            return
        if isinstance(call, LeaveHold):
            self._releases.leave(call)  # during a stop too: leaving a hold raises nothing (rule 9)
        elif self._stop.under_way:
            self._call_while_stopping(call)
        elif isinstance(call, Release):
            self._releases.release(call)
        else:
            assert isinstance(call, ReleaseAll)  # there is no other kind
            self._releases.release_all(call)

    def start_again(self) -> None:
        """A start in ready: nothing to do, unless a stop is under way; then it begins anew after that."""
        if self._stop.under_way:
            self.fsm.defer_until_transition(STOPPED)

    def destroy_session(self) -> None:
        """A stop in ready: the session is destroyed, and so every lock freed."""
        if self._stop.under_way:
            self.fsm.discard(lambda queued: queued.input == "start")  # the last call decides: stop
            self._refuse_buffered()
        else:
            self._stop.begin()

    def give_back(self) -> bool:
        """A stop begins: calls that wait are refused, and places in queues are given back first."""
        calls, places = self._endings.stop()
        waits = bool(places)
        self._refuse_all(calls)
        leases = [place.lease for place in places if place.lease is not None and place.lease.live]
        if self._options.lock_delay > 0 or self._options.delete_on_release:
            # A destroy would leave the keys in their lock-delay, and in Consul; a release does not (measured).
            waits = True
            leases += self._ledger.leases.values()
        self._releases.leave(LeaveHold(leases))
        return waits

    def gives_back(self) -> bool:
        """Whether works are under way: releases, and locks that no call wants any more."""
        return any(self._ledger.works())

    def end_leases(self) -> None:
        """A stop destroys the session."""
        self._leases.end_all("stopped")
        self._audit.rest()

    def stop_over(self, confirmed: bool) -> None:
        """The session counts as ended from now on, confirmed or not."""
        life = self._session.current
        self._refuse_all(self._endings.end_generation("stopped", released=confirmed))
        self._end_session("stopped")
        if not confirmed:
            self._session.destroys.add(life.session_id)
        calls, self._stop.calls = self._stop.calls, []
        self.fsm.handle("session_destroyed")
        for call in calls:
            self._out.settle(call)

    # ------------------------------------------------------------------- what becomes of the session

    def session_created(self) -> None:
        """The attempt under way brought a session."""
        self._out.emit("session_created", session_id=self._session.current.session_id)
        self.fsm.handle("session_created")

    def session_failed(self, refused: bool) -> None:
        """The attempt under way failed; ``refused``: for a lasting reason."""
        limit = self._options.max_retries
        # Of an outage the log says that it began and that it is over; and what brings the Locker nearer to its end.
        if self._attempts.counts and (limit is not None or self._outage.since is None):
            count = f"{self._attempts.retries + 1}" + (f" of at most {limit + 1}" if limit is not None else "")
            self._out.warn(f"Locker {self._options.name!r}: no session, attempt {count}: {self._session.cause}")
        self.fsm.handle("session_refused" if refused else "session_failed")

    def renewal_refused(self) -> None:
        """Renewals go first (rule 1). In a stop they do not: the session is about to end."""
        if not self._stop.under_way:
            self._pace.hold_for_renewal()

    def renewal_answered(self) -> None:
        """What waited goes on."""
        self._pace.renewed()

    def snapshot_restored(self) -> None:
        """There is a sign of a restored snapshot."""
        self._audit.sweep()

    def _end_session(self, reason: LossReason) -> None:
        life = self._session.end()
        self._out.emit("session_ended", session_id=life.session_id, reason=reason)

    def give_up_session(self, reason: LossReason) -> list[LockCall]:
        """Give up the session in use: its locks are lost, and it is destroyed in the background.

        It may still exist in Consul. If it did, its locks would be denied to the next session.

        Returns:
            The calls that still want a lock: they are to be handled again (`repeat`).
        """
        life = self._session.current
        calls = self._endings.end_generation(reason)
        self._end_session(reason)
        self._session.destroys.add(life.session_id)
        return calls

    def session_lost(self, reason: LossReason) -> None:
        """The session is lost: a new one is created, and calls that still want a lock are served by it."""
        if self._stop.under_way:
            self._stop.finish(confirmed=reason == "session destroyed")
            return
        self._out.warn(f"Locker {self._options.name!r}: session {self._session.current.session_id} is lost ({reason})")
        calls = self.give_up_session(reason)
        self.fsm.handle("session_lost")
        self.repeat(calls)

    def repeat(self, calls: list[LockCall]) -> None:
        """Calls whose session is over come again, in their order; *stopped*, they are refused."""
        for call in calls:
            if self.fsm.state == STOPPED:
                self._out.settle(call, error=self._refusal())  # they came before the Locker gave up
            else:
                self.fsm.handle("lock", call)

    # ---------------------------------------------------------------------------------- signals

    def _tell_transition(self, data: dict[str, Any]) -> None:
        action: str = data["action"]
        self._out.emit(
            "state_changed",
            from_state=data["from_state"],
            to_state=data["to_state"],
            input=action.rpartition(".")[2] or None,
        )

    def _tell_deferred(self, data: dict[str, Any]) -> None:
        for call in data["args"]:  # a deferred start has none
            for id in call.ids:
                self._out.emit("input_deferred", input=data["input"], id=id, until=data["until"])
